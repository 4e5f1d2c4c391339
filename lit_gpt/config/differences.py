"""Differences of two configs, by dotted key."""

from collections.abc import Iterator
from typing import Any

from lit_gpt.config.yaml_files import load_yaml, short


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Keys as people type them whose values differ, with the old and the new value; None where one lacks the key.

    A list of one class is that class, which is how a component's argument comes back from the command line; lists of
    equally many classes are compared one by one.
    """
    return [(short(key), shown(a), shown(b)) for key, a, b in _unequal(old, new, "") if a != b]


def _unequal(old: Any, new: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """All pairs of values with the dotted key of both; no arguments and arguments that are all null are the same."""
    old, new = _only(old), _only(new)
    if isinstance(old, dict | None) and isinstance(new, dict | None) and (old or new):
        a, b = old or {}, new or {}
        for name in dict.fromkeys([*a, *b]):
            yield from _unequal(a.get(name), b.get(name), f"{key}.{name}" if key else name)
    elif _are_classes(old) and _are_classes(new) and len(old) == len(new):
        for place, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _unequal(a, b, f"{key}.{place}")
    else:
        yield key, old or None if isinstance(old, dict) else old, new or None if isinstance(new, dict) else new


def _are_classes(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _only(value: Any) -> Any:
    """The one class of a list of one."""
    return value[0] if _are_classes(value) and len(value) == 1 else value


def shown(value: Any) -> Any:
    """A class as its name alone."""
    if isinstance(value, dict) and "class_path" in value:
        value = value["class_path"]
    if isinstance(value, list):
        return [shown(one) for one in value]
    is_path = isinstance(value, str) and value.startswith(("lit_gpt.", "torch."))
    return value.rpartition(".")[2] if is_path else value


def agrees(typed: Any, value: Any) -> bool:
    """Whether a typed value is what a config holds; what a typed class leaves out may be anything.

    Args:
        typed: A word of the command line or a value of a config file; classes by any of their names.
        value: The parsed value, classes as `class_path` and `init_args`.
    """
    typed, value = _only(typed), _only(value)
    if isinstance(typed, list):
        same_length = isinstance(value, list) and len(typed) == len(value)
        return same_length and all(agrees(one, other) for one, other in zip(typed, value, strict=True))
    if isinstance(value, dict) and "class_path" in value:
        typed = typed if isinstance(typed, dict) else {"class_path": typed}
        given = typed.get("init_args", {} if "class_path" in typed else typed) or {}
        named = typed.get("class_path", value["class_path"])
        arguments = value.get("init_args") or {}
        same_class = str(named).rpartition(".")[2] == value["class_path"].rpartition(".")[2]
        return same_class and all(agrees(one, arguments.get(name)) for name, one in given.items())
    if isinstance(typed, dict):
        return isinstance(value, dict) and all(agrees(one, value.get(name)) for name, one in typed.items())
    if isinstance(typed, str) and isinstance(value, str):
        return typed == value or shown(typed) == shown(value) or typed.rpartition(".")[2] == shown(value)
    return bool(typed == value) or (isinstance(typed, str) and load_yaml(typed) == value)
