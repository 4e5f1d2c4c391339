"""Filters: which documents of a text are dropped, and why."""

from typing import Any

from lit_gpt.config.class_paths import class_path
from lit_gpt.data.chunks import Content
from lit_gpt.errors import UserError, not_implemented


class Filter:
    """The base of all filters. A subclass writes `keeps`; it is asked about each document once, in the text's order."""

    def __call__(self) -> "Filter":
        """Returns self, so that an instance works as a factory."""
        return self

    @property
    def reason(self) -> str:
        """Why a document is dropped, in few words for the report: "shorter than 20 characters"."""
        raise not_implemented(self, "reason")

    def start(self) -> None:
        """Forgets what was seen, at the start of a text."""

    def keeps(self, text: str) -> bool:
        """Whether the document is kept."""
        raise not_implemented(self, "keeps")

    def keeps_document(self, content: Content, text: str) -> bool:
        """Whether the document is kept, for filters that look at more of a record than its text.

        Args:
            content: The document.
            text: Its text; of a record all its strings, a line each.
        """
        return self.keeps(text)

    def configuration(self) -> dict[str, Any]:
        """Class and arguments."""
        arguments = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        return {"class_path": class_path(type(self)), "init_args": arguments}


class Length(Filter):
    """Documents that are neither too short nor too long.

    Args:
        min_chars: Fewest characters of a document; by default any number.
        max_chars: Most characters of a document; by default any number.
    """

    def __init__(self, min_chars: int | None = None, max_chars: int | None = None) -> None:
        if min_chars is None and max_chars is None:
            raise UserError("filter Length has neither min_chars nor max_chars, so it would drop nothing; give one")
        if (min_chars or 0) < 0 or (max_chars is not None and max_chars < max(min_chars or 0, 1)):
            raise UserError(
                f"filter Length: no document fits min_chars {min_chars} and max_chars {max_chars}; change one"
            )
        self.min_chars, self.max_chars = min_chars, max_chars

    @property
    def reason(self) -> str:
        """Which bound it is past."""
        bounds = [f"shorter than {self.min_chars:,}"] if self.min_chars is not None else []
        bounds += [f"longer than {self.max_chars:,}"] if self.max_chars is not None else []
        return f"{' or '.join(bounds)} characters"

    def keeps(self, text: str) -> bool:
        """Whether the length lies between the bounds."""
        return (self.min_chars or 0) <= len(text) and (self.max_chars is None or len(text) <= self.max_chars)
