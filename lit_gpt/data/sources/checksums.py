"""Checksums of files, and the lock file that records them where a publisher states none."""

import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any

from lit_gpt import atomic_io
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.folders import make_folder
from lit_gpt.data.progress import Progress
from lit_gpt.errors import UserError

_DIGITS = {"sha256": 64, "md5": 32, "git": 40}
_BLOCK = 1 << 20


def parse(checksum: str) -> tuple[str, str]:
    """`sha256:…`, `md5:…` or `git:…` (git's name of a file's content) as kind and hexadecimal digits."""
    kind, _, value = checksum.strip().partition(":")
    value = value.strip().lower()
    if kind not in _DIGITS or not re.fullmatch(rf"[0-9a-f]{{{_DIGITS.get(kind, 0)}}}", value):
        raise UserError(
            f"checksum {checksum!r} is none; give sha256: and 64 hexadecimal digits, md5: and 32 or git: and 40, or"
            " leave it out"
        )
    return kind, value


def digest(path: Path, kind: str) -> str:
    """The checksum of a file in hexadecimal digits; of the kinds that `parse` knows."""
    size = path.stat().st_size
    # What is guarded against is damage and change; a machine in FIPS mode refuses md5 and sha1 without this word.
    computed = hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False)
    if kind == "git":
        computed.update(b"blob %d\0" % size)
    with path.open("rb") as file, Progress(f"checking {path.name}", size, "bytes") as progress:
        while block := file.read(_BLOCK):
            computed.update(block)
            progress.advance(len(block))
    return computed.hexdigest()


class LockFile:
    """Checksums of files as they were first downloaded, in JSON that reads well in a version control's difference.

    Args:
        path: Where; made when the first checksum is recorded.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, address: str) -> dict[str, Any] | None:
        """What was recorded of an address: sha256, bytes and the day; None if nothing was."""
        entry = self._read().get(address)
        if entry is not None and not (isinstance(entry, dict) and isinstance(entry.get("sha256"), str)):
            raise UserError(f"{self.path} has no sha256 for {address}; fix the entry or remove it")
        return entry

    def record(self, address: str, sha256: str, size: int) -> None:
        """Adds an address; what other processes record at the same time stays."""
        make_folder(self.path.absolute().parent)
        with atomic_io.lock_file(self.path.with_name(f".{self.path.name}.lock")):
            entries = self._read()
            entries[address] = {"sha256": sha256, "bytes": size, "recorded": time.strftime("%Y-%m-%d")}
            text = json.dumps(entries, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
            atomic_io.write_bytes(self.path, text.encode())

    def _read(self) -> dict[str, Any]:
        try:
            entries = parse_json(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise UserError(f"lock file {self.path} is not valid ({error}); fix or delete it") from None
        if not isinstance(entries, dict):
            raise UserError(f"{self.path} is not a valid lock file: it holds no addresses; fix or delete it")
        return entries
