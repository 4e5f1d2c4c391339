"""YAML, JSON and plain data from files, within bounds: a small file cannot fill the memory or exhaust the stack.

YAML's aliases let a kilobyte stand for terabytes, and lists in lists let one exhaust Python's stack. What exceeds the
bounds is a `ValueError` (for YAML a `yaml.YAMLError`), as any other broken file is.
"""

import json
from typing import Any

import yaml

DEPTH = 100  # of dicts and lists within each other; settings need about 15
NODES = 100_000  # values of a YAML text, those that aliases stand for counted each time
ITEMS = 5_000_000  # values of plain data such as a tokenizer's state, which has some for each token
_DIGITS = 400  # of a number in YAML


class BoundedLoader(yaml.SafeLoader):
    """YAML whose values are counted while it is read."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth, self._nodes = 0, 0
        self._sizes: dict[str, int] = {}  # values that each finished anchor stands for

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Counts a value while it is read; PyYAML calls it for each."""
        event: Any = self.peek_event()
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias:
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                raise yaml.composer.ComposerError(None, None, f"*{event.anchor} refers to itself", event.start_mark)
            self._nodes += self._sizes.get(event.anchor, 0)
        self._depth += 1
        self._nodes += 1
        if self._depth > DEPTH:
            raise yaml.composer.ComposerError(None, None, f"it is nested more than {DEPTH} deep", event.start_mark)
        if self._nodes > NODES:
            told = f"it stands for more than {NODES:,} values"
            raise yaml.composer.ComposerError(None, None, told, event.start_mark)
        before = self._nodes
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not is_alias and getattr(event, "anchor", None) is not None:
            self._sizes[event.anchor] = self._nodes - before + 1
        return node

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float") and len(str(value)) > _DIGITS:
            raise yaml.constructor.ConstructorError(
                None, None, f"a number of more than {_DIGITS} digits", node.start_mark
            )
        return value


def parse_json(text: str | bytes) -> Any:
    """A JSON text as plain values.

    Raises:
        ValueError: It is not JSON, or nested too deep.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEPTH} deep") from None
    opened = text.count(b"[") + text.count(b"{") if isinstance(text, bytes) else text.count("[") + text.count("{")
    if opened > DEPTH:
        check_plain(values)
    return values


def check_plain(values: Any) -> None:
    """Goes through plain data that was read from a file.

    Raises:
        ValueError: It is nested too deep, holds itself, or stands for too many values.
    """
    waiting, items = [(values, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict):
            inner: Any = value.values()
        elif isinstance(value, (list, tuple)):
            inner = value
        else:
            continue
        items += len(value)
        if depth >= DEPTH:
            raise ValueError(f"it is nested more than {DEPTH} deep")
        if items > ITEMS:
            raise ValueError(f"it stands for more than {ITEMS:,} values")
        waiting += [(one, depth + 1) for one in inner if isinstance(one, (dict, list, tuple))]
