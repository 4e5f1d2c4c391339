"""Error messages for keys and classes that do not exist: the nearest right one, or what there is."""

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lit_gpt.config import schema
from lit_gpt.config.class_paths import locate
from lit_gpt.config.schema import Component
from lit_gpt.config.yaml_files import nearest
from lit_gpt.errors import UserError


def unknown_key(key: str, line: str | None, known: Sequence[str]) -> UserError:
    """The error of a key of no section.

    Args:
        key: As it was typed, on the command line with its dashes.
        line: `file:line` where it was typed.
        known: All keys.
    """
    plain, dashes = key.removeprefix("--"), "--" if key.startswith("--") else ""
    parent, _, word = plain.rpartition(".")
    holders = {one.rpartition(".")[0] for one in known} | set(known)
    if parent and parent not in holders and (holder := nearest(parent, holders)):
        return _unknown(key, line, f"did you mean {dashes}{holder}.{word}?")
    near = nearest(plain, known)
    return _unknown(key, line, f"did you mean {dashes}{near}?" if near else "see --help")


def unknown_argument(
    key: str, line: str | None, owner: str, known: Sequence[str], others: Mapping[str, Sequence[str]]
) -> UserError:
    """The error of an argument that a class does not have.

    Args:
        key: As it was typed, on the command line with its dashes.
        line: `file:line` where it was typed.
        owner: The name of the class.
        known: Its arguments.
        others: Arguments of the other classes that can fill the component, by their names.
    """
    parent, _, word = key.rpartition(".")
    of = f" of {owner}"
    if takers := sorted(name for name, arguments in others.items() if word in arguments):
        return _unknown(key + of, line, f"it is a key of {', '.join(takers)}")
    near = nearest(word, [*known, "class_path", "init_args"])
    if near in ("class_path", "init_args"):
        return _unknown(key + of, line, f"did you mean {near}?")
    if near:
        return _unknown(key + of, line, f"did you mean {parent}.{near}?")
    if elsewhere := nearest(word, {argument for arguments in others.values() for argument in arguments}):
        takers = sorted(name for name, arguments in others.items() if elsewhere in arguments)
        return _unknown(key + of, line, f"did you mean {parent}.{elsewhere}, a key of {', '.join(takers)}?")
    return _unknown(key + of, line, f"there are {', '.join(sorted(known))}" if 0 < len(known) <= 30 else "see --help")


def _unknown(key: str, line: str | None, hint: str) -> UserError:
    return UserError(f"{f'{line}: ' if line else ''}there is no key {key}; {hint}")


def no_class(name: str, wanted: list[Component], key: str) -> str:
    """What is said of a name that is none of a class at a key."""
    choices = list(schema.choices(wanted))
    if Path(name).is_file():
        hint = f"; text is given by --{key}.paths {name}" if "TextFiles" in choices else ""
        return f"expected a class ({', '.join(choices)}), got the file {name!r}{hint}"
    return f"no class {name!r}; {_nearest(name, choices)} (a class of your own is written package.module.Class)"


def _nearest(name: str, choices: list[str]) -> str:
    near = nearest(name.rpartition(".")[2], choices)
    return f"did you mean {near}?" if near else f"there are {', '.join(choices[:30])}"


def located(path: str, wanted: list[Component], error: Callable[[str], UserError]) -> Any:
    """The class of a dotted path, or a function where one can make what is wanted.

    Raises:
        UserError: there is none, or it is not of the type that is wanted.
    """
    try:
        found = locate(path)
    except Exception as fault:  # of the user's own module, any
        if missing := _missing_module(path):
            told = f"no module named {missing!r}; is its folder on PYTHONPATH?"
        else:
            told = f"{type(fault).__name__}: {fault}" if not isinstance(fault, (ImportError, AttributeError)) else ""
        hint = _nearest(path, list(schema.choices(wanted)))
        said = f"cannot be imported: {told}" if told else f"cannot be imported or does not fit here; {hint}"
        raise error(f"class {path!r} {said}") from None
    if inspect.isclass(found) and issubclass(found, tuple(one.base for one in wanted)):
        return found
    if not inspect.isclass(found) and callable(found) and any(one.function for one in wanted):
        return found
    bases = " or ".join(f"{one.base.__module__}.{one.base.__name__}" for one in wanted)
    raise error(f"class {path!r} does not fit here; derive it from {bases}")


def _missing_module(path: str) -> str | None:
    parts = path.split(".")[:-1]
    for end in range(1, len(parts) + 1):
        module = ".".join(parts[:end])
        if module not in sys.modules and importlib.util.find_spec(module) is None:
            return module
    return None


@contextmanager
def constructing() -> Iterator[None]:
    """Within it a ValueError of a constructor, also of another library's or the user's class, is a UserError."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        if error.__cause__ is not None and "compute_fn" in str(error):  # the parser wraps errors of preparing the data
            raise error.__cause__ from None
        raise UserError(str(error)) from error


@contextmanager
def constructing_record(error: Callable[[str], UserError]) -> Iterator[None]:
    """Within it a record's refusal of its fields is told with their place; that some are missing is told elsewhere."""
    try:
        yield
    except UserError as fault:
        raise error(str(fault)) from None
    except TypeError:
        pass
