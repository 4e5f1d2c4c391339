"""One reading of a text before it is encoded: what it is, how much there is, which documents stay.

Knows: sources, filters, a cache of what was found. Does not know: tokens, splits.
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lit_gpt import atomic_io
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.chunks import Chunk, bytes_of, text_of, whole
from lit_gpt.data.filters.filter import Filter
from lit_gpt.data.folders import cache_folder, disk_hints, make_folder
from lit_gpt.data.progress import Progress
from lit_gpt.data.sources.source import Source
from lit_gpt.errors import UserError

_VERSION = 3
_EMPTY = "empty"


class Scan(NamedTuple):
    """What one reading of a text tells; counts are of the documents that stay.

    fingerprint: of the text that stays. longest: characters of the longest document. dropped: documents by reason, and
    dropped_characters what they held. verdicts: file with a byte for each document (0: it stays), None where all stay.
    """

    fingerprint: str
    documents: int
    characters: int
    bytes: int
    longest: int
    dropped: dict[str, int]
    dropped_characters: int
    verdicts: str | None


def scan(source: Source, filters: list[Filter] = []) -> Scan:  # noqa: B006  # never changed
    """Reads a text once; what is found is remembered by the cheap signature of sources that have one.

    Raises:
        UserError: there is no text, or the filters leave none.
    """
    rules = json.dumps([_VERSION, *(one.configuration() for one in filters)], sort_keys=True, default=str)
    signature = source.signature()
    key = None if signature is None else hashlib.sha256(f"{signature} {rules}".encode()).hexdigest()[:32]
    return (None if key is None else _remembered(key)) or _read(source, filters, rules, key)


def staying(source: Source, found: Scan, joined: bool) -> Iterator[Chunk]:
    """The chunks of the documents that stay.

    Args:
        source: The text.
        found: Its scan.
        joined: Each document in one chunk, however long.

    Raises:
        UserError: it is not the text that was scanned any more.
    """
    verdicts = None if found.verdicts is None else np.fromfile(cache_folder() / "scans" / found.verdicts, np.uint8)
    digest, number, stays = _Digest(), -1, True
    for chunk in whole(source.chunks()) if joined or verdicts is not None else source.chunks():
        if chunk.begins:
            number += 1
            stays = not _is_empty(chunk)
            if verdicts is not None:
                stays = number < len(verdicts) and not verdicts[number]
        if stays:
            digest.add(chunk)
            yield chunk
    if digest.hex() != found.fingerprint:
        raise UserError(f"the text of {source.describe()} changed while it was prepared; run the same again")


def _read(source: Source, filters: list[Filter], rules: str, key: str | None) -> Scan:
    for one in filters:
        one.start()
    digest, verdicts, dropped = _Digest(), array("B"), Counter[str]()
    documents = characters = size = longest = length = lost = 0
    stays = True
    with Progress("reading text") as progress:
        for chunk in whole(source.chunks()) if filters else source.chunks():
            text = text_of(chunk.content)
            progress.advance(len(text))
            if chunk.begins:
                verdict, reason = _judged(chunk, text, filters)
                stays, length = not verdict, 0
                if filters:
                    verdicts.append(verdict)
                dropped.update([reason] if verdict else [])
            if not stays:
                lost += len(text)
                continue
            size += digest.add(chunk)
            characters, length = characters + len(text), length + len(text)
            documents, longest = documents + chunk.ends, max(longest, length)
    if not characters:
        raise UserError(_nothing_left(source, dropped))
    held = None
    if any(verdicts):
        # By what it holds: another text may leave the same documents after others were left out.
        held = _verdicts_name(verdicts.tobytes())
        make_folder(cache_folder() / "scans")
        with disk_hints(cache_folder() / "scans"):
            _write(cache_folder() / "scans" / held, verdicts.tobytes())
    result = Scan(digest.hex(), documents, characters, size, longest, dict(dropped), lost, held)
    if key is not None:
        _write(cache_folder() / "scans" / f"{key}.json", json.dumps(result._asdict()).encode())
    return result


def _judged(chunk: Chunk, text: str, filters: list[Filter]) -> tuple[int, str]:
    if _is_empty(chunk):
        return 255, _EMPTY
    for number, one in enumerate(filters):
        if not one.keeps_document(chunk.content, text):
            return number + 1, one.reason
    return 0, ""


def _is_empty(chunk: Chunk) -> bool:
    return not chunk.content and chunk.begins and chunk.ends


def _nothing_left(source: Source, dropped: Counter[str]) -> str:
    left_out = Counter({reason: count for reason, count in dropped.items() if reason != _EMPTY})
    if not left_out:
        return f"{source.describe()} gives no text; check its arguments"
    why = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common())
    return f"the filters leave nothing of {source.describe()} ({why}); make them wider (data.filters)"


def _remembered(key: str) -> Scan | None:
    try:
        found = Scan(**parse_json((cache_folder() / "scans" / f"{key}.json").read_text()))
        if found.verdicts is not None:
            held = (cache_folder() / "scans" / found.verdicts).read_bytes()
            if found.verdicts != _verdicts_name(held):
                return None
        return found
    except (OSError, ValueError, TypeError):
        return None  # not there, or not readable: it is only a shortcut


def _verdicts_name(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()[:32]}.verdicts"


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_io.staged_file(path) as file:
            file.write(content)
    except OSError:
        if path.suffix == ".verdicts":  # without it the filters would be forgotten
            raise


class _Digest:
    """A fingerprint of documents one after the other, the same however they are cut into chunks."""

    def __init__(self) -> None:
        self._hash: Any = hashlib.sha256()
        self._length = 0

    def add(self, chunk: Chunk) -> int:
        """Takes a chunk; returns the bytes of its text."""
        encoded = bytes_of(chunk.content)
        self._hash.update(encoded)
        self._length += len(encoded)
        if chunk.ends:  # what it was and where it ended: "ab", "c" is not "a", "bc"
            kind = b"t" if isinstance(chunk.content, str) else b"r"
            self._hash.update(self._length.to_bytes(8, "little") + kind + (chunk.tag or "").encode())
            self._length = 0
        return len(encoded if isinstance(chunk.content, str) else text_of(chunk.content).encode("utf-8", "ignore"))

    def hex(self) -> str:
        """32 hexadecimal digits."""
        return str(self._hash.hexdigest()[:32])
