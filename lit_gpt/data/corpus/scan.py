"""Stage 1 of preparation, scan: reads a text once for its fingerprint, its size and the documents that filters keep."""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lit_gpt import atomic_io
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.chunks import Chunk, bytes_of, text_of, whole
from lit_gpt.data.filters.filter import Filter
from lit_gpt.data.folders import cache_folder, disk_hints, make_folder
from lit_gpt.data.progress import Progress
from lit_gpt.data.sources.source import Source
from lit_gpt.errors import UserError

HELD = 1 << 22  # characters up to which a text is held in memory, so that later stages do not read its source again
_VERSION = 4
_EMPTY = "empty"


@dataclass
class Scan:
    """The result of a scan; counts are of the documents that are kept.

    fingerprint: of the kept text. dropped: documents by reason; dropped_characters: their characters. keep_mask: file
    with a byte per document (1: kept), None without filters that drop any. chunks: the kept text, if it is small.
    """

    fingerprint: str
    documents: int
    characters: int
    dropped: dict[str, int]
    dropped_characters: int
    keep_mask: str | None
    chunks: list[Chunk] | None = field(default=None, compare=False, repr=False)


def scan(source: Source, filters: Sequence[Filter] = ()) -> Scan:
    """Scans a text; the result is cached by the signature of the source, where it has one.

    Raises:
        UserError: There is no text, or the filters keep none.
    """
    settings = json.dumps([_VERSION, *(one.configuration() for one in filters)], sort_keys=True, default=str)
    signature = source.signature()
    key = None if signature is None else hashlib.sha256(f"{signature} {settings}".encode()).hexdigest()[:32]
    if key is not None and (cached := _read_cache(key)) is not None:
        return cached
    for one in filters:
        one.start()
    digest, keep_mask, dropped = _Digest(), array("B"), Counter[str]()
    documents = characters = dropped_characters = 0
    held: list[Chunk] | None = []
    reason: str | None = None
    with Progress("reading text") as progress:
        for chunk in whole(source.chunks()) if filters else source.chunks():
            text = text_of(chunk.content)
            progress.advance(len(text))
            if chunk.begins:
                reason = _reason_to_drop(chunk, text, filters)
                if filters:
                    keep_mask.append(reason is None)
                dropped.update([reason] if reason else [])
            if reason is not None:
                dropped_characters += len(text)
                continue
            digest.add(chunk)
            documents, characters = documents + chunk.ends, characters + len(text)
            if characters > HELD:
                held = None
            if held is not None:
                held.append(chunk)
    if not characters:
        raise UserError(_nothing_kept(source, dropped))
    mask_file = None
    if not all(keep_mask):
        # Named by its content: another text may keep the same documents after others were dropped.
        mask_file = _mask_name(keep_mask.tobytes())
        make_folder(_folder())
        with disk_hints(_folder()):
            _write(_folder() / mask_file, keep_mask.tobytes())
    result = Scan(digest.hex(), documents, characters, dict(dropped), dropped_characters, mask_file)
    if key is not None:
        try:
            _write(_folder() / f"{key}.json", json.dumps(asdict(result)).encode())
        except OSError:
            pass  # only a shortcut
    result.chunks = held
    return result


def kept(source: Source, scan: Scan, divisible: bool) -> Iterator[Chunk]:
    """The chunks of the documents that are kept.

    Args:
        source: The text.
        scan: Its scan.
        divisible: A long document may come in several chunks.

    Raises:
        UserError: The text has changed since it was scanned.
    """
    if scan.chunks is not None:
        yield from scan.chunks if divisible else whole(scan.chunks)
        return
    mask = None if scan.keep_mask is None else np.fromfile(_folder() / scan.keep_mask, np.uint8)
    digest, number, keep = _Digest(), -1, True
    for chunk in source.chunks() if divisible and mask is None else whole(source.chunks()):
        if chunk.begins:
            number += 1
            keep = not _is_empty(chunk) if mask is None else number < len(mask) and bool(mask[number])
        if keep:
            digest.add(chunk)
            yield chunk
    if digest.hex() != scan.fingerprint:
        raise UserError(f"the text of {source.describe()} changed while it was prepared; run the same again")


def _reason_to_drop(chunk: Chunk, text: str, filters: Sequence[Filter]) -> str | None:
    if _is_empty(chunk):
        return _EMPTY
    return next((one.reason for one in filters if not one.keeps_document(chunk.content, text)), None)


def _is_empty(chunk: Chunk) -> bool:
    return not chunk.content and chunk.begins and chunk.ends


def _nothing_kept(source: Source, dropped: Counter[str]) -> str:
    by_filters = Counter({reason: count for reason, count in dropped.items() if reason != _EMPTY})
    if not by_filters:
        return f"{source.describe()} gives no text; check its arguments"
    why = ", ".join(f"{count:,} {reason}" for reason, count in by_filters.most_common())
    return f"the filters leave nothing of {source.describe()} ({why}); make them wider (data.filters)"


def _folder() -> Path:
    return cache_folder() / "scans"


def _read_cache(key: str) -> Scan | None:
    try:
        scan = Scan(**parse_json((_folder() / f"{key}.json").read_text()))
        if scan.keep_mask is not None and scan.keep_mask != _mask_name((_folder() / scan.keep_mask).read_bytes()):
            return None
        return scan
    except (OSError, ValueError, TypeError):
        return None


def _mask_name(content: bytes) -> str:
    return f"{hashlib.sha256(content).hexdigest()[:32]}.keep_mask"


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_io.staged_file(path) as file:
        file.write(content)


class _Digest:
    """A fingerprint of consecutive documents, the same however they are cut into chunks."""

    def __init__(self) -> None:
        self._hash: Any = hashlib.sha256()
        self._length = 0

    def add(self, chunk: Chunk) -> None:
        encoded = bytes_of(chunk.content)
        self._hash.update(encoded)
        self._length += len(encoded)
        if chunk.ends:  # what it was and where it ended: "ab", "c" is not "a", "bc"
            kind = b"t" if isinstance(chunk.content, str) else b"r"
            self._hash.update(self._length.to_bytes(8, "little") + kind + (chunk.tag or "").encode())
            self._length = 0

    def hex(self) -> str:
        return str(self._hash.hexdigest()[:32])
