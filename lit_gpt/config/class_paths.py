"""Class paths that are read from files: the one importer and the one list of trusted packages.

A checkpoint, a run directory or a tokenizer file may come from a stranger. A dotted path in it resolves only to a class
that is defined in a trusted package (its own `__module__` counts, not the way it was reached) and that is of the type
which its place expects. `torch.serialization.os.system` begins with a trusted name and is refused for both reasons.
"""

import os
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lit_gpt.errors import UserError

_CALLBACKS = (
    "device_stats_monitor", "early_stopping", "gradient_accumulation_scheduler", "lr_monitor", "model_summary",
    "progress", "rich_model_summary", "stochastic_weight_avg", "throughput_monitor", "timer", "weight_averaging",
)  # fmt: skip
#: What files may name without the user's explicit trust. Of torch and lightning the places where components come from;
#: not loggers, profilers, checkpoints and other callbacks, which write files where their arguments say.
TRUSTED = (
    "lit_gpt",
    "torch.nn.modules",
    "torch.optim",
    "lightning.pytorch.strategies",
    "lightning.pytorch.plugins.precision",
    *(f"lightning.pytorch.callbacks.{name}" for name in _CALLBACKS),
)
# Short ways to the same classes, which are checked by where they are defined.
_PUBLIC_NAMES = ("torch.nn", "lightning.pytorch.callbacks")
_DENIED = re.compile(r"Importing '([\w.]+)' is not allowed, denied by")  # jsonargparse's words
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def class_path(cls: type) -> str:
    """The path by which files name a class: `lit_gpt.data.NAME` for a public class of the data, so that files of the
    package may move, else module and name."""
    public = cls.__module__.startswith("lit_gpt.data.") and cls.__qualname__ in sys.modules["lit_gpt.data"].__all__
    return f"lit_gpt.data.{cls.__qualname__}" if public else f"{cls.__module__}.{cls.__qualname__}"


def locate(path: str) -> Any:
    """What a dotted path names; imports its module, so it is for paths that the user typed or that were checked.

    Raises:
        ImportError, AttributeError, or what the module raises: there is none.
    """
    return pkgutil.resolve_name(path)


def trusted_by_user() -> set[str]:
    """Packages in the environment variable LIT_GPT_TRUST, separated by commas or spaces; never the standard library."""
    return set(os.environ.get("LIT_GPT_TRUST", "").replace(",", " ").split()) - set(sys.stdlib_module_names)


def is_trusted(path: str, trust: Iterable[str] = ()) -> bool:
    """Whether a dotted path lies in a trusted package.

    Args:
        path: Of a module or class.
        trust: Packages, or whole paths, that the user trusts besides those of LIT_GPT_TRUST.
    """
    return _lies_in(path, (*TRUSTED, *trust, *trusted_by_user()))


def _lies_in(path: str, packages: Iterable[str]) -> bool:
    return any(path == one or path.startswith(f"{one}.") for one in packages)


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
    if isinstance(path, str) and path.isidentifier():
        path = _known_path(path, expected) or path
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        raise UserError(f"{where}: {str(path)[:80]!r} is not the dotted path of a class")
    if not is_trusted(path, trust) and path.rpartition(".")[0] not in _PUBLIC_NAMES:
        raise _untrusted(path, where)
    try:
        found = locate(path)
    except Exception as error:  # of the user's own module, any
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


def _known_path(name: str, expected: type | tuple[type, ...]) -> str | None:
    """The path of a class that is there already, by its name alone, as the configuration parser takes it."""
    waiting = list(expected) if isinstance(expected, tuple) else [expected]
    while waiting:
        cls = waiting.pop()
        if cls.__name__ == name:
            return f"{cls.__module__}.{cls.__qualname__}"
        waiting += type.__subclasses__(cls) if cls is not object else []
    return None


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


def refuse_functions(values: Any, where: object) -> None:
    """Refuses a `class_path` in a settings file that is a function or a class of Python's own library.

    The user vouches for the packages that such a file names, but the parser would call a function with what the file
    says where a component is wanted. A path that cannot be resolved is left to the parser, which names the nearest.

    Raises:
        UserError: naming the file and the path.
    """
    for path in class_paths_in(values):
        if not _PATH.fullmatch(path):
            continue
        try:
            found = locate(path)
        except Exception:  # of a module of the user's, any
            continue
        if not isinstance(found, type) or found.__module__.partition(".")[0] in sys.stdlib_module_names:
            raise UserError(f"{where} names {path}, which is not the class of a component; name a class")


def needed_trust(values: Any) -> list[str]:
    """What LIT_GPT_TRUST has to hold so that a file with these values is taken: the packages of their classes."""
    named = {*class_paths_in(values), *_dotted_classes(values)}
    lacking = {path for path in named if not _lies_in(path, TRUSTED) and path.rpartition(".")[0] != "torch.nn"}
    return sorted({path.partition(".")[0] for path in lacking if "." in path})


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
        trust: Packages, or whole paths, that the user typed; also those of classes that the user named in short.
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
    if is_trusted(package) or package in {"torch", "lightning", *sys.stdlib_module_names}:
        return UserError(f"{where} names {path}, which is not a component; such names are never taken from a file")
    return UserError(
        f"{where} names the class {path}, which is code outside lit_gpt; "
        f"if you trust the package, set LIT_GPT_TRUST={package} (in Python: trust=['{package}'])"
    )
