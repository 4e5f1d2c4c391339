"""Streams of files: every compression gives the same text, damage is told with its place, memory stays small."""

import bz2
import gzip
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data.sources import streams
from lit_gpt.data.sources.streams import byte_blocks, byte_lines, text_blocks, text_lines
from lit_gpt.errors import UserError

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda text: text,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
TEXT = "".join(f"line {n}: 床前明月光 😀 \0 \r\n" for n in range(20_000))


@pytest.fixture(params=PACKED, ids=lambda suffix: suffix or "plain")
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("size", [7, 1 << 20])
def test_every_compression_gives_the_text_as_it_is(tmp_path: Path, suffix: str, size: int) -> None:
    path = tmp_path / f"text.txt{suffix}"
    text = "".join(TEXT.splitlines(keepends=True)[: 1000 if size == 7 else None])
    path.write_bytes(PACKED[suffix](text.encode()))
    blocks = list(text_blocks(path, size))
    assert "".join(blocks) == text and all(blocks)
    assert "".join(text_lines(path)) == text
    assert [line.content.decode() + "\r\n" for line in byte_lines(path)] == text.splitlines(keepends=True)


def test_archives_one_after_the_other_are_one_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_bytes(PACKED[suffix](b"one \xe5\xba") + PACKED[suffix](b"\x8a two"))
    assert "".join(text_blocks(path)) == "one 床 two"


@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    size=st.integers(1, 9),
    mark=st.booleans(),
    bad=st.integers(0, 60),
)
@settings(max_examples=200, deadline=None)
def test_decoding_in_blocks_equals_decoding_the_whole(
    tmp_path_factory: pytest.TempPathFactory, text: str, size: int, mark: bool, bad: int
) -> None:
    path = tmp_path_factory.mktemp("any") / "text"
    content = b"\xef\xbb\xbf" * mark + text.encode()
    path.write_bytes(content)
    expected = content.decode().removeprefix("\ufeff")
    assert "".join(text_blocks(path, size)) == "".join(text_lines(path)) == expected
    for line in byte_lines(path):
        assert content[line.offset :].startswith(line.content)
    assert b"\n".join(line.content for line in byte_lines(path)) == expected.encode().removesuffix(b"\n").replace(
        b"\r\n", b"\n"
    ).removesuffix(b"" if expected.endswith("\n") else b"\r")
    damaged = content[:bad] + b"\xff" + content[bad:]
    path.write_bytes(damaged)
    with pytest.raises(UnicodeDecodeError) as whole:
        damaged.decode()
    with pytest.raises(UserError, match=f"byte 0x{damaged[whole.value.start]:02x} at offset {whole.value.start};"):
        list(text_blocks(path, size))


def test_a_torn_archive_is_told_with_how_far_it_was_read(tmp_path: Path, suffix: str) -> None:
    if not suffix:
        pytest.skip("a plain file has no end of its own")
    packed = PACKED[suffix](TEXT.encode())
    path = tmp_path / f"text{suffix}"
    for length in (3, len(packed) // 2, len(packed) - 1):
        path.write_bytes(packed[:length])
        with pytest.raises(UserError, match="is torn: .*at least [0-9]+ bytes unpack") as caught:
            list(byte_blocks(path))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_archive_and_a_wrong_suffix_are_told(tmp_path: Path, suffix: str) -> None:
    if not suffix:
        pytest.skip("a plain file has no check of its own")
    packed = bytearray(PACKED[suffix](TEXT.encode()))
    packed[len(packed) // 2] ^= 0x55
    path = tmp_path / f"text{suffix}"
    for content in (bytes(packed), b"no archive at all, but some text"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="(is damaged|is torn).*(after byte|at least) [0-9]+ ") as caught:
            list(byte_blocks(path))
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_bad_byte_in_an_archive_is_told_by_its_offset_in_the_text(tmp_path: Path) -> None:
    path = tmp_path / "text.zst"
    path.write_bytes(PACKED[".zst"](b"x" * 3_000_000 + b"\xe5\xba"))
    with pytest.raises(UserError, match="byte 0xe5 at offset 3000000 of the decompressed text"):
        list(text_blocks(path))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere cannot be read"):
        list(byte_blocks(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="cannot be read"):
        list(byte_blocks(tmp_path))


def test_memory_does_not_grow_with_the_text(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 100_000_000
    monkeypatch.setattr(streams, "UNBOUNDED", size)  # one letter again and again is taken for a bomb
    path = tmp_path / f"text{suffix}"
    if suffix:
        part = PACKED[suffix](b"a" * (size // 4))
        path.write_bytes(part * 4)
    else:
        with path.open("wb") as file:
            file.truncate(size)
    tracemalloc.start()
    assert sum(map(len, text_blocks(path))) == size
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_an_archive_that_unpacks_to_far_more_is_refused(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "UNBOUNDED", 1 << 16)
    monkeypatch.setattr(streams, "MOST_TIMES", 100)
    path = tmp_path / f"bomb.txt{suffix}"
    path.write_bytes(PACKED[suffix](b"0" * (1 << 23)))
    with pytest.raises(UserError, match=r"unpacks to more than 100 times its size .*leave it out"):
        for _ in streams.byte_blocks(path, 1 << 16):
            pass
    honest = tmp_path / f"honest.txt{suffix}"
    honest.write_bytes(PACKED[suffix](b"The same line again and again, 40 times shorter packed.\n" * 1000))
    assert sum(map(len, streams.byte_blocks(honest, 1 << 16))) == 56_000
