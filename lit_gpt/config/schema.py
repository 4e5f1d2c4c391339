"""The schema of constructors: which arguments of a class can be configured, of which types, filled by which classes."""

import collections.abc
import inspect
import sys
import typing
from collections.abc import Iterator
from types import UnionType
from typing import Any, NamedTuple

_NO_COMPONENTS = {"torch", *sys.stdlib_module_names, "collections.abc", "os.path"}  # modules of plain types
REQUIRED = inspect.Parameter.empty


class Argument(NamedTuple):
    """An argument of a constructor: its annotation, and its default or REQUIRED."""

    annotation: Any = Any
    default: Any = REQUIRED


class Component(NamedTuple):
    """An alternative of an annotation that is filled by a class.

    Args:
        base: What the class is a subclass of.
        provided: Its first arguments, which are given when a factory is called: two in `Callable[[A, B], base]`.
        function: Whether a function may fill it as well.
    """

    base: type
    provided: int = 0
    function: bool = False


def annotations(function: Any) -> dict[str, Any]:
    """The annotations of a function; Any for a name that is there for type checkers alone."""
    try:
        return typing.get_type_hints(function)
    except Exception:
        names = {**vars(typing), **getattr(function, "__globals__", {})}
        given = getattr(function, "__annotations__", {})
        return {name: names.get(one, Any) if isinstance(one, str) else one for name, one in given.items()}


def arguments(cls: type, provided: int = 0) -> tuple[dict[str, Argument], bool]:
    """The arguments of a class that can be configured, and whether it takes others as well.

    Args:
        cls: The class; where its constructor has `**kwargs`, the arguments of its base's constructor are included.
        provided: Its first arguments, which are left out.
    """
    found: dict[str, Argument] = {}
    is_open = False
    for owner in cls.__mro__[:-1]:
        init = owner.__dict__.get("__init__")
        if init is None:
            continue
        hints = annotations(init)
        parameters = list(inspect.signature(init).parameters.values())[1:]
        for one in parameters:
            if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY):
                found.setdefault(one.name, Argument(hints.get(one.name, Any), one.default))
        is_open = any(one.kind is one.VAR_KEYWORD for one in parameters)
        if not is_open:
            break
    return dict(list(found.items())[provided:]), is_open


def default_classes(cls: type) -> dict[str, type]:
    """The components of a class: its arguments that are filled by a class unless another is named, with that class."""
    defaults = {name: argument.default for name, argument in arguments(cls)[0].items()}
    return {name: one for name, one in defaults.items() if inspect.isclass(one) and one is not REQUIRED}


def component_bases(cls: type) -> dict[str, type]:
    """The components of a class with the base class of each."""
    known = arguments(cls)[0]
    return {name: components(known[name].annotation)[0].base for name in default_classes(cls)}


def alternatives(annotation: Any) -> Iterator[Any]:
    """The alternatives of an annotation: Component for classes, None, the other types as they are."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, UnionType):
        for one in inner:
            yield from alternatives(one)
    elif origin is collections.abc.Callable and inner:
        provided = len(inner[0]) if isinstance(inner[0], list) else 0
        for one in alternatives(inner[-1]):
            yield Component(one.base, provided, True) if isinstance(one, Component) else Any
    elif annotation in (None, type(None)):
        yield None
    elif origin is None and isinstance(annotation, type) and annotation.__module__ not in _NO_COMPONENTS:
        yield Component(annotation)
    elif getattr(annotation, "__module__", None) != "torch":  # a Tensor cannot be typed
        yield annotation


def components(annotation: Any) -> list[Component]:
    """The classes that an annotation asks for, also inside a list or dict."""
    found: list[Component] = []
    for one in alternatives(annotation):
        if isinstance(one, Component):
            found.append(one)
        elif typing.get_origin(one) not in (None, typing.Literal, collections.abc.Callable, type):
            found += (inner for argument in typing.get_args(one) for inner in components(argument))
    return found


def choices(wanted: list[Component]) -> dict[str, type]:
    """The classes that can fill a component, by their short names."""
    found = {cls.__name__: cls for one in wanted for cls in with_subclasses(one.base)}
    return {name: found[name] for name in sorted(found) if not name.startswith("_")}


def with_subclasses(base: type) -> Iterator[type]:
    """What can be named where a base class is asked for: the base itself only if it is no component's base."""
    if not base.__subclasses__() or base.__module__.partition(".")[0] != "lit_gpt":
        yield base
    yield from _below(base)


def _below(base: type) -> Iterator[type]:
    below: list[type] = type.__subclasses__(base)
    for one in below:
        if not one.__name__.startswith("_") and not inspect.isabstract(one) and _is_listed(one):
            yield one
        yield from _below(one)


def _is_listed(cls: type) -> bool:
    """Whether a class of nn/ or data/ is a public name of its package; bases of several classes are not."""
    package = ".".join(cls.__module__.split(".")[:2])
    return package not in ("lit_gpt.nn", "lit_gpt.data") or hasattr(sys.modules[package], cls.__name__)


def kind_of(one: Any) -> str:
    """An alternative of an annotation in words."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", None: "null", Any: "a value"}
    origin = typing.get_origin(one) or one
    if origin is typing.Literal:
        return ", ".join(str(value) for value in typing.get_args(one))
    if isinstance(one, Component):
        return f"a class ({', '.join(list(choices([one]))[:30])})"
    if inspect.isclass(origin) and issubclass(origin, collections.abc.Mapping):
        return "keys with values"
    if is_list(one):
        return "a list"
    return words.get(one) or str(getattr(one, "__name__", one))


def is_list(one: Any) -> bool:
    """Whether an alternative of an annotation is a list, tuple or set."""
    origin = typing.get_origin(one) or one
    sequences = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Iterable)
    return origin in (*sequences, collections.abc.Collection)


def is_dict(one: Any) -> bool:
    """Whether an alternative of an annotation is a dict."""
    return (typing.get_origin(one) or one) in (dict, collections.abc.Mapping, collections.abc.MutableMapping)
