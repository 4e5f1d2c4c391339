"""A file of lines that grows for long, goes on exactly where it was stopped, and gets its name when it is done.

Knows: lines, bytes, counts, the disk. Does not know: what the lines say.

Lines go into FILE.part. How many of its bytes are sure stands in FILE.json, which is written after them; whatever a
killed process wrote beyond is cut off and made again. At the end FILE.part becomes FILE.
"""

import errno
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lit_gpt import atomic_io
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.folders import write_json
from lit_gpt.errors import UserError

_VERSION = 1
_SAVE_EVERY = 2.0  # seconds of work that may be lost


class GrowingFile:
    """Appends lines, and remembers with each save what was counted up to there.

    Args:
        out: The file.
        what: What is written, in words, for the record and for errors.
        facts: What decides the lines; a file of other facts is refused.
        counts: Names of what is counted.
    """

    def __init__(self, out: Path, what: str, facts: dict[str, Any], counts: Sequence[str]) -> None:
        self.out, self.what, self.facts = out, what, {"format": f"lit_gpt {what}", "version": _VERSION, **facts}
        self.counts = dict.fromkeys(counts, 0)
        self.finished, self._bytes = False, 0
        self._part, self._record = out.with_name(f"{out.name}.part"), out.with_name(f"{out.name}.json")

    def __enter__(self) -> "GrowingFile":
        try:
            self.out.absolute().parent.mkdir(parents=True, exist_ok=True)
            self._lock = atomic_io.lock_file(self.out.with_name(f".{self.out.name}.lock"), timeout=0)
        except TimeoutError:
            raise UserError(f"another process writes {self.out}; wait for it, or give another file") from None
        except OSError as fault:
            raise self._told(fault) from None
        try:
            self._open()
        except OSError as fault:
            self._lock.close()
            raise self._told(fault) from None
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if not self.finished:
                self._save()  # also after Ctrl-C
                self._file.close()
        except OSError as fault:
            raise self._told(fault) from None
        finally:
            self._lock.close()

    def add(self, lines: Iterable[str], counts: dict[str, int]) -> None:
        """Appends lines and what they add to the counts; now and then waits until the disk has all."""
        try:
            added = "".join(f"{line}\n" for line in lines).encode()
            self._file.write(added)
            self._bytes += len(added)
            self.counts = {name: number + counts[name] for name, number in self.counts.items()}
            if time.monotonic() - self._saved > _SAVE_EVERY:
                self._save()
        except OSError as fault:
            raise self._told(fault) from None

    def finish(self) -> None:
        """Gives the file its name."""
        try:
            self._save()
            self._file.close()
            atomic_io.rename(self._part, self.out)
        except OSError as fault:
            raise self._told(fault) from None
        self.finished = True

    def _open(self) -> None:
        record = self._read_record()
        if self.out.exists():
            self._check(record, f"{self.out} is there already")
            self.counts, self.finished = record["counts"], True
            return
        # A record without its file is of one that was finished and moved away; an empty file has none yet.
        if self._part.exists() and self._part.stat().st_size + (record is not None):
            self._check(record, f"{self._part} is there already")
            self.counts, self._bytes = record["counts"], record["bytes"]
        self._file = self._part.open("r+b" if self._part.exists() else "w+b")
        size = self._file.seek(0, os.SEEK_END)
        if size < self._bytes:
            self._file.close()
            raise UserError(
                f"{self._part} has {size:,} of {self._bytes:,} bytes that were written; remove it to start anew"
            )
        self._file.truncate(self._bytes)
        self._file.seek(self._bytes)
        self._save()

    def _read_record(self) -> Any:
        try:
            return parse_json(self._record.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:
            raise UserError(f"{self._record} is not readable; remove it and {self._part} to start anew") from None

    def _check(self, record: Any, there: str) -> None:
        """Refuses what is not the work that is asked for."""
        another = "give another file, or remove it"
        if not isinstance(record, dict) or not {"format", "counts", "bytes"} <= record.keys():
            record = {}
        if record.get("format") != self.facts["format"] or record["counts"].keys() != self.counts.keys():
            raise UserError(f"{there}, and was not written by {self.what}; {another}")
        if changed := [key for key, value in _flat(self.facts).items() if _flat(record).get(key) != value]:
            key = changed[0]
            old, new = _flat(record).get(key), _flat(self.facts)[key]
            more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
            raise UserError(f"{there}, made with {key} {old!r}, not {new!r}{more}; {another} and {self._record}")

    def _save(self) -> None:
        """Waits until the disk has the lines, then says so in the record."""
        atomic_io.fsync_file(self._file)
        write_json(self._record, {**self.facts, "counts": self.counts, "bytes": self._bytes})
        self._saved = time.monotonic()

    def _told(self, fault: OSError) -> UserError:
        full = fault.errno in (errno.ENOSPC, errno.EDQUOT)
        would = "free some space and run it again, it goes on where it stopped" if full else "give another file"
        return UserError(f"{self.out} cannot be written ({fault.strerror}); {would}")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values of dicts within dicts, by the last two of their names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{key} ") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
