"""TextFiles: documents out of plain text, read as a stream, however long one is.

Knows: files of text, separators. Does not know: records, tokenizers.
"""

from collections.abc import Iterator
from pathlib import Path

from lit_gpt.data.documents import Passage
from lit_gpt.data.sources.finding import find_files, stat_signature
from lit_gpt.data.sources.opening import text_blocks
from lit_gpt.data.sources.source import Source
from lit_gpt.errors import UserError


class TextFiles(Source):
    """UTF-8 text from files, folders and globs; a file is one document unless a separator cuts it.

    A folder is searched through all its subfolders, in the order of names; hidden, empty and binary files in it are
    passed over. A file that is named itself has to be text. Files named .gz, .bz2, .xz and .zst are decompressed as
    they are read.

    Args:
        paths: A file, a folder or a glob (`books/**/*.txt`), or a list of them, read in the order given.
        separator: Text between documents inside a file, \\n\\n for a blank line; by default a file is one document.
    """

    def __init__(self, paths: str | list[str], separator: str | None = None) -> None:
        self.paths = paths
        # A command line has no other way of typing a line break.
        self.separator = separator and separator.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t")
        if separator == "":
            raise UserError("separator of TextFiles is empty; leave it out to take each file as one document")

    def passages(self) -> Iterator[Passage]:
        for path in self.files():
            yield from self._documents(path)

    def signature(self) -> str | None:
        return stat_signature(self.files(), f"{type(self).__qualname__} {self.separator!r}")

    def files(self) -> list[Path]:
        """The files that will be read, in order, each once.

        Raises:
            UserError: a path that does not exist, a glob that matches nothing, a folder with no text, an empty file.
        """
        return find_files(self.paths, "TextFiles")

    def _documents(self, path: Path) -> Iterator[Passage]:
        """The documents of a file; of one that ends in a later block, what there is so far."""
        where, begins, held = str(path), True, ""
        for block, last in _marked(text_blocks(path)):
            *ended, rest = (held + block).split(self.separator) if self.separator else [block]
            for text in ended:
                if text or not begins:  # two separators in a row hold no document between them
                    yield Passage(text, begins, True, None, where)
                begins = True
            # A separator may have begun with the end of the block.
            held = "" if last or self.separator is None else _start_of(self.separator, rest)
            rest = rest.removesuffix(held)
            if last and (rest or not begins):
                yield Passage(rest, begins, True, None, where)
            elif rest and not last:
                yield Passage(rest, begins, False, None, where)
                begins = False


def _start_of(separator: str, text: str) -> str:
    """The longest end of a text with which a separator could begin."""
    sizes = range(min(len(separator) - 1, len(text)), 0, -1)
    return next((separator[:size] for size in sizes if text.endswith(separator[:size])), "")


def _marked(blocks: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """Blocks with whether they are the last."""
    held: str | None = None
    for block in blocks:
        if held is not None:
            yield held, False
        held = block
    if held is not None:
        yield held, True
