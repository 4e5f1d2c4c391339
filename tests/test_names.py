"""The field's names: each is found where its code is, and none of the retired keys comes back.

The table of names in docs/architecture.md says for each term of the field how lit_gpt, transformers and nanoGPT call
it and which file holds it; docs/architecture.md and CONTRIBUTING.md name places as `file.py:function`.
"""

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import lit_gpt.data
import lit_gpt.nn
from lit_gpt.data.module import TokenData
from lit_gpt.model import GPT
from lit_gpt.train import schedules
from lit_gpt.train.module import LitGPT

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

# Keys that the project used before it took the field's names. A class is named where other classes may have the key.
RETIRED: dict[str, set[str]] = {
    "TokenData": {"form", "rows", "order"},
    "LitGPT": {"groups"},
    "GPT": {"tie", "recompute", "softcap"},
    "SelfAttention": {"softcap"},
    "MoE": {"balance", "z_loss", "normalise"},
    "RoPE": {"turned", "fraction"},
    "Length": {"least", "most"},
    "BPE": {"learns_from"},
    "WordPiece": {"learns_from"},
    "SentencePiece": {"learns_from"},
    **dict.fromkeys(
        ("WarmupCosine", "WarmupLinear", "WarmupStep", "WarmupExponential", "WarmupStableDecay"),
        {"warmup", "floor", "decay", "halving", "drops"},
    ),
}
# The same as they would be typed.
RETIRED_PATHS = (
    "data.form", "data.rows", "data.order", "model.groups", "model.net.tie", "model.net.recompute", "model.net.softcap",
    "attention.softcap", "best.keep", "last.keep", "last.every", "schedule.warmup", "schedule.floor", "schedule.decay",
    "schedule.halving", "schedule.drops", "feedforward.balance", "feedforward.z_loss", "feedforward.normalise",
    "position.fraction", "position.turned", "tokenizer.learns_from",
)  # fmt: skip
BRITISH = re.compile(
    r"\b\w*(?:normalis|initialis|tokenis|optimis|quantis|serialis|recognis|organis|summaris|minimis|maximis)\w*|\blearnt"
    r"|\bcolour|\bbehaviour|\bneighbour|\bfavour|\blicence\b|\bmodell|\blabell",
    re.IGNORECASE,
)


def classes() -> dict[str, type]:
    """All public classes whose constructors are keys of the configuration."""
    found: dict[str, type] = {"GPT": GPT, "TokenData": TokenData, "LitGPT": LitGPT}
    found |= {name: getattr(lit_gpt.data, name) for name in lit_gpt.data.__all__}
    return found | {n: c for module in (lit_gpt.nn, schedules) for n, c in vars(module).items() if isinstance(c, type)}


@pytest.mark.parametrize("name", RETIRED)
def test_constructors_have_no_retired_key(name: str) -> None:
    assert not RETIRED[name] & set(inspect.signature(classes()[name]).parameters)


def keys(value: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of a YAML value; `init_args` and `dict_kwargs` are left out, as on the command line."""
    if isinstance(value, dict):
        for key, inner in value.items():
            path = prefix if key in ("init_args", "dict_kwargs") else f"{prefix}.{key}".lstrip(".")
            yield path
            yield from keys(inner, path)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner, prefix)


@pytest.mark.parametrize("file", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda file: file.name)
def test_configs_have_no_retired_key(file: Path) -> None:
    typed = set(keys(yaml.safe_load(file.read_text(encoding="utf-8"))))
    assert not typed & set(RETIRED_PATHS)


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_code_in_pages_has_no_retired_key(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```.*?^```", text, re.M | re.S) + re.findall(r"`[^`\n]+`", text))
    assert [path for path in RETIRED_PATHS if re.search(rf"(?<![\w.]){re.escape(path)}(?![\w])", code)] == []
    for block in re.findall(r"^```yaml\n(.*?)^```", text, re.M | re.S):
        assert not set(keys(yaml.safe_load(block))) & set(RETIRED_PATHS)


def spelled() -> list[Path]:
    files = [*(ROOT / "lit_gpt").rglob("*.py"), *(ROOT / "configs").rglob("*.yaml"), ROOT / "README.md", *PAGES]
    return sorted(files)


def test_spelling_is_american() -> None:
    found = {
        f"{file.relative_to(ROOT)}:{number}": match[0]
        for file in spelled()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if (match := BRITISH.search(line))
    }
    assert found == {}


def table_of_names() -> list[tuple[str, str]]:
    """Each term of the field and the file that the table in docs/architecture.md names for it."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|`]+) \|.*\| `([\w/]+\.py)` \|$", text, re.M)
    return [(term.strip(), file) for term, file in rows]


def test_the_table_of_names_is_read() -> None:
    terms = {term for term, _ in table_of_names()}
    assert len(terms) >= 40
    assert {"gradient accumulation", "KV cache", "loss mask", "sequence packing", "learning rate"} <= terms


@pytest.mark.parametrize(("term", "file"), table_of_names(), ids=[term for term, _ in table_of_names()])
def test_terms_are_found_where_their_code_is(term: str, file: str) -> None:
    text = re.sub(r"\s+", " ", (ROOT / "lit_gpt" / file).read_text(encoding="utf-8")).lower()
    assert term.lower() in text, f"{file} does not say {term!r}"


@cache
def symbols(file: Path) -> set[str]:
    """Names of the functions, classes, methods and module variables of a file; `Class.method` for methods."""
    found: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                found.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(prefix + target.id for target in targets if isinstance(target, ast.Name))

    visit(ast.parse(file.read_text(encoding="utf-8")).body, "")
    return found


def places() -> list[tuple[str, str, str]]:
    """Each `file.py:name` of the pages, with the page."""
    return [
        (page.name, file, name)
        for page in PAGES
        for file, name in re.findall(r"`([\w/]+\.py):([\w.]+)`", page.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("page", "file", "name"), places())
def test_places_named_in_pages_exist(page: str, file: str, name: str) -> None:
    path = next((root / file for root in (ROOT / "lit_gpt", ROOT) if (root / file).exists()), None)
    assert path is not None, f"{page} names {file}, which does not exist"
    assert name in symbols(path), f"{page} names {file}:{name}, which does not exist"
