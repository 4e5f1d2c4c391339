"""Typed YAML values: which words are numbers, and how a word stays the string it was typed as where one is wanted.

Knows YAML and jsonargparse's ways of reading a value; of the keys it knows nothing.

YAML 1.1 turns `no`, `on`, `0123`, `1:30` and dates into something else than what was typed, and does so to the keys of
mappings too. Here, as in YAML 1.2, only `true` and `false` are booleans; keys are strings as they are spelled. Where an
option wants strings and gets numbers or booleans, they are taken as they are spelled.
"""

import re
from collections.abc import Sequence
from typing import Any

import yaml

from lit_gpt.config.safe_parsing import BoundedLoader

_MODE = "lit_gpt"  # the name of this way of reading values in jsonargparse
_TAG = "tag:yaml.org,2002:"
_FLOAT = re.compile(r"^[-+]?([0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?|\.[0-9][0-9_]*([eE][-+]?[0-9]+)?)$")
_NOT_FINITE = re.compile(r"^([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")
# Not 0123, which is 83 in YAML 1.1 and 123 in YAML 1.2; where a number is wanted it is read as 123.
_INT = re.compile(r"^[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)$")
_LEADING_ZERO = re.compile(r"^[-+]?0[0-9_]+$")


class Loader(BoundedLoader):
    """YAML with the plain words of YAML 1.2, and keys as they are spelled; within bounds."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; its keys stay strings, and each is there once."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
            if key.value in seen and key.value != "<<":
                said = f"key {key.value!r} is given twice"
                raise yaml.constructor.ConstructorError(None, None, said, key.start_mark)
            seen.add(key.value)
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


class _NotLeadingZero:
    """Tells numbers from words such as 0123."""

    def match(self, word: str) -> bool:
        return bool((_FLOAT.match(word) or _NOT_FINITE.match(word)) and not _LEADING_ZERO.match(word))


Loader.add_implicit_resolver(f"{_TAG}null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
Loader.add_implicit_resolver(f"{_TAG}int", _INT, list("-+0123456789"))
Loader.add_implicit_resolver(f"{_TAG}float", _NotLeadingZero(), list("-+0123456789."))
Loader.add_implicit_resolver(f"{_TAG}merge", re.compile(r"^<<$"), ["<"])


class Dumper(yaml.SafeDumper):
    """YAML that both YAML 1.1 and `Loader` read as it was: strings such as no and 1e5 are quoted."""

    yaml_implicit_resolvers = {first: list(pairs) for first, pairs in yaml.SafeDumper.yaml_implicit_resolvers.items()}


Dumper.add_implicit_resolver(f"{_TAG}float", _FLOAT, list("-+0123456789."))


def dump_yaml(values: Any, **options: Any) -> str:
    """Plain values as YAML text that reads back as they are."""
    return str(yaml.dump(values, Dumper=Dumper, **options)).removesuffix("...\n")


def flow(node: yaml.Node, quoted: bool = False) -> str:
    """A node as one line of YAML in which numbers are spelled as they were typed.

    Args:
        node: Of a text that `Loader` composed.
        quoted: Numbers and booleans become strings.
    """
    if isinstance(node, yaml.MappingNode):
        Loader("").flatten_mapping(node)
        merged = {key.value: value for key, value in node.value}  # own values after those of `<<`
        return "{" + ", ".join(f"{_string(key)}: {flow(value, quoted)}" for key, value in merged.items()) + "}"
    if isinstance(node, yaml.SequenceNode):
        return "[" + ", ".join(flow(one, quoted) for one in node.value) + "]"
    kind = node.tag.removeprefix(_TAG)
    if kind == "null":
        return "null"
    return str(node.value) if kind in ("int", "float", "bool") and not quoted else _string(node.value)


def _string(text: str) -> str:
    # Not as JSON writes it: of \ud83d\ude00 YAML makes two halves of a character.
    return yaml.dump(text, Dumper=yaml.SafeDumper, default_style='"', width=float("inf")).rstrip("\n")


def part_of(text: str, *keys: str) -> str | None:
    """The part of a mapping under a key, or a key of that, as one line of YAML; None where there is none.

    Args:
        text: Of the mapping.
        keys: One inside another.
    """
    node = yaml.compose(text, Loader)
    for key in keys:
        values = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((value for name, value in values if name.value == key), None)
    return None if node is None else flow(node)


def parse_words(parser: Any, words: Sequence[str]) -> Any:
    """The typed words as a jsonargparse parser reads them; numbers where strings are wanted stay as they are spelled.

    Args:
        parser: A jsonargparse parser; it reads values by `Loader` from now on.
        words: Options and their values, settings files as `--config` with their text.

    Raises:
        ArgumentError, TypeError, ValueError: as the parser does.
    """
    from jsonargparse import ArgumentError, set_loader

    set_loader(_MODE, _value, (yaml.YAMLError,))
    parser.parser_mode = _MODE
    first: Exception | None = None
    asked = set[str]()
    while True:
        try:
            return parser.parse_args(list(words))
        except (ArgumentError, TypeError, ValueError) as error:
            first = first or error
            key = ".".join(re.findall(r'Parser key "([^"]+)":', str(error)))
            spelled = [] if key in asked else _spelled(words, key)
            asked.add(key)
            if spelled in ([], list(words)):
                raise first from None
            words = spelled


def _value(text: str) -> Any:
    """A typed value; a text such as `a:` or `{text}` that names nothing but keys is itself."""
    node = yaml.compose(text, Loader)
    if isinstance(node, yaml.MappingNode) and node.value and all(value.value == "" for _, value in node.value):
        if all(isinstance(value, yaml.ScalarNode) and value.style is None for _, value in node.value):
            return text
    return yaml.load(text, Loader)


def _spelled(words: Sequence[str], key: str) -> list[str]:
    """The words with all numbers and booleans below a key as strings."""
    path = _short(key)
    rest, changed = list(words), list[str]()
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if not option.startswith("--") or not (equals or rest):
            changed.append(word)
            continue
        value = value if equals else rest.pop(0)
        own = [] if option == "--config" else _short(option[2:])
        if path and own[: len(path)] == path[: len(own)]:
            with_strings = _quoted(value, path[len(own) :])
            value = value if with_strings is None else with_strings
        changed += [f"{option}={value}"] if equals else [option, value]
    return changed


def _quoted(text: str, path: list[str]) -> str | None:
    """A text with the numbers and booleans below a key as strings; None where it is no list and no mapping."""
    try:
        node = yaml.compose(text, Loader)
    except yaml.YAMLError:
        return None
    return _quoted_below(node, path) if isinstance(node, yaml.MappingNode | yaml.SequenceNode) else None


def _quoted_below(node: yaml.Node, path: list[str]) -> str:
    if not path:
        return flow(node, quoted=True)
    if not isinstance(node, yaml.MappingNode):
        return flow(node)
    Loader("").flatten_mapping(node)
    parts = []
    for key, value in {key.value: value for key, value in node.value}.items():
        inner = path if key == "init_args" else path[1:]
        below = inner is path or key == path[0]
        parts.append(f"{_string(key)}: {_quoted_below(value, inner) if below else flow(value)}")
    return "{" + ", ".join(parts) + "}"


def _short(key: str) -> list[str]:
    return [part for part in key.split(".") if part != "init_args"]
