"""Columns: what is read is what was written, or it is not given out."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data.corpus import columns
from lit_gpt.data.corpus.columns import BLOCK, Column, ColumnWriter
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
    monkeypatch.setattr(columns, "os", None)
    column.__del__()
    with pytest.raises(OSError):
        os.fstat(column._file)
    del column._file
