"""Class paths that are read from files: the one importer and the one list of trusted packages.

A checkpoint, a run directory or a tokenizer file may come from a stranger. A dotted path in it resolves only to a class
that is defined in a trusted package (its own `__module__` counts, not the way it was reached) and that is of the type
which its place expects. `torch.serialization.os.system` begins with a trusted name and is refused for both reasons.
"""

import importlib
import os
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lit_gpt.errors import UserError

#: What files may name without a word of the user's. Of torch and lightning the places where components come from.
TRUSTED = (
    "lit_gpt",
    "torch.nn.modules",
    "torch.optim",
    *(f"lightning.pytorch.{part}" for part in ("callbacks", "loggers", "profilers", "strategies", "plugins")),
)
# Short ways to the same classes, which are checked by where they are defined.
_PUBLIC_NAMES = ("torch.nn",)
_DENIED = re.compile(r"Importing '([\w.]+)' is not allowed, denied by")  # jsonargparse's words
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def trusted_by_user() -> set[str]:
    """Packages in the environment variable LIT_GPT_TRUST, separated by commas or spaces."""
    return set(os.environ.get("LIT_GPT_TRUST", "").replace(",", " ").split())


def is_trusted(path: str, trust: Iterable[str] = ()) -> bool:
    """Whether a dotted path lies in a trusted package.

    Args:
        path: Of a module or class.
        trust: Packages, or whole paths, that the user trusts besides those of LIT_GPT_TRUST.
    """
    return any(path == one or path.startswith(f"{one}.") for one in (*TRUSTED, *trust, *trusted_by_user()))


def import_class(
    path: str, where: object, expected: type | tuple[type, ...] = object, trust: Iterable[str] = ()
) -> type[Any]:
    """The class that a file names.

    Args:
        path: The dotted path as it is in the file.
        where: The file, for messages.
        expected: What the class must be a subclass of.
        trust: Packages that the user trusts besides those of LIT_GPT_TRUST.

    Raises:
        UserError: The path is not one, its package or that of the class is not trusted, there is no such class, or it
            is not of the expected type. Nothing of an untrusted package is imported.
    """
    trust = tuple(trust)
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise UserError(f"{where}: {str(path)[:80]!r} is not the dotted path of a class")
    module, _, name = path.rpartition(".")
    if not is_trusted(path, trust) and module not in _PUBLIC_NAMES:
        raise _untrusted(path, where)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{where} names the class {path}, which cannot be imported: {error}") from error
    if not isinstance(found, type):
        raise UserError(f"{where} names {path}, which is not a class")
    if not is_trusted(f"{found.__module__}.{found.__qualname__}", trust):
        raise _untrusted(f"{found.__module__}.{found.__qualname__}", where)
    if not issubclass(found, expected):
        kinds = expected if isinstance(expected, tuple) else (expected,)
        wanted = " or ".join(kind.__name__ for kind in kinds) or "class"
        raise UserError(f"{where} names {path} where a subclass of {wanted} is expected")
    return found


def expected_classes(cls: type, argument: str) -> tuple[type, ...]:
    """The classes that an argument of a component may be filled with, from its annotation.

    `list[Callable[[Sizes], Attention]] | Callable[[Sizes], Attention]` gives `(Attention,)`, `int | None` nothing, an
    argument that a user's class does not annotate `(object,)`.
    """
    try:
        annotation = typing.get_type_hints(vars(cls).get("__init__", cls.__init__)).get(argument, object)  # type: ignore[misc]
    except (NameError, TypeError):  # of a user's class, with names for type checkers alone
        return (object,)
    return tuple(dict.fromkeys(_classes_in(annotation)))


def _classes_in(annotation: Any) -> Iterator[type]:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        for one in arguments:
            yield from _classes_in(one)
    elif isinstance(origin, type) and issubclass(origin, Callable):  # type: ignore[arg-type]
        yield from _classes_in(arguments[-1] if arguments else None)
    elif origin is type or origin is dict or origin is list or (isinstance(origin, type) and arguments):
        yield from _classes_in(arguments[-1])
    elif annotation is object or (isinstance(annotation, type) and annotation.__module__ != "builtins"):
        yield annotation


def class_paths_in(values: Any) -> Iterator[str]:
    """Every `class_path` in nested values; iterative, as a file may nest them deeply."""
    stack = [values]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if isinstance(value.get("class_path"), str):
                yield value["class_path"]
            stack += value.values()
        elif isinstance(value, list):
            stack += value


def packages(values: Any) -> set[str]:
    """The packages of all class paths in nested values."""
    return {path.partition(".")[0] for path in class_paths_in(values)}


def refuse_untrusted(values: Any, where: object, trust: Iterable[str] = ()) -> None:
    """Refuses the first class path in nested values that lies outside the trusted packages; imports nothing.

    Raises:
        UserError: naming the class and the package that the user would have to trust.
    """
    trust = tuple(trust)
    for path in class_paths_in(values):
        if "." in path and not is_trusted(path, trust) and path.rpartition(".")[0] not in _PUBLIC_NAMES:
            raise _untrusted(path, where)


def typed_trust(words: Iterable[str], values: Iterable[Any]) -> set[str]:
    """What the user trusts by typing it: packages of the classes named on the command line and in their own files.

    Args:
        words: The command line.
        values: The contents of the files that it names.

    Returns:
        Packages; of torch and lightning, which are trusted in part, whole paths.
    """
    named = {path for one in values for path in _dotted_classes(one)}
    for word in words:
        named |= set(_dotted_classes(word.rpartition("=")[2]))
    partly = ("lit_gpt", "torch", "lightning")
    packages = {
        path if path.startswith(tuple(f"{one}." for one in partly)) else path.partition(".")[0] for path in named
    }
    return packages - set(sys.stdlib_module_names) - {"jsonargparse"}


def _dotted_classes(values: Any) -> Iterator[str]:
    """Strings in nested values that look like the path of a class: dotted, the last part with a capital."""
    stack = [values]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            stack += value.values()
        elif isinstance(value, list):
            stack += value
        elif isinstance(value, str) and _PATH.fullmatch(value) and value.rpartition(".")[2][0].isupper():
            yield value


@contextmanager
def only_trusted(trust: Iterable[str], where: object | None) -> Iterator[None]:
    """Within it the configuration parser imports nothing but what is trusted: of all strings, not of class paths alone.

    Args:
        trust: Packages, or whole paths, that the user typed.
        where: The file that the settings come from; None where the user typed all of them, and nothing is refused.

    Raises:
        UserError: naming the first path that is not trusted; nothing of it was imported.
    """
    if where is None:
        yield
        return
    # No public call takes an entry back, so the two settings are put aside and restored.
    from jsonargparse import set_parsing_settings
    from jsonargparse._common import parsing_settings

    names = ("import_path_verdicts", "import_paths_enforced")
    before = {name: parsing_settings[name] for name in names}
    allowed = [one for one in (*TRUSTED, *_PUBLIC_NAMES, *trust, *trusted_by_user()) if one != "jsonargparse"]
    try:
        set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=allowed)
        yield
    except Exception as error:
        if denied := _DENIED.search(f"{error} {error.__cause__ or ''}"):
            raise _untrusted(denied[1], where) from None
        raise
    finally:
        parsing_settings.update(before)


def _untrusted(path: str, where: object) -> UserError:
    package = path.partition(".")[0]
    if is_trusted(package) or package in ("torch", "lightning"):
        return UserError(f"{where} names {path}, which is not a component; such names are never taken from a file")
    return UserError(
        f"{where} names the class {path}, which is code outside lit_gpt; "
        f"if you trust the package, set LIT_GPT_TRUST={package} (in Python: trust=['{package}'])"
    )
