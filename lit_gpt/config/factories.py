"""Factories as plain `functools.partial` objects: a class with its arguments, and nothing of the parser that read them.

jsonargparse hands over a partial that calls the class through the parser, so keeping it keeps the parser, the
command line and all that these hold (loggers, an open lock), and can be neither copied nor pickled.
"""

from functools import partial
from typing import Any


def unwrap(value: Any) -> Any:
    """The same factory, or list or dict of factories, without the parser; all other values are returned as they are."""
    if isinstance(value, list):
        return [unwrap(item) for item in value]
    if isinstance(value, dict):
        return {key: unwrap(item) for key, item in value.items()}
    if not isinstance(value, partial):
        return value
    keywords = {name: unwrap(item) for name, item in value.keywords.items()}
    if (getattr(value.func, "__module__", None) or "").partition(".")[0] == "jsonargparse":
        # (how to call, the class, arguments of the class): the class is the first type among them.
        first = next((n for n, item in enumerate(value.args) if isinstance(item, type)), None)
        if first is not None:
            return partial(value.args[first], *map(unwrap, value.args[first + 1 :]), **keywords)
    return partial(value.func, *map(unwrap, value.args), **keywords)


def as_list(given: Any) -> list[Any]:
    """A list as it is, nothing as an empty list, one factory as a list of one."""
    return list(given) if isinstance(given, list) else [] if given is None else [given]
