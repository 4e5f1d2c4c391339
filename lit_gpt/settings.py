"""YAML settings files and typed words: `base:` inheritance, line numbers, dotted keys.

Knows YAML; of the keys themselves it knows only those of the sources of text (lit_gpt.cli knows all).
"""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lit_gpt import user_paths
from lit_gpt.class_paths import refuse_functions, typed_trust
from lit_gpt.errors import UserError
from lit_gpt.typed_values import Loader, dump_yaml, flow


@dataclass(frozen=True)
class Settings:
    """What one file (or one text given in its place) says: nested values, and the line of each dotted key."""

    name: str
    values: dict[str, Any]
    lines: dict[str, int]
    node: yaml.MappingNode

    def argument(self) -> str:
        """The values as one argument for `--config`, numbers as they are spelled."""
        there = [(key, value) for key, value in self.node.value if key.value in self.values]
        return flow(yaml.MappingNode(self.node.tag, there))


def load_yaml(text: str) -> Any:
    """A YAML text as plain values."""
    return yaml.load(text, Loader)


def read(file: str | Path) -> list[Settings]:
    """A settings file after those that it is based on: later ones override earlier ones.

    Raises:
        UserError: missing or empty file, invalid YAML (with its line), a key given twice, a circle of `base:`.
    """
    return list(_chain(Path(file), ()))


def _chain(file: Path, above: tuple[Path, ...]) -> Iterator[Settings]:
    where = file.resolve()
    if where in above:
        circle = " -> ".join(path.name for path in (*above[above.index(where) :], where))
        raise UserError(f"{file}: base goes round in a circle: {circle}")
    settings = parse(_text(file, above), str(file))
    base = settings.values.pop("base", None)
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


def parse(text: str, name: str) -> Settings:
    """A YAML text as Settings; `name` stands for it in messages."""
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
    return Settings(name, user_paths.in_values(values), lines, node)


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


def origin(key: str, layers: Sequence[Settings]) -> str | None:
    """`file:line` of the last file that gives a key (typed form, without `init_args`), or None."""
    for settings in reversed(layers):
        for full, line in settings.lines.items():
            if short(full) == key:
                return f"{settings.name}:{line}"
    return None


class Typed:
    """What the user typed for a command: files and words, each file standing where it was named, after its bases.

    Args:
        words: The command line after the command's name. `--config FILE` is replaced by the file's values.
        values: Settings given as a dict in place of a file, below all others.
    """

    def __init__(self, words: Sequence[str], values: dict[str, Any] | None = None) -> None:
        self.argv = user_paths.in_words(words)
        self.layers: list[Settings] = []
        self.files: list[Path] = []
        self.words: list[str] = []
        if values is not None:
            plain = json.loads(json.dumps(values, default=str))
            self._add([parse(dump_yaml(plain, default_flow_style=True, width=float("inf")), "the given dict")])
        rest = iter(self.argv)
        for word in rest:
            option, equals, value = word.partition("=")
            if option in ("--config", "-c"):
                file = Path(value if equals else next(rest, ""))
                if not str(file) or str(file) == ".":
                    raise UserError("--config needs the path of a YAML file")
                self.files.append(file)
                self._add(read(file))
            else:
                self.words.append(word)
        #: Packages whose classes the user named. A file that is added later adds nothing to it.
        self.trust = typed_trust(self.argv, [settings.values for settings in self.layers])
        for settings in self.layers:
            refuse_functions(settings.values, settings.name)

    def add_file(self, file: Path, check: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Puts a settings file that the user did not name below all that was typed.

        Args:
            file: Such as a run folder's config.yaml.
            check: Is given its values, raises where they are not to be used, and returns what goes before them.
        """
        below = read(file)
        for settings in list(below):
            instead = check(settings.values)
            if instead:
                below.append(parse(dump_yaml(instead, default_flow_style=True, width=float("inf")), str(file)))
        above, self.layers = self.layers, []
        words, self.words = self.words, []
        self._add(below)
        self.layers += above
        self.words += words

    def _add(self, layers: Iterable[Settings]) -> None:
        for settings in layers:
            self.layers.append(settings)
            self.words += ["--config", settings.argument()]

    def get(self, key: str) -> Any:
        """The value typed for a dotted key, the command line's before the files'; None where it was not typed.

        A key without a value, as `--resume`, counts as True.
        """
        for index in range(len(self.argv) - 1, -1, -1):
            option, equals, value = self.argv[index].partition("=")
            if option == f"--{key}":
                after = self.argv[index + 1] if index + 1 < len(self.argv) else "--"
                return value if equals else True if after.startswith("--") else after
        for settings in reversed(self.layers):
            found = {short(full): value for full, value in flat(settings.values).items()}
            if key in found:
                return found[key]
        return None

    def has(self, key: str) -> bool:
        """Whether a key, or one below it, was typed with a value."""
        words = (word.partition("=")[0] for word in self.argv)
        if any(word == f"--{key}" or word.startswith(f"--{key}.") for word in words):
            return True
        typed = (short(full) for settings in self.layers for full in settings.lines)
        return any(one == key or one.startswith(f"{key}.") for one in typed)

    def on_line(self, key: str) -> bool:
        """Whether exactly this key was typed on the command line."""
        return any(word.partition("=")[0] == f"--{key}" for word in self.argv)

    @property
    def name(self) -> str | None:
        """What the first settings file is called, without its ending."""
        return self.files[0].stem if self.files else None


#: Which source reads a file of each ending; TextFiles reads all others.
_READERS = {".jsonl": "JsonLines", ".ndjson": "JsonLines", ".parquet": "Parquet", ".csv": "Csv", ".tsv": "Csv"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def with_text_files(typed: Typed, *below: dict[str, Any]) -> list[str]:
    """The typed words, with TextFiles named wherever only the paths of a text were typed.

    So `--data.source.paths my_text/` is enough, also over a file or checkpoint that names StandardLibrary, which has no
    paths; files of records, by their endings, get the source that reads them. A class that was typed, or any other that
    a file names, stays.

    Args:
        typed: What was typed.
        below: Nested settings that lie below it.
    """
    words = list(typed.words)
    for key in ("data.source", "data.val_source", "data.test_source"):
        if typed.on_line(key) or typed.on_line(f"{key}.class_path") or not typed.has(f"{key}.paths"):
            continue
        classes = [typed.get(key), *({short(k): v for k, v in flat(values).items()}.get(key) for values in below)]
        named = next((str(one) for one in classes if one), "StandardLibrary")
        if named.rpartition(".")[2] == "StandardLibrary":
            at = next((place for place, word in enumerate(words) if word.partition("=")[0] == f"--{key}.paths"), 0)
            words.insert(at, f"--{key}={_reader(typed.get(f'{key}.paths'))}")
    return words


def _reader(paths: Any) -> str:
    """The source for files of these names, if all have one ending."""
    names: Any = paths
    if isinstance(paths, str) and paths.startswith("["):
        with suppress(yaml.YAMLError):  # a name such as `[data] x.txt`
            names = load_yaml(paths)
    kinds = set()
    for name in names if isinstance(names, list) else [paths]:
        plain = str(name).lower()
        for ending in _COMPRESSED:
            plain = plain.removesuffix(ending)
        kinds.add(_READERS.get(Path(plain).suffix, "TextFiles"))
    return kinds.pop() if len(kinds) == 1 else "TextFiles"
