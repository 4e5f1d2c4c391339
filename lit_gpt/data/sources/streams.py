"""Streams of files: decompressed by suffix (.gz, .bz2, .xz, .zst), decoded as strict UTF-8, block by block.

What is held is a block (or a line), whatever the file's size. Places in errors are bytes of the text, decompressed.
"""

import codecs
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from lit_gpt.errors import UserError

#: Suffixes of files that are decompressed as they are read.
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
BLOCK = 1 << 20  # bytes
_FEW, _MANY = 64, 4096  # bytes of a zstd archive that are decompressed at a time
MOST_TIMES = 1000  # that compressed text may be longer unpacked: prose is 3 to 10 times, logs up to some hundred times
UNBOUNDED = 1 << 26  # bytes of text that any archive may unpack to


class Line(NamedTuple):
    """A line of a file without its end: its number from 1, the offset of its first byte, its bytes."""

    number: int
    offset: int
    content: bytes


def byte_blocks(path: Path, size: int = BLOCK) -> Iterator[bytes]:
    """The bytes of a file in blocks of up to `size`, none empty; decompressed if its suffix says so.

    Raises:
        UserError: a file that cannot be read; an archive that is torn or damaged, with how far it could be read.
    """
    done = 0
    try:
        with path.open("rb") as file:
            for block in _decompressed(path, file, size):
                done += len(block)
                refuse_bomb(path, done, file.tell())
                yield block
    except PermissionError:
        raise UserError(f"{path} may not be read by this user; change its permissions") from None
    except EOFError:
        raise UserError(
            f"{path} is torn: it ends within its compressed text (at least {done} bytes unpack); get the file again"
        ) from None
    except _damages(path) as error:
        # A failing disk has a number; what a decompressor finds has none.
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{path} cannot be read ({error.strerror}); give a file or a folder of text") from None
        raise UserError(
            f"{path} is damaged, or no {path.suffix} file: after byte {done} of its text it cannot be decompressed"
            f" ({' '.join(str(error).split())}); get the file again"
        ) from None


def refuse_bomb(path: Path, unpacked: int, packed: int) -> None:
    """Refuses an archive that unpacks to far more than text does, before it fills memory, time or disk.

    Args:
        path: The archive, for the error.
        unpacked: Bytes that came out of it so far.
        packed: Bytes of it that were read for them.

    Raises:
        UserError: It is more than MOST_TIMES as much, and more than UNBOUNDED.
    """
    if unpacked > UNBOUNDED and unpacked > MOST_TIMES * packed:
        raise UserError(
            f"{path} unpacks to more than {MOST_TIMES} times its size (the first {packed:,} bytes to {unpacked:,}):"
            " no text does that; leave it out, or unpack it yourself"
        )


def text_blocks(path: Path, size: int = BLOCK) -> Iterator[str]:
    """The text of a UTF-8 file as stretches of up to `size` bytes, none empty, without a byte order mark at its start.

    Raises:
        UserError: as `byte_blocks` does, and bytes that are not UTF-8, with the offset of the first.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    at, first = 0, True
    for block in _and_then(byte_blocks(path, size), b""):
        held: bytes = decoder.getstate()[0]  # the start of a character that goes on in this block
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise not_utf8(path, (held + block)[error.start], at - len(held) + error.start) from None
        at += len(block)
        if text and first:
            text, first = text.removeprefix("\ufeff"), False
        if text:
            yield text


def byte_lines(path: Path) -> Iterator[Line]:
    """The lines of a file, ended by LF or CRLF, without a byte order mark at its start; not decoded."""
    number, offset, parts = 1, 0, list[bytes]()
    for block in byte_blocks(path):
        *whole, rest = block.split(b"\n")
        for part in whole:
            line = b"".join([*parts, part])
            yield _line(number, offset, line)
            number, offset, parts = number + 1, offset + len(line) + 1, []
        if rest:
            parts.append(rest)
    if parts:
        yield _line(number, offset, b"".join(parts))


def text_lines(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends as they are; only LF ends one."""
    parts: list[str] = []
    for block in text_blocks(path):
        *whole, rest = block.split("\n")
        for part in whole:
            yield "".join([*parts, part, "\n"])
            parts = []
        if rest:
            parts.append(rest)
    if parts:
        yield "".join(parts)


def not_utf8(path: Path, byte: int, offset: int, line: int | None = None) -> UserError:
    """The error that names the first byte of a file that is not UTF-8."""
    where = str(path) if line is None else f"{path}:{line}"
    within = " of the decompressed text" if path.suffix.lower() in COMPRESSED else ""
    return UserError(
        f"{where} is not UTF-8 text: byte 0x{byte:02x} at offset {offset}{within};"
        " convert it (iconv -t UTF-8) or leave it out"
    )


def _line(number: int, offset: int, line: bytes) -> Line:
    if number == 1 and line.startswith(codecs.BOM_UTF8):
        mark = len(codecs.BOM_UTF8)
        return Line(1, mark, line[mark:].removesuffix(b"\r"))
    return Line(number, offset, line.removesuffix(b"\r"))


def _decompressed(path: Path, file: IO[bytes], size: int) -> Iterator[bytes]:
    if path.suffix.lower() == ".zst":
        return _zstd(file, size)
    stream = file
    if path.suffix.lower() in COMPRESSED:
        import bz2
        import gzip
        import lzma

        opened: dict[str, Callable[[Any], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
        stream = cast(IO[bytes], opened[path.suffix.lower()](file))
    return iter(lambda: stream.read(size), b"")


def _zstd(file: IO[bytes], size: int) -> Iterator[bytes]:
    """One frame after the other. The library's own reader takes the end of a torn file for the end of its text."""
    import zstandard

    frames = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    frame, begun = frames.decompressobj(), False
    held, feed = bytearray(), _FEW
    while data := file.read(feed):
        text, begun = frame.decompress(data), True
        # What comes of some bytes has no limit: of monotonous text few are given at a time.
        feed = min(2 * feed, _MANY) if len(text) < BLOCK // 8 else _FEW
        if frame.eof:
            file.seek(-len(frame.unused_data), 1)
            frame, begun = frames.decompressobj(), False
        held += text
        if len(held) >= size:
            start = 0
            for start in range(0, len(held) - size + 1, size):
                yield bytes(held[start : start + size])
            del held[: start + size]
    if held:
        yield bytes(held)
    if begun:
        raise EOFError


def _damages(path: Path) -> tuple[type[Exception], ...]:
    if path.suffix.lower() == ".zst":
        import zstandard

        return (OSError, zstandard.ZstdError)
    import lzma
    import zlib

    return (OSError, zlib.error, lzma.LZMAError)


def _and_then(blocks: Iterator[bytes], last: bytes) -> Iterator[bytes]:
    yield from blocks
    yield last
