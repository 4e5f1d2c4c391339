"""Typed YAML values: which words are numbers, and how a word stays the string it was typed as where one is wanted.

YAML 1.1 turns `no`, `on`, `0123`, `1:30` and dates into something else than what was typed, and does so to the keys of
mappings too. Here, as in YAML 1.2, only `true` and `false` are booleans; keys are strings as they are spelled. Where an
option wants strings and gets numbers or booleans, they are taken as they are spelled.
"""

import os
import re
from collections.abc import Sequence
from typing import Any

import yaml

from lit_gpt.config.safe_parsing import BoundedLoader
from lit_gpt.errors import UserError

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
        return "{" + ", ".join(f"{string(key)}: {flow(value, quoted)}" for key, value in merged.items()) + "}"
    if isinstance(node, yaml.SequenceNode):
        return "[" + ", ".join(flow(one, quoted) for one in node.value) + "]"
    kind = node.tag.removeprefix(_TAG)
    if kind == "null":
        return "null"
    return str(node.value) if kind in ("int", "float", "bool") and not quoted else string(node.value)


def string(text: str) -> str:
    # Not as JSON writes it: of \ud83d\ude00 YAML makes two halves of a character.
    return yaml.dump(text, Dumper=yaml.SafeDumper, default_style='"', width=float("inf")).rstrip("\n")


def compose(text: str) -> yaml.Node:
    """A typed value as a YAML node; a text that is no YAML, or only keys, as `a:` or `{text}`, is a string."""
    if not text.strip():
        return yaml.ScalarNode(f"{_TAG}null", "")
    try:
        node = yaml.compose(text, Loader)
    except yaml.YAMLError:
        node = None
    if isinstance(node, yaml.MappingNode) and node.value and all(value.value == "" for _, value in node.value):
        if all(isinstance(value, yaml.ScalarNode) and value.style is None for _, value in node.value):
            node = None
    return yaml.ScalarNode(f"{_TAG}str", text, style='"') if node is None else node


def is_number(node: yaml.Node, kind: type) -> bool:
    """Whether a scalar is spelled as a number of a kind, int or float; 0123 is 123 where a number is wanted."""
    whole = bool(_INT.match(node.value) or _LEADING_ZERO.match(node.value))
    return whole or kind is float and bool(_FLOAT.match(node.value) or _NOT_FINITE.match(node.value))


def parse_words(parser: Any, words: Sequence[str]) -> Any:
    """Words that the schema has checked, as a jsonargparse parser reads them.

    Args:
        parser: A jsonargparse parser; it reads values by `Loader` from now on.
        words: Options and their values, config files as `--config` with their text.

    Raises:
        UserError: what the schema leaves to the parser, in its words.
    """
    from jsonargparse import ArgumentError, set_loader

    set_loader(_MODE, load_value, (yaml.YAMLError,))
    parser.parser_mode = _MODE
    try:
        return parser.parse_args(list(words))
    except (ArgumentError, TypeError, ValueError) as error:
        if isinstance(error, UserError) or os.environ.get("LIT_GPT_DEBUG"):
            raise
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
        raise UserError(" ".join(lines[-1].split()) if lines else type(error).__name__) from error


def load_value(text: str) -> Any:
    """A typed value as plain data."""
    node = compose(text)
    is_text = isinstance(node, yaml.ScalarNode) and node.style == '"' and node.value == text
    return text if is_text else yaml.load(text, Loader)
