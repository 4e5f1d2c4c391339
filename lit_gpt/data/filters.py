"""Which documents are left out of a text, and why.

Knows: texts, one after the other. Does not know: tokens, splits, files of ids.
"""

from typing import Any


class Filter:
    """The base of all filters. A subclass writes `keeps`; it is asked about each document once, in the text's order."""

    def __call__(self) -> "Filter":
        """Itself, so that a made filter may stand where a class to be made is expected."""
        return self

    @property
    def reason(self) -> str:
        """Why a document is left out, in few words for the report: "shorter than 20 characters"."""
        raise NotImplementedError

    def start(self) -> None:
        """Forgets what was seen: a text begins."""

    def keeps(self, text: str) -> bool:
        """Whether the document stays."""
        raise NotImplementedError

    def configuration(self) -> dict[str, Any]:
        """Class and arguments: what decides which documents stay."""
        cls = type(self)
        arguments = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": arguments}
