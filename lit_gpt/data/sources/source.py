"""Where text comes from: the base of all sources, and those that need nothing but Python.

Knows: how documents are found and read. Does not know: tokenizers, splits, files of ids.

A source yields documents (a text or a record each), in an order that depends on the text alone, every time it is
iterated.
"""

from collections.abc import Iterator
from pathlib import Path

from lit_gpt.data.chunks import Chunk, Content, whole
from lit_gpt.errors import not_implemented


class Source:
    """The base of all sources. A subclass writes `__iter__` or `chunks`, and `signature` where it is cheap."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Names of the special tokens that its chunks carry as tags."""
        return ()

    @property
    def repeats(self) -> bool:
        """Whether documents may come again, so that only a split by hash keeps training and validation apart."""
        return False

    def __iter__(self) -> Iterator[Content]:
        """Yields the documents, each whole."""
        return (chunk.content for chunk in whole(self.chunks()))

    def chunks(self) -> Iterator[Chunk]:
        """Yields the documents as preparation reads them: with their places, long ones in stretches."""
        if type(self).__iter__ is Source.__iter__:
            raise not_implemented(self, "__iter__")
        return (Chunk(document) for document in self)

    def __call__(self) -> "Source":
        """Itself, so that a made source may stand where a class to be made is expected."""
        return self

    def describe(self) -> str:
        """Class and arguments in one line, for reports."""
        arguments = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if not key.startswith("_"))
        return f"{type(self).__name__}({arguments})"

    def signature(self) -> str | None:
        """A cheap hash that changes whenever the text can have changed; None where only reading it all tells."""
        return None

    def own_split(self, split: str) -> "Source | None":
        """The text's own val or test split, where its publisher made one; it goes before a share of the text."""
        return None

    def read_files(self) -> list[Path]:
        """The files on this machine that it reads, as far as it knows them."""
        return []

    def not_read(self) -> list[str]:
        """A line for each reason why something that was named, or lies in a named folder, is not read; counted."""
        return []

    def notes(self) -> list[str]:
        """Lines for the report, after a whole reading: what was read how often, what was left out and why."""
        return []
