"""The dotted name by which a class is kept in files: that of this package's own does not change when files move.

Knows: names. Does not know: classes.
"""

from lit_gpt import data


def class_path(cls: type) -> str:
    """`lit_gpt.data.NAME` for a public class of the data, else module and name."""
    own = cls.__module__.startswith("lit_gpt.data.") and cls.__qualname__ in data.__all__
    return f"lit_gpt.data.{cls.__qualname__}" if own else f"{cls.__module__}.{cls.__qualname__}"
