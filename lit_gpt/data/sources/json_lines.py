"""JsonLines: documents from files with a JSON record on each line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_gpt.data.sources.record_files import RecordFiles, check_unicode
from lit_gpt.data.sources.streams import byte_lines, not_utf8
from lit_gpt.errors import UserError


class JsonLines(RecordFiles):
    """Files with a JSON record on each line (.jsonl, .ndjson), also compressed (.gz, .bz2, .xz, .zst).

    Of a folder, files with these endings are read, through all its subfolders in the order of names; blank lines are
    passed over.

    Args:
        paths: A file, a folder or a glob (`data/**/*.jsonl.zst`), or a list of them, read in the order given.
        field: The field that holds the text, meta.body for one inside another; null gives a data.format whole records.
    """

    endings = (".jsonl", ".ndjson")

    def records(self, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        for number, offset, line in byte_lines(path):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                record = json.loads(line.decode("utf-8"), object_pairs_hook=_each_once)
            except UnicodeDecodeError as error:
                raise not_utf8(path, line[error.start], offset + error.start, number) from None
            except (ValueError, RecursionError) as error:
                what = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
                raise UserError(
                    f"{where} (byte {offset}) is no JSON record: {what}; each line has to be one whole record"
                ) from None
            if not isinstance(record, dict):
                raise UserError(
                    f"{where} (byte {offset}) is JSON but no record ({type(record).__name__}); each line has to be one"
                    ' record, such as {"text": "..."}'
                )
            # Only an escape can spell half a surrogate pair; most lines have none.
            if b"\\ud" in line or b"\\uD" in line:
                check_unicode(record, f"{where} (byte {offset})")
            yield where, record


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A record; one that has a key twice, of which JSON's reader would keep the last, is refused."""
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice!r} is there twice")
    return record
