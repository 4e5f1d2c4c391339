"""Imports point one way, as the design has it; read from the source, so imports inside functions count too."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lit_gpt"
FILES = sorted(PACKAGE.rglob("*.py"))

# Modules that import no other module of the package than these, so any may import them. config/ is listed by its files:
# the lower ones are for all, the upper ones read checkpoints or know the data.
LEAVES = {
    "atomic_io", "checkpoint.contents", "checkpoint.manifest", "errors", "signals",
    "config.class_paths", "config.factories", "config.help_text", "config.registry", "config.safe_parsing",
    "config.schema", "config.trust", "config.user_paths", "config.yaml_values",
}  # fmt: skip
# What each part may import of the package, besides itself and the leaves.
MAY = {
    "nn": set(),
    "model": {"nn"},
    "cost": {"nn", "model"},
    "data": set(),
    "generate": {"nn", "model", "cost", "data"},  # data in text_generator.py only, checked apart
    "hub": {"nn", "model", "cost", "checkpoint", "data"},
    "checkpoint": {"nn", "model", "cost", "generate", "data"},
    "config": set(),
    "config.limits": set(),
    "config.yaml_files": set(),
    "config.command_line": {"config.yaml_files"},
    "config.differences": {"config.yaml_files"},
    "config.errors": {"config.yaml_files"},
    "config.validation": {"config.command_line", "config.errors", "config.yaml_files"},
    "config.base_checkpoint": {"config.command_line", "config.differences", "config.yaml_files", "checkpoint", "data"},
    "train": {"nn", "model", "cost", "generate", "hub", "checkpoint", "data"},
}
LOW = set(MAY)
MAY["cli"] = LOW
MAY["commands"] = LOW | {"cli"}
MAY["__main__"] = set(MAY)
MAY["__init__"] = set(MAY)
LIGHTNING = ("train/", "data/module.py", "cli.py", "commands/")


def part_of(file: Path) -> str:
    """The folder or file right below the package; a file in a folder where it is listed by itself."""
    return part_of_name(file.relative_to(PACKAGE).with_suffix("").as_posix().replace("/", "."))


def part_of_name(name: str) -> str:
    """The part to which a module belongs, by its dotted name below the package."""
    first, *rest = name.split(".")
    dotted = ".".join([first, *rest[:1]])
    return dotted if dotted in MAY or dotted in LEAVES else first


def imported(file: Path) -> set[str]:
    """Full names of all modules that a file imports at run time, wherever in it."""
    names: set[str] = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    only_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in only_types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import; write it in full"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_one_way(file: Path) -> None:
    part, where = part_of(file), file.relative_to(PACKAGE).as_posix()
    assert part in MAY or part in LEAVES, f"{part} has no place in the order of layers"
    allowed = MAY.get(part, set()) | LEAVES | {part}
    for name in imported(file):
        root, *rest = name.split(".")
        if root == "lit_gpt" and rest:
            other = part_of_name(".".join(rest))
            path = PACKAGE / other.replace(".", "/")
            assert other in allowed or not path.exists() and not path.with_suffix(".py").exists(), (
                f"{where} may not import {name}"
            )
        if root in ("lightning", "pytorch_lightning"):
            assert where.startswith(LIGHTNING), f"{where} may not import lightning"
        if part == "generate" and name.startswith("lit_gpt.data"):
            assert file.name == "text_generator.py", "of generate/ only text_generator.py may know data"


@pytest.mark.parametrize("file", [f for f in FILES if part_of(f) in ("nn", "model")], ids=lambda file: file.name)
def test_nets_need_torch_alone(file: Path) -> None:
    import sys

    for name in imported(file):
        root = name.partition(".")[0]
        assert root in {"torch", "lit_gpt", *sys.stdlib_module_names}, f"{file.name} imports {name}"
        assert root != "lit_gpt" or name.split(".")[1] in ("nn", "model", "errors"), f"{file.name} imports {name}"


def module_of(name: str) -> str | None:
    """The file of the package that a full name is defined in or stands for, or None."""
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        path = PACKAGE.parent.joinpath(*parts[:size])
        if path.with_suffix(".py").exists() or (path / "__init__.py").exists():
            return ".".join(parts[:size])
    return None


def test_no_import_circles() -> None:
    """Imports within functions count, those for type checkers do not; a package's `__init__` is a module like any."""
    graph = {}
    for file in FILES:
        name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        graph[name] = {module_of(other) for other in imported(file)} - {None, name, "lit_gpt"}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"modules import each other: {' <- '.join(error.args[1])}")


def test_imports_in_functions_count_and_those_for_types_do_not(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lightning\n"
        "def f():\n    from lit_gpt.cli import build\n"
    )
    assert imported(file) == {"typing.TYPE_CHECKING", "lit_gpt.cli.build"}
