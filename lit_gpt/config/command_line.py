"""The words of a command line and the config files that they name, in order; what was typed for a key, and where."""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from lit_gpt.config import user_paths
from lit_gpt.config.class_paths import refuse_functions, typed_trust
from lit_gpt.config.yaml_files import ConfigFile, flat, load_yaml, parse, read, short
from lit_gpt.config.yaml_values import dump_yaml
from lit_gpt.errors import UserError


class CommandLine:
    """What the user typed for a command: files and words, each file standing where it was named, after its bases.

    Args:
        words: The command line after the command's name. `--config FILE` is replaced by the file's values.
        values: ConfigFile given as a dict in place of a file, below all others.
    """

    def __init__(self, words: Sequence[str], values: dict[str, Any] | None = None) -> None:
        self.argv = user_paths.in_words(words)
        self.layers: list[ConfigFile] = []
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

    def _add(self, layers: Iterable[ConfigFile]) -> None:
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


def with_text_files(command_line: CommandLine, *below: dict[str, Any]) -> list[str]:
    """The typed words, with TextFiles named wherever only the paths of a text were typed.

    So `--data.source.paths my_text/` is enough, also over a file or checkpoint that names StandardLibrary, which has no
    paths; files of records, by their endings, get the source that reads them. A class that was typed, or any other that
    a file names, stays.

    Args:
        command_line: What was typed.
        below: Nested settings that lie below it.
    """
    words = list(command_line.words)
    for key in ("data.source", "data.val_source", "data.test_source"):
        if (
            command_line.on_line(key)
            or command_line.on_line(f"{key}.class_path")
            or not command_line.has(f"{key}.paths")
        ):
            continue
        classes = [
            command_line.get(key),
            *({short(k): v for k, v in flat(values).items()}.get(key) for values in below),
        ]
        named = next((str(one) for one in classes if one), "StandardLibrary")
        if named.rpartition(".")[2] == "StandardLibrary":
            at = next((place for place, word in enumerate(words) if word.partition("=")[0] == f"--{key}.paths"), 0)
            words.insert(at, f"--{key}={_reader(command_line.get(f'{key}.paths'))}")
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
