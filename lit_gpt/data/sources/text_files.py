"""TextFiles: documents from plain text files, read as a stream."""

from collections.abc import Iterator
from pathlib import Path

from lit_gpt.data.chunks import Chunk
from lit_gpt.data.sources.csv_files import Csv
from lit_gpt.data.sources.files import ends_in, names
from lit_gpt.data.sources.json_lines import JsonLines
from lit_gpt.data.sources.source import FileSource
from lit_gpt.data.sources.streams import text_blocks
from lit_gpt.errors import UserError


class TextFiles(FileSource):
    """UTF-8 text from files, folders and globs; a file is one document unless a separator cuts it.

    A folder is searched through all its subfolders, in the order of names; hidden, empty and binary files in it,
    archives, UTF-16 text and links to folders are passed over and counted. A file that is named itself has to be UTF-8
    text. Files named .gz, .bz2, .xz and .zst are decompressed as they are read.

    Args:
        paths: A file, a folder or a glob (`books/**/*.txt`), or a list of them, read in the order given.
        separator: Text between documents inside a file, \\n\\n for a blank line; by default a file is one document.
    """

    def __init__(self, paths: str | list[str], separator: str | None = None) -> None:
        super().__init__(paths)
        # A command line has no other way of typing a line break.
        self.separator = separator and separator.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t")
        if separator == "":
            raise UserError("separator of TextFiles is empty; leave it out to take each file as one document")
        self._uncut: dict[Path, bool] = {}  # files in which no separator was met, and whether lines end in \r\n there

    def notes(self) -> list[str]:
        notes = []
        files = self.read_files()
        for reader in (JsonLines, Csv):
            if records := [path for path in files if ends_in(path, reader.endings)]:
                are, kind = "is" if len(records) == 1 else "are", reader.__name__
                notes.append(f"{names(records)} {are} read as plain text, marks and all; {kind} takes the text out")
        if self._uncut:
            documents = "which is one document" if len(self._uncut) == 1 else "each of which is one document"
            note = f"the separator {self.separator!r} is nowhere in {names(list(self._uncut))}, {documents}"
            notes.append(note + ("; lines end in \\r\\n there" if any(self._uncut.values()) else ""))
        return notes

    def read(self, path: Path) -> Iterator[Chunk]:
        """The documents of a file; of one that ends in a later block, what there is so far."""
        where, begins, held = str(path), True, ""
        uncut, returns = self.separator is not None, False
        for block, last in _marked(text_blocks(path)):
            *ended, rest = (held + block).split(self.separator) if self.separator else [block]
            uncut, returns = uncut and not ended, returns or (uncut and "\r\n" in block)
            if last and uncut:
                self._uncut[path] = returns
            for text in ended:
                if text or not begins:  # two separators in a row hold no document between them
                    yield Chunk(text, begins, True, None, where)
                begins = True
            # A separator may have begun with the end of the block.
            held = "" if last or self.separator is None else _start_of(self.separator, rest)
            rest = rest.removesuffix(held)
            if last and (rest or not begins):
                yield Chunk(rest, begins, True, None, where)
            elif rest and not last:
                yield Chunk(rest, begins, False, None, where)
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
