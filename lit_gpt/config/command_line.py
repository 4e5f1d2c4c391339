"""The command line, read once: its options in order, the config files that they name, and what was typed for a key."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from lit_gpt.config import user_paths
from lit_gpt.config.class_paths import refuse_functions, typed_trust
from lit_gpt.config.yaml_files import ConfigFile, flat, load_yaml, parse, read, short
from lit_gpt.config.yaml_values import dump_yaml
from lit_gpt.errors import UserError


class Option(NamedTuple):
    """One option as it was typed: `--key text`, `--key=text`, `--key`, a word without a key, or a config file."""

    key: str  # without dashes; empty for a word without a key
    text: str | None = None
    file: ConfigFile | None = None


def options(words: Sequence[str]) -> Iterator[Option]:
    """The options of a command line; a word that begins with two dashes is never the value of the one before."""
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--") and word not in ("-c", "-h"):
            yield Option("", word)
            continue
        name, equals, text = word.partition("=")
        key = {"-c": "config", "-h": "help"}.get(name, name[2:])
        if not equals:
            yield Option(key, rest.pop(0) if rest and not rest[0].startswith("--") else None)
        else:
            yield Option(key, text)


def from_values(values: dict[str, Any], name: str) -> ConfigFile:
    """Plain values as the config file of that name would hold them."""
    return parse(dump_yaml(values, default_flow_style=True, width=float("inf")), name)


class CommandLine:
    """What the user typed for a command, in order: options, and each config file after its bases.

    Args:
        words: The command line after the command's name.
        values: A config given as a dict in place of a file, below all others.
    """

    def __init__(self, words: Sequence[str], values: dict[str, Any] | None = None) -> None:
        self.argv = user_paths.in_words(words)
        self.files: list[Path] = []
        self.options: list[Option] = []
        if values is not None:
            self.options.append(_file(from_values(json.loads(json.dumps(values, default=str)), "the given dict")))
        for option in options(self.argv):
            if option.key != "config":
                self.options.append(option)
                continue
            if option.text in (None, "", "."):
                raise UserError("--config needs the path of a YAML file")
            self.files.append(Path(str(option.text)))
            self.options += map(_file, read(str(option.text)))
        #: Packages whose classes the user named. A file that is added later adds nothing to it.
        self.trust = typed_trust(self.argv, [file.values for file in self.layers])
        for file in self.layers:
            refuse_functions(file.values, file.name)

    @property
    def layers(self) -> list[ConfigFile]:
        """The config files, later ones override earlier ones."""
        return [option.file for option in self.options if option.file is not None]

    def add_file(self, path: Path, check: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Puts a config file that the user did not name below all that was typed.

        Args:
            path: Such as a run directory's config.yaml.
            check: Is given its values, raises where they must not be used, and returns values that override them.
        """
        below = read(path)
        below += [from_values(over, str(path)) for over in map(check, [file.values for file in below]) if over]
        self.options = [*map(_file, below), *self.options]

    def get(self, key: str) -> Any:
        """The value typed for a dotted key, the command line's before the files'; None where it was not typed.

        A key without a value, as `--resume`, counts as True.
        """
        for option in reversed(self.options):
            if option.file is None and option.key == key:
                return True if option.text is None else option.text
        for file in reversed(self.layers):
            found = {short(full): value for full, value in flat(file.values).items()}
            if key in found:
                return found[key]
        return None

    def keys(self) -> Iterator[str]:
        """All keys that were typed with a value, without `init_args`."""
        for option in self.options:
            yield from map(short, option.file.lines) if option.file else [option.key]

    def has(self, key: str) -> bool:
        """Whether a key, or one below it, was typed with a value."""
        return any(typed == key or typed.startswith(f"{key}.") for typed in self.keys())

    def on_line(self, key: str) -> bool:
        """Whether exactly this key was typed on the command line."""
        return any(option.key == key for option in self.options if option.file is None)

    def where(self, key: str) -> str:
        """Where a key was typed: `--key` on the command line, or `file:line: key`."""
        for option in reversed(self.options):
            if option.file is None and f"{option.key}.".startswith(f"{key}."):
                return f"--{key}"
        for file in reversed(self.layers):
            for full, line in file.lines.items():
                if short(full) == key:
                    return f"{file.name}:{line}: {key}"
        return key

    def asks_for_help(self) -> bool:
        """Whether help is asked for, of the command or of a class."""
        return any(option.key == "help" or option.key.endswith(".help") for option in self.options)

    def values(self, *below: str) -> dict[str, Any]:
        """Typed values by dotted key without `init_args`, of these keys and those below them; the last one counts."""
        found: dict[str, Any] = {}
        for option in self.options:
            if option.file is not None:
                found |= {short(key): value for key, value in flat(option.file.values).items()}
            elif option.text is not None:
                with suppress(yaml.YAMLError):
                    found |= {short(key): value for key, value in flat(load_yaml(option.text), option.key).items()}
        return {key: value for key, value in found.items() if any(f"{key}.".startswith(f"{one}.") for one in below)}

    @property
    def name(self) -> str | None:
        """What the first config file is called, without its ending."""
        return self.files[0].stem if self.files else None


def _file(file: ConfigFile) -> Option:
    return Option("config", None, file)


#: Which source reads a file of each ending; TextFiles reads all others.
_READERS = {".jsonl": "JsonLines", ".ndjson": "JsonLines", ".parquet": "Parquet", ".csv": "Csv", ".tsv": "Csv"}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def with_text_files(command_line: CommandLine, *below: dict[str, Any]) -> list[Option]:
    """The typed options, with TextFiles named wherever only the paths of a text were typed.

    So `--data.source.paths my_text/` is enough, also over a file or checkpoint that names StandardLibrary, which has no
    paths; files of records, by their endings, get the source that reads them. A class that was typed, or any other that
    a file names, stays.

    Args:
        command_line: What was typed.
        below: Nested values that lie below it.
    """
    found = list(command_line.options)
    for key in ("data.source", "data.val_source", "data.test_source"):
        has_class = command_line.on_line(key) or command_line.on_line(f"{key}.class_path")
        if has_class or not command_line.has(f"{key}.paths"):
            continue
        lower = ({short(k): v for k, v in flat(values).items()}.get(key) for values in below)
        classes = [command_line.get(key), *lower]
        named = next((str(one) for one in classes if one), "StandardLibrary")
        if named.rpartition(".")[2] == "StandardLibrary":
            at = next((place for place, option in enumerate(found) if option.key == f"{key}.paths"), 0)
            found.insert(at, Option(key, _reader(command_line.get(f"{key}.paths"))))
    return found


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


def classes_first(typed: Iterable[Option]) -> list[Option]:
    """The options with each class before the arguments of that class, in whatever order they were typed."""
    found: list[Option] = []
    for option in typed:
        key = option.key.removesuffix(".class_path")
        first = next((at for at, one in enumerate(found) if one.file is None and one.key.startswith(f"{key}.")), None)
        after_files = max((at for at, one in enumerate(found) if one.file is not None), default=-1)
        if option.file is None and key and first is not None and first > after_files:
            found.insert(first, option)
        else:
            found.append(option)
    return found
