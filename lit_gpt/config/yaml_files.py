"""YAML config files: `base:` inheritance, the line of each key, dotted keys."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lit_gpt.config import user_paths
from lit_gpt.config.yaml_values import Loader
from lit_gpt.errors import UserError


@dataclass(frozen=True)
class ConfigFile:
    """What one file (or one text given in its place) says: nested values, and the line of each dotted key."""

    name: str
    values: dict[str, Any]
    lines: dict[str, int]
    node: yaml.MappingNode

    def only(self, *keys: str) -> "ConfigFile":
        """The same file with these dotted keys alone."""
        return ConfigFile(self.name, self.values, self.lines, _only(self.node, [key.split(".") for key in keys]))


def _only(node: yaml.MappingNode, paths: list[list[str]]) -> yaml.MappingNode:
    kept = []
    for key, value in node.value:
        below = [path[1:] for path in paths if path[0] == key.value]
        if [] in below:
            kept.append((key, value))
        elif below and isinstance(value, yaml.MappingNode):
            kept.append((key, _only(value, below)))
    return yaml.MappingNode(node.tag, kept, node.start_mark, node.end_mark)


def load_yaml(text: str) -> Any:
    """A YAML text as plain values."""
    return yaml.load(text, Loader)


def read(file: str | Path) -> list[ConfigFile]:
    """A settings file after those that it is based on: later ones override earlier ones.

    Raises:
        UserError: missing or empty file, invalid YAML (with its line), a key given twice, a circle of `base:`.
    """
    return list(_chain(Path(file), ()))


def _chain(file: Path, above: tuple[Path, ...]) -> Iterator[ConfigFile]:
    where = file.resolve()
    if where in above:
        circle = " -> ".join(path.name for path in (*above[above.index(where) :], where))
        raise UserError(f"{file}: base goes round in a circle: {circle}")
    settings = parse(_text(file, above), str(file))
    base = settings.values.pop("base", None)
    settings.node.value = [(key, value) for key, value in settings.node.value if key.value != "base"]
    if base is not None:
        if not isinstance(base, (str, list)):
            raise UserError(f"{file}:{settings.lines['base']}: base must be the path of a YAML file, got {base!r}")
        for one in [base] if isinstance(base, str) else base:
            yield from _chain(file.parent / str(one), (*above, where))
    yield settings


def _text(file: Path, above: tuple[Path, ...]) -> str:
    reason = f" (base of {above[-1].name})" if above else ""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = _nearest_file(file)
        raise UserError(f"config file {file} does not exist{reason}{near}") from None
    except IsADirectoryError:
        raise UserError(f"config {file} is a folder{reason}; name a YAML file in it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"config file {file} is not UTF-8 text (byte {error.start}){reason}") from None


def _nearest_file(file: Path) -> str:
    folder = file.parent
    names = [path.name for path in folder.glob("*.y*ml")] if folder.is_dir() else []
    near = difflib.get_close_matches(file.name, names, 1, 0.5)
    return f"; did you mean {folder / near[0]}?" if near else ""


def parse(text: str, name: str) -> ConfigFile:
    """A YAML text as ConfigFile; `name` stands for it in messages."""
    lines: dict[str, int] = {}
    try:
        node = yaml.compose(text, Loader)
        _number(node, "", lines, name)
        values = load_yaml(text)
    except UserError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{name}{line}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:  # of a value that its tag does not fit: !!int a
        raise UserError(f"{name}: not valid YAML: {error}") from None
    if node is None or values is None:
        raise UserError(f"{name}: the file is empty; it should hold keys such as model, data, trainer")
    if not isinstance(values, dict) or not isinstance(node, yaml.MappingNode):
        raise UserError(f"{name}: expected keys with values, found {type(values).__name__}")
    user_paths.in_node(node)
    return ConfigFile(name, user_paths.in_values(values), lines, node)


def _number(node: yaml.Node | None, prefix: str, lines: dict[str, int], name: str) -> None:
    """Notes the line of every key; refuses one given twice, of which YAML would silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # told when the values are made
            full, line = f"{prefix}{key.value}", key.start_mark.line + 1
            if key.value in seen and key.value != "<<":
                raise UserError(f"{name}:{line}: key {full!r} is given twice")
            seen.add(key.value)
            lines.setdefault(full, line)
            _number(value, f"{full}.", lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _number(value, f"{prefix}{index}.", lines, name)


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as dotted keys: {"a": {"b": 1}} -> {"a.b": 1}. Lists stay whole."""
    if not isinstance(values, dict) or not values:
        return {prefix: values} if prefix else {}
    joined: dict[str, Any] = {}
    for key, value in values.items():
        joined |= flat(value, f"{prefix}.{key}" if prefix else str(key))
    return joined


def short(key: str) -> str:
    """A dotted key as people type it: without `init_args`; `a.class_path` is `a`."""
    parts = [part for part in key.split(".") if part != "init_args"]
    return ".".join(parts[:-1] if parts[-1] == "class_path" and len(parts) > 1 else parts)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name most like a word, or None if none is like it."""
    by_lower = {one.lower(): one for one in known}
    near = difflib.get_close_matches(word.lower(), by_lower, 1, 0.6)
    return by_lower[near[0]] if near else None
