"""`~` in a path that a user types means the home folder: on the command line, in YAML, in any option.

Lists the keys and arguments that hold paths; one rule for all of them, applied where typed words come in.
"""

import json
import re
from collections.abc import Sequence
from os.path import expanduser
from typing import Any

import yaml

#: The last word of a dotted key, or the name of a command's argument, whose value is the path of a file or folder.
PATH_KEYS = frozenset(
    "back base c ckpt_path config corpus default_root_dir dirpath folder init_from lock model out path paths plot"
    " prompt_file run tensorboard there tokenizer tokenizers verify".split()
)
#: Keys that hold a path or something else: the name of a dataset of the hub, a template.
MAY_BE_PATHS = frozenset("name template".split())


def in_values(values: Any, key: str = "") -> Any:
    """Nested settings with each path in them expanded."""
    if isinstance(values, dict):
        return {name: in_values(value, str(name)) for name, value in values.items()}
    if isinstance(values, list):
        return [in_values(value, key) for value in values]
    if isinstance(values, str) and values.startswith("~") and key.rpartition(".")[2] in PATH_KEYS | MAY_BE_PATHS:
        return expanduser(values)
    return values


def in_node(node: yaml.Node, key: str = "") -> None:
    """The same in composed YAML, in place."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            in_node(value, str(name.value))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            in_node(value, key)
    elif node.tag.endswith(":str"):
        node.value = in_values(node.value, key)


def in_words(words: Sequence[str]) -> list[str]:
    """A command line with each path in it expanded: `--key=~/x`, `--key ~/x`, `--key "[~/x, ~/y]"`."""
    expanded: list[str] = []
    key = ""  # of the option before, where it waits for its value
    for word in words:
        option, equals, value = word.partition("=")
        if re.match(r"-[-a-z]", word):
            key = option.lstrip("-").rstrip("+")
            expanded.append(f"{option}={_in_word(value, key)}" if equals else word)
        else:
            expanded.append(_in_word(word, key))
        if equals or not word.startswith("-"):
            key = ""
    return expanded


def _in_word(word: str, key: str) -> str:
    if not key or "~" not in word:
        return word
    if word[:1] not in "[{":
        return str(in_values(word, key))
    try:
        typed = yaml.safe_load(word)
    except yaml.YAMLError:  # told by who reads it
        return word
    found = in_values(typed, key)
    return word if found == typed else json.dumps(found)
