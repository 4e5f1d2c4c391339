"""Settings that nobody typed, such as those in a checkpoint or a run directory: what they name is checked by its place.

The annotations of constructors say which type each place expects. Settings are walked along them before anything is
made: a class has to be of a trusted package and of that type, and where a class or a function may be named by a string,
the string has to be the path of such a class. (The configuration parser would take a function, or read a file.)
"""

import collections.abc
import inspect
import os
import re
import typing
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import Any

from lit_gpt.config.class_paths import import_class
from lit_gpt.config.schema import annotations
from lit_gpt.errors import UserError

_PLAIN = (
    int, float, complex, str, bytes, bool, type(None), dict, list, tuple, set, frozenset, range, Path, os.PathLike,
    timedelta,
)  # fmt: skip
_WORD = re.compile(r"[\w:-]*")  # names that are no paths, such as ddp


def check_untrusted(value: Any, expected: Any, file: str | Path, place: str, trust: Iterable[str] = ()) -> None:
    """Refuses settings from a file that name anything but trusted classes of the types that their places expect.

    Args:
        value: Plain data, nested; classes are `{"class_path": ..., "init_args": {...}}` or a dotted name.
        expected: The annotation of the place, such as that of a constructor's argument.
        file: Where it stands, for errors.
        place: Its dotted key, for errors.
        trust: Packages that the user trusts besides those of LIT_GPT_TRUST.

    Raises:
        UserError: naming file, place and class.
    """
    _check(value, _expectation(expected), file, place, tuple(trust))


def check_untrusted_arguments(
    values: Any, owner: type, file: str | Path, place: str, trust: Iterable[str] = ()
) -> None:
    """The same for the arguments of a class that is known, `values` being a dict of them."""
    if not isinstance(values, dict):
        raise UserError(f"{file}: {place} has to hold keys with values, not {_shown(values)}; it is not used")
    known = _annotations(owner)
    for name, value in values.items():
        key = f"{place}.{name}" if place else str(name)
        _check(value, _expectation(known.get(name, Any)), file, key, tuple(trust))


@dataclass
class _Expectation:
    """What may stand at a place: instances of classes, text, callables, anything."""

    kinds: set[type] = field(default_factory=set)
    text: bool = False
    called: bool = False
    anything: bool = False


def _expectation(annotation: Any) -> _Expectation:
    found = _Expectation()
    _collect(annotation, found)
    return found


def _collect(annotation: Any, found: _Expectation) -> None:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is collections.abc.Callable or annotation in (collections.abc.Callable, typing.Callable):
        found.called = True
        if inner:
            _collect(inner[-1], found)
    elif origin is type or annotation is type:
        found.called = True
        for one in inner:
            _collect(one, found)
    elif origin is typing.Literal:
        found.text = True
    elif origin is not None or isinstance(annotation, UnionType):
        for one in inner:
            if one is not Ellipsis:
                _collect(one, found)
    elif annotation is str:
        found.text = True
    elif isinstance(annotation, type) and annotation is not object:
        if annotation not in _PLAIN and annotation.__module__ not in ("collections.abc", "typing"):
            found.kinds.add(annotation)
    elif annotation is not None:  # Any, a type variable, a name that cannot be resolved
        found.anything = True


def _check(value: Any, expected: _Expectation, file: str | Path, place: str, trust: tuple[str, ...]) -> None:
    if isinstance(value, dict) and "class_path" in value:
        kinds = expected.kinds or ({object} if expected.anything else set())
        made = import_class(value["class_path"], f"{file}: {place}", tuple(kinds), trust)
        check_untrusted_arguments(value.get("init_args") or {}, made, file, place, trust)
        check_untrusted_arguments(value.get("dict_kwargs") or {}, made, file, place, trust)
    elif isinstance(value, dict):
        for key, inner in value.items():
            _check(inner, expected, file, f"{place}.{key}", trust)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            _check(inner, expected, file, f"{place}.{number}", trust)
    elif isinstance(value, str) and (expected.kinds or expected.called):
        if not (expected.text and _WORD.fullmatch(value)):  # such as trainer.strategy ddp
            import_class(value, f"{file}: {place}", tuple(expected.kinds), trust)


def _annotations(owner: type) -> dict[str, Any]:
    """The annotations of all arguments of a class's constructors, its own before those of its bases."""
    known: dict[str, Any] = {}
    for base in reversed(owner.__mro__):
        init = base.__dict__.get("__init__")
        known |= annotations(init) if inspect.isfunction(init) else {}
    return known


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
