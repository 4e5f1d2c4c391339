"""Which classes fit at a key, and what is behind the name of one: asked of signatures and type hints.

Knows type hints and dotted keys; does not know what was typed or how it is told.
"""

import importlib.util
import inspect
import sys
import typing
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

_MAKES_ITSELF = {"self", "sizes", "params", "optimizer", "steps", "parameters"}
_GIVEN = {"attention", "feedforward", "norm", "vocab_size"}  # where they have no default: to a block, to the net


def import_class(class_path: str) -> Any:
    """What a dotted path names; None where nothing is there.

    Of other packages than this one only what is imported already: the settings of a run that somebody sent are told of
    too, and to tell of a mistake is no reason to run code.
    """
    module, _, name = class_path.rpartition(".")
    if module.partition(".")[0] == "lit_gpt":
        with suppress(ImportError):
            importlib.import_module(module)
    return getattr(sys.modules.get(module), name, None)


def parameters(class_path: str) -> list[str]:
    """The arguments of a class that can be typed, by its dotted path."""
    found = import_class(class_path)
    return [] if found is None else arguments(found)


def arguments(part: Any) -> list[str]:
    """The arguments of a class that can be typed: without those that the net, the data or the trainer gives it."""
    given = {name for name, one in inspect.signature(part).parameters.items() if one.default is one.empty} & _GIVEN
    return [name for name in inspect.signature(part).parameters if name not in _MAKES_ITSELF | given]


def choices(path: str, parser: Any) -> list[str]:
    """Names of the classes that fit at a key, for a key that takes a class."""
    return sorted({name for one in fitting(path, parser) if not (name := one.__name__).startswith("_")})


def fitting(path: str, parser: Any) -> set[type]:
    """The classes that fit at a key."""
    return {one for base in bases(path, parser) for one in with_subclasses(base)}


def hints(path: str, parser: Any) -> list[Any]:
    """The types of what fits at a key; inside a component, of any class that the component may have."""
    action = next((a for a in parser._actions if a.dest == path), None)
    hint = getattr(action, "_typehint", None)
    if hint is not None:
        return [hint]
    owner, _, name = path.rpartition(".")
    found: list[Any] = []
    holder: Any
    for holder in fitting(owner, parser) if owner else ():
        try:
            found.append(typing.get_type_hints(holder.__init__).get(name))
        except (NameError, TypeError):
            continue
    return found


def bases(path: str, parser: Any) -> list[type]:
    """The base classes of what fits at a key."""
    typed = any(action.dest == path for action in parser._actions)
    found = dict.fromkeys(one for hint in hints(path, parser) for one in classes(hint))
    return [one for one in found if typed or one.__module__.startswith("lit_gpt.")]  # no Tensor


def takes_text(path: str, parser: Any) -> bool:
    """Whether a key takes words that name no class."""
    return any(str in _plain(hint) for hint in hints(path, parser))


def _plain(hint: Any) -> set[Any]:
    arguments = typing.get_args(hint)
    if not arguments or _is_callable(hint):
        return {hint}
    return {str} if typing.get_origin(hint) is typing.Literal else set().union(*map(_plain, arguments))


def classes(hint: Any) -> Iterator[type]:
    """The classes that a type hint asks for: X in X | None, list[X], Callable[[...], X]."""
    if inspect.isclass(hint) and not typing.get_args(hint):
        if hint.__module__.partition(".")[0] in ("lit_gpt", "torch", "lightning"):
            yield hint
        return
    arguments = typing.get_args(hint)
    for one in arguments[-1:] if typing.get_origin(hint) is not None and _is_callable(hint) else arguments:
        yield from classes(one)


def _is_callable(hint: Any) -> bool:
    from collections.abc import Callable

    return typing.get_origin(hint) is Callable


def with_subclasses(base: type) -> Iterator[type]:
    """What can be named where a base class is asked for: the base itself only if it is no component's base."""
    if not base.__subclasses__() or base.__module__.partition(".")[0] != "lit_gpt":
        yield base
    yield from _below(base)


def _below(base: type) -> Iterator[type]:
    below: list[type] = base.__subclasses__()
    for one in below:
        if not one.__name__.startswith("_") and not inspect.isabstract(one):
            yield one
        yield from _below(one)


def missing_module(class_path: str) -> str | None:
    """The module of a dotted path that is not there; None where it is, or was not looked for by the parser."""
    parts = class_path.split(".")[:-1]
    for end in range(1, len(parts) + 1):
        module = ".".join(parts[:end])
        if module not in sys.modules:
            there = end == 1 and importlib.util.find_spec(module) is not None
            return None if there else module
    return None


def unknown(class_path: str) -> bool:
    """Whether a dotted path surely names nothing: its module is not there, or has no such name."""
    module = class_path.rpartition(".")[0]
    return missing_module(class_path) is not None or (module in sys.modules and import_class(class_path) is None)
