"""HTTP download of one file: resumed where it broke off, retried after transient errors.

The libraries at hand do a part each: `huggingface_hub` resumes, but only files of its hub (those are left to it, see
`remote_file`); `pooch` verifies, but begins again; `fsspec` does neither. So this one uses `urllib`, which is always
there and minds proxies.
"""

import http.client
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.folders import disk_hints, write_json
from lit_gpt.data.progress import Progress, say
from lit_gpt.errors import UserError

TRIES = 4  # in a row without a byte more than before
FIRST_WAIT = 1.0  # seconds, doubled each time
_LONGEST_WAIT = 60.0
_TIMEOUT = 30.0  # seconds without a byte
_BLOCK = 1 << 18
_AGENT = "lit-gpt (text for language models)"  # some servers refuse urllib's own name
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers after which it is worth trying again


class _Retry(Exception):
    """Something that may pass; `wait` is how long the server asks for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def transfer(address: str, part: Path) -> bool:
    """Completes a file that may have been begun before.

    Args:
        address: http:// or https://, with any characters in its path.
        part: Where the bytes go; `<part>.json` beside it keeps what tells whether the server's file is still the same.

    Returns:
        Whether it was put together from more than one answer of the server.

    Raises:
        UserError: the server refuses it, cannot be reached or keeps breaking off; the disk is full.
    """
    failures, longest, resumed = 0, _size(part), _size(part) > 0
    while True:
        try:
            with disk_hints(part):
                _attempt(address, part)
            note_of(part).unlink(missing_ok=True)
            return resumed
        except _Retry as error:
            have = _size(part)
            failures, longest, resumed = (
                (0 if have > longest else failures + 1),
                max(have, longest),
                resumed or have > 0,
            )
            if failures >= TRIES:
                kept = f"; {have:,} bytes are kept, run it again to go on from there" if have else ""
                raise UserError(
                    f"{address} could not be downloaded: {error}{kept}; or give local files by paths"
                ) from None
            wait = min(error.wait if error.wait is not None else FIRST_WAIT * 2 ** max(failures - 1, 0), _LONGEST_WAIT)
            say(f"{address}: {error}; trying again in {wait:.0f} s" + (f" from byte {have:,}" if have else ""))
            time.sleep(wait)


def note_of(part: Path) -> Path:
    """The file that tells which version of the server's file a begun one belongs to."""
    return part.with_name(part.name + ".json")


def _attempt(address: str, part: Path) -> None:
    """Asks once for what is missing, and writes all that comes."""
    note = _read_note(part)
    have = _size(part) if note else 0
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        # A weak ETag may not be compared so (RFC 9110, 13.1.5); the size and the ETag of the answer are looked at then.
        strong = note["etag"] if note["etag"] and not note["etag"].startswith("W/") else note["modified"]
        if strong:
            headers["If-Range"] = strong
    try:
        answer = urllib.request.urlopen(urllib.request.Request(quoted(address), headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and have and error.headers.get("Content-Range", "").endswith(f"/{have}"):
                return  # nothing is missing
            if error.code == 416:
                part.unlink(missing_ok=True)
                raise _Retry("the server has a shorter file than was begun, so it is taken from its start", 0) from None
            reason = f"the server answers {error.code} {error.reason}"
            if error.code in _PASSING:
                raise _Retry(reason, _seconds(error.headers.get("Retry-After"))) from None
            hint = "it may have moved" if error.code in (404, 410) else "it may ask for a login"
            raise UserError(
                f"{address} could not be downloaded: {reason}; {hint}; get it by hand and give it by paths"
            ) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Retry(f"no answer ({getattr(error, 'reason', None) or error or type(error).__name__})") from None
    with answer:
        _take(answer, part, note, have)


def _take(answer: Any, part: Path, note: dict[str, Any], have: int) -> None:
    """Writes an answer to the file: behind what is there if the server goes on with it, else from its start."""
    etag, modified = answer.headers.get("ETag"), answer.headers.get("Last-Modified")
    length = answer.headers.get("Content-Length")
    total = int(length) if length and length.isdigit() else None
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        size = int(found[2]) if found and found[2] != "*" else None
        if not found or int(found[1]) != have or (size, etag) != (note["size"] or size, note["etag"] or etag):
            part.unlink(missing_ok=True)
            raise _Retry("the file has changed at the server, so it is taken from its start", 0)
        total = size
    elif answer.status == 200:
        have = 0
    else:
        raise _Retry(f"the server answers {answer.status} {answer.reason}")
    missing = None if total is None else total - have
    free = shutil.disk_usage(part.parent).free
    if missing is not None and missing > free:
        raise UserError(
            f"{part.name} needs {missing:,} bytes more, {free:,} are free in {part.parent}; free some, or set"
            " LIT_GPT_CACHE to a folder on another disk"
        )
    write_json(note_of(part), {"etag": etag, "modified": modified, "size": total})
    name = part.name.removesuffix(".part")
    with part.open("ab" if have else "wb") as file, Progress(f"downloading {name}", missing, "bytes") as progress:
        while block := _read(answer):
            file.write(block)
            progress.advance(len(block))
        have = file.tell()
    if total is not None and have != total:
        raise _Retry(f"the connection broke off at byte {have:,} of {total:,}")


def _read(answer: Any) -> bytes:
    try:
        block: bytes = answer.read(_BLOCK)
        return block
    except http.client.IncompleteRead as error:
        raise _Retry("the connection broke off") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Retry(f"the connection broke off ({error or type(error).__name__})") from None


def quoted(address: str) -> str:
    """An address as servers want it, with other than plain letters escaped."""
    return urllib.parse.quote(address, safe=":/?#[]@!$&'()*+,;=%~")


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdigit() else None


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _read_note(part: Path) -> dict[str, Any]:
    """What was noted of a begun file; nothing where it cannot be read, and the file is begun again."""
    try:
        note = parse_json(note_of(part).read_text(encoding="utf-8"))
        return {"etag": note["etag"], "modified": note["modified"], "size": note["size"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
