"""Csv: documents from files of comma-separated values."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from lit_gpt.data.sources.record_files import RecordFiles, no_field
from lit_gpt.data.sources.streams import text_lines
from lit_gpt.errors import UserError

Quoting = Literal["minimal", "none"]


class Csv(RecordFiles):
    """Files of values with a header line (.csv, .tsv), also compressed (.gz, .bz2, .xz, .zst); each row is a record.

    Values may be quoted, and hold line breaks then. Of a folder, files with these endings are read, through all its
    subfolders in the order of names; blank lines are passed over.

    Args:
        paths: A file, a folder or a glob (`data/**/*.csv`), or a list of them, read in the order given.
        field: The column that holds the text; null gives a data.format whole records.
        delimiter: The character between values, \\t for a tab; by default a comma, in files named .tsv a tab.
        quoting: minimal: a value that begins with " extends to the next lone one, over line breaks too; such rows are
            counted. none: " is a character like any other and each line is a row, as in many .tsv files.
    """

    endings = (".csv", ".tsv")

    def __init__(
        self,
        paths: str | list[str],
        field: str | None = "text",
        delimiter: str | None = None,
        quoting: Quoting = "minimal",
    ) -> None:
        super().__init__(paths, field)
        self.quoting = quoting
        self._several_lines: dict[Path, tuple[int, str]] = {}  # how many rows go over line breaks; where the first is
        # A command line has no other way of typing a tab.
        self.delimiter = None if delimiter is None else delimiter.replace("\\t", "\t")
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise UserError(f"delimiter {delimiter!r} of Csv is not one character between values; give , or ; or \\t")

    def records(self, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        csv.field_size_limit(2**31 - 1)  # for the whole process: its default, 128 KiB, refuses a long document
        delimiter = self.delimiter or ("\t" if ".tsv" in (suffix.lower() for suffix in path.suffixes) else ",")
        quoting: Literal[0, 3] = csv.QUOTE_NONE if self.quoting == "none" else csv.QUOTE_MINIMAL
        rows = csv.reader(text_lines(path), delimiter=delimiter, strict=True, quoting=quoting)
        names: list[str] | None = None
        several, first = 0, ""  # rows that go over line breaks
        while True:
            before = rows.line_num
            where = f"{path}:{before + 1}"
            try:
                row = next(rows, None)
            except csv.Error as error:
                raise UserError(
                    f"{where} is no row of CSV ({error}); quote values that hold quotes or line breaks, and double the"
                    " quotes in them, or give quoting none where they are part of the text"
                ) from None
            if row is None:
                self._several_lines[path] = several, first
                return
            if rows.line_num > before + 1:
                several, first = several + 1, first or where
            if not row:  # a blank line
                continue
            if names is None:
                names = self._header(row, where)
            elif len(row) != len(names):
                raise UserError(
                    f"{where} has {len(row)} value(s) and the header has {len(names)}; quote values that hold"
                    f" {delimiter!r} or line breaks, or give the delimiter, or quoting none where quotation marks are"
                    " part of the text"
                )
            else:
                yield where, dict(zip(names, row, strict=True))

    def notes(self) -> list[str]:
        """How many rows go over several lines, which a lone quotation mark can do to rows that are one line each."""
        lines = []
        for path, (count, first) in self._several_lines.items():
            if count:
                rows = f"{count:,} row of {path.name} holds" if count == 1 else f"{count:,} rows of {path.name} hold"
                lines.append(
                    f"{rows} line breaks between quotation marks, the first at {first}; where these marks are part of"
                    " the text, give quoting none"
                )
        return lines

    def _header(self, names: list[str], where: str) -> list[str]:
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"{where}: the header has {twice[0]!r} twice; give each column a name of its own")
        if self.field is not None and self.field not in names:
            raise no_field(self.field, names, where)
        return names
