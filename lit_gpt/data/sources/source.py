"""Source: the base of all sources of text; FileSource: the base of those that read local files.

A source yields documents (a text or a record each), in an order that depends on the text alone, every time it is
iterated.
"""

from collections.abc import Iterator
from pathlib import Path

from lit_gpt.data.chunks import Chunk, Content, whole
from lit_gpt.data.sources.files import Found, not_read_lines, search, stat_signature
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
        """Yields the documents as preparation reads them: with their places, long ones in several chunks."""
        if type(self).__iter__ is Source.__iter__:
            raise not_implemented(self, "__iter__")
        return (Chunk(document) for document in self)

    def __call__(self) -> "Source":
        """Returns self, so that an instance works as a factory."""
        return self

    def describe(self) -> str:
        """Class and arguments in one line, for reports."""
        arguments = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if not key.startswith("_"))
        return f"{type(self).__name__}({arguments})"

    def signature(self) -> str | None:
        """A cheap hash that changes whenever the text can have changed; None where only reading it all tells."""
        return None

    def own_split(self, split: str) -> "Source | None":
        """The publisher's own val or test split, where there is one; it takes precedence over a share of the text."""
        return None

    def read_files(self) -> list[Path]:
        """The files on this machine that it reads, as far as it knows them."""
        return []

    def not_read(self) -> list[str]:
        """A line for each reason why something that was named, or is in a named folder, is not read; counted."""
        return []

    def notes(self) -> list[str]:
        """Lines for the report after a whole reading: what was read how often, what was dropped and why."""
        return []


class FileSource(Source):
    """The base of sources that read local files in turn. A subclass writes `read`.

    Args:
        paths: A file, a folder or a glob, or a list of them, read in the order given.
    """

    #: What the names of files in a folder end in; None takes all that are text.
    endings: tuple[str, ...] | None = None
    _found: Found | None = None  # by the last search

    def __init__(self, paths: str | list[str]) -> None:
        self.paths = paths

    def read(self, path: Path) -> Iterator[Chunk]:
        """The documents of one file."""
        raise not_implemented(self, "read")

    def chunks(self) -> Iterator[Chunk]:
        for path in self.files():
            yield from self.read(path)

    def signature(self) -> str | None:
        arguments = {key: value for key, value in vars(self).items() if key != "paths" and key[0] != "_"}
        return stat_signature(self.files(), f"{type(self).__qualname__} {sorted(arguments.items())}")

    def files(self) -> list[Path]:
        """The files that will be read, in order, each once.

        Raises:
            UserError: A path that does not exist, a glob that matches nothing, a folder with no text, an empty file.
        """
        self._found = search(self.paths, type(self).__name__, self.endings)
        return self._found.files

    def read_files(self) -> list[Path]:
        return self.files() if self._found is None else self._found.files

    def not_read(self) -> list[str]:
        return not_read_lines((self._found or search(self.paths, type(self).__name__, self.endings)).not_read)
