"""Where text comes from: the base of all sources, and those that need nothing but Python.

Knows: how documents are found and read. Does not know: tokenizers, splits, files of ids.

A source yields documents (a text or a record each), in an order that depends on the text alone, every time it is
iterated.
"""

import os
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from lit_gpt.data.documents import Content, Passage, whole
from lit_gpt.data.finding import stat_signature
from lit_gpt.errors import UserError


class Source:
    """The base of all sources. A subclass writes `__iter__` or `passages`, and `signature` where it is cheap."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Names of the special tokens that its passages carry as tags."""
        return ()

    @property
    def repeats(self) -> bool:
        """Whether documents may come again, so that only a split by hash keeps training and validation apart."""
        return False

    def __iter__(self) -> Iterator[Content]:
        """Yields the documents, each whole."""
        return (passage.content for passage in whole(self.passages()))

    def passages(self) -> Iterator[Passage]:
        """Yields the documents as preparation reads them: with their places, long ones in stretches."""
        if type(self).__iter__ is Source.__iter__:
            raise NotImplementedError
        return (Passage(document) for document in self)

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

    def notes(self) -> list[str]:
        """Lines for the report, after a whole reading: what was read how often, what was left out and why."""
        return []


class StandardLibrary(Source):
    """The source text of the running Python's standard library: one document per .py file, in the order of their names.

    Tests, installed packages and files that are not UTF-8 are left out, and so are `encodings` and `pydoc_data`, which
    hold tables of characters and pages of prose rather than code.

    Args:
        limit: Most bytes to take, in whole files (those that do not fit any more are passed over); null takes all,
            some 10 MB.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        if limit is not None and limit < 1:
            raise UserError(f"limit {limit} of StandardLibrary leaves no text; give a number of bytes, or null for all")

    def passages(self) -> Iterator[Passage]:
        taken = 0
        for path in self.files():
            try:
                text = path.read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                continue
            if not text:
                continue
            size = len(text.encode("utf-8"))
            if self.limit is not None and taken + size > self.limit:
                continue
            taken += size
            yield Passage(text, where=str(path))

    def signature(self) -> str | None:
        return stat_signature(self.files(), f"{platform.python_version()} {self.limit}")

    def files(self) -> list[Path]:
        """The .py files, in order."""
        root = Path(sysconfig.get_path("stdlib"))
        left_out = {
            "test",
            "tests",
            "idle_test",
            "site-packages",
            "dist-packages",
            "__pycache__",
            "encodings",
            "pydoc_data",
        }
        found = []
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if name not in left_out and not name.startswith("config-"))
            found += [
                Path(folder, name) for name in names if name.endswith(".py") and not name.startswith("_sysconfigdata")
            ]
        if not found:
            raise UserError(f"this Python keeps no source text of its standard library in {root}; use TextFiles")
        return sorted(found, key=lambda path: path.relative_to(root).as_posix())
