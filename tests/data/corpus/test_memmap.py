"""Columns: what is read is what was written, or it is not given out."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data.corpus import memmap
from lit_gpt.data.corpus.memmap import BLOCK, Column, ColumnWriter
from lit_gpt.errors import UserError


def written(path: Path, parts: list[np.ndarray], dtype: str = "<u2") -> Column:
    writer = ColumnWriter(path, np.dtype(dtype))
    for part in parts:
        writer.write(part)
    facts = writer.close()
    assert {name: path.with_name(name).stat().st_size for name in facts} == {n: f["bytes"] for n, f in facts.items()}
    return Column(path, np.dtype(dtype))


@given(st.lists(st.integers(0, 3 * BLOCK), max_size=4), st.data())
@settings(max_examples=25, deadline=None)
def test_slices_equal_those_of_the_array(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    chance = np.random.default_rng(len(sizes))
    parts = [chance.integers(0, 1 << 16, size) for size in sizes]
    whole = np.concatenate([np.empty(0, np.int64), *parts])
    column = written(tmp_path_factory.mktemp("c") / "ids.bin", parts)
    assert len(column) == len(whole) and np.array_equal(np.asarray(column), whole)
    for _ in range(5):
        start, stop = data.draw(st.integers(-9, len(whole) + 9)), data.draw(st.integers(-9, len(whole) + 9))
        assert np.array_equal(column[start:stop], whole[start:stop])
        assert np.array_equal(column[start:stop:3], whole[start:stop:3])
    if len(whole):
        place = data.draw(st.integers(-len(whole), len(whole) - 1))
        assert column[place] == whole[place]
    with pytest.raises(IndexError):
        column[len(whole)]


@pytest.mark.parametrize("file", ["ids.bin", "ids.sums"])
def test_a_flipped_bit_is_found_where_it_is_touched_and_not_before(tmp_path: Path, file: str) -> None:
    numbers = np.arange(5 * BLOCK) % 60_000
    written(tmp_path / "ids.bin", [numbers])
    content = bytearray((tmp_path / file).read_bytes())
    content[4 * BLOCK + 5 if file == "ids.bin" else 4 * 8] ^= 0x10
    (tmp_path / file).write_bytes(content)
    column, a_block = Column(tmp_path / "ids.bin", np.dtype("<u2")), BLOCK // 2
    assert np.array_equal(column[: 4 * a_block], numbers[: 4 * a_block])
    assert np.array_equal(column[5 * a_block :], numbers[5 * a_block :])
    for touch in (slice(4 * a_block, 4 * a_block + 1), slice(5 * a_block - 1, 6 * a_block), slice(None)):
        with pytest.raises(UserError, match=f"ids.bin is damaged between byte {4 * BLOCK} and {5 * BLOCK} .*remove"):
            column[touch]
    with pytest.raises(UserError, match="is damaged"):
        column[4 * a_block + 2]


def test_checksums_of_another_file_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "ids.bin", [np.arange(BLOCK)])
    with (tmp_path / "ids.bin").open("ab") as file:
        file.write(bytes(BLOCK))
    with pytest.raises(UserError, match="holds 2 checksums instead of 3"):
        Column(tmp_path / "ids.bin", np.dtype("<u2"))


def test_a_column_that_outlives_its_module_closes_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a script a name of the module may be gone before the last column is."""
    writer = ColumnWriter(tmp_path / "ids.bin", np.dtype("<u2"))
    writer.write(np.arange(10))
    writer.close()
    column = Column(tmp_path / "ids.bin", np.dtype("<u2"))
    monkeypatch.setattr(memmap, "os", None)
    column.__del__()
    with pytest.raises(OSError):
        os.fstat(column._file)
    del column._file


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("touch", ["slice", "number", "stretches"])
def test_a_change_in_place_is_noticed_at_the_next_touch(
    tmp_path: Path, touch: str, settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = np.arange(4 * BLOCK) % 60_000
    written(tmp_path / "ids.bin", [numbers])
    if settled:  # as a file that was prepared earlier
        monkeypatch.setattr(memmap, "_TICK", 0)
    column, at = Column(tmp_path / "ids.bin", np.dtype("<u2")), BLOCK + 9

    def read() -> object:
        if touch == "slice":
            return column[at : at + 3].tolist()
        if touch == "number":
            return [int(column[at + more]) for more in range(3)]
        return column.stretches(np.array([at]), np.array([at + 3]))[0].tolist()

    assert read() == read() == numbers[at : at + 3].tolist()
    before = (tmp_path / "ids.bin").stat()
    clock = tmp_path / "clock"
    while settled and (clock.touch() or clock.stat().st_ctime_ns) <= before.st_ctime_ns:
        pass  # until the file system's clock has moved on
    with (tmp_path / "ids.bin").open("r+b") as file:
        file.seek(2 * at)
        file.write(b"\xff")
    os.utime(tmp_path / "ids.bin", ns=(before.st_atime_ns, before.st_mtime_ns))
    for _ in range(2):
        with pytest.raises(UserError, match="ids.bin is damaged between byte"):
            read()
    assert column[0:5].tolist() == numbers[:5].tolist()  # blocks that are as they were still serve


@pytest.mark.parametrize("cut", ["ids.bin", "ids.sums"])
def test_a_file_cut_while_it_is_mapped_is_told_and_ends_nothing(tmp_path: Path, cut: str) -> None:
    column = written(tmp_path / "ids.bin", [np.arange(4 * BLOCK) % 60_000])
    assert column[3 * BLOCK] == 3 * BLOCK % 60_000
    os.truncate(tmp_path / cut, 100)
    touches = [lambda: column[3 * BLOCK], lambda: column[:], lambda: column.stretches(np.array([9]), np.array([12]))]
    for touch in touches:
        if cut == "ids.sums":
            touch()
            continue
        with pytest.raises(UserError, match="ids.bin was changed while it is in use: it has 100 bytes instead of"):
            touch()
    os.truncate(tmp_path / "ids.bin", 0)
    with pytest.raises(UserError, match="was changed while it is in use"):
        np.asarray(column)


def test_an_unlinked_file_still_serves(tmp_path: Path) -> None:
    column = written(tmp_path / "ids.bin", [np.arange(BLOCK)])
    assert column[5] == 5
    (tmp_path / "ids.bin").unlink()
    assert column[7] == 7
