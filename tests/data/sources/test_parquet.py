"""Rows of Parquet: what is read, what is refused, and where it stands."""

from pathlib import Path
from typing import Any

import pytest

from lit_gpt.data import Parquet
from lit_gpt.errors import UserError

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

RECORDS = [{"id": n, "text": f"text {n} 床\r\n", "meta": {"body": f"body {n}"}, "none": None} for n in range(300)]


def write(path: Path, columns: dict[str, Any] | list[dict[str, Any]], **how: Any) -> Path:
    make = pyarrow.Table.from_pylist if isinstance(columns, list) else pyarrow.table
    parquet.write_table(make(columns), path, **how)
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", RECORDS[:100], row_group_size=30)
    write(tmp_path / "b.parquet", RECORDS[100:], compression="zstd")
    (tmp_path / "note.txt").write_text("no record")
    assert list(Parquet(str(tmp_path))) == [record["text"] for record in RECORDS]
    assert list(Parquet(f"{tmp_path}/*.parquet", field="meta.body")) == [record["meta"]["body"] for record in RECORDS]
    assert list(Parquet(str(tmp_path), field=None)) == RECORDS
    where = [chunk.where for chunk in Parquet(str(tmp_path)).chunks()]
    assert where[99] == f"{tmp_path}/a.parquet, record 100" and where[100] == f"{tmp_path}/b.parquet, record 1"


def test_keys_that_a_row_lacks_are_not_turned_into_null(tmp_path: Path) -> None:
    call = {"name": "f", "arguments": {"place": "Ulm"}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": None, "tool_calls": [call, {"name": "g", "arguments": {"unit": "C"}}]},
    ]
    path = write(tmp_path / "a.parquet", [{"messages": messages, "system": None}, {"messages": messages[:1]}])
    del messages[1]["content"]
    rows = list(Parquet(str(path), field=None))
    assert rows == [{"messages": messages, "system": None}, {"messages": messages[:1], "system": None}]


def test_bad_rows_are_named(tmp_path: Path) -> None:
    bad = b"caf\xe9"
    strings = pyarrow.Array.from_buffers(pyarrow.binary(), 3, pyarrow.array([b"a", b"b", bad]).buffers()).view("string")
    for columns, words in (
        ({"body": ["a"]}, ": there is no field 'text'; the fields are: body;"),
        ({"text": ["a", None]}, ", record 2: field 'text' holds null"),
        ({"text": [b"a"]}, ", record 1: field 'text' holds a bytes"),
        ({"text": strings}, ", record 3 is not UTF-8 text: byte 0xe9 at offset 3"),
    ):
        path = write(tmp_path / "bad.parquet", columns)
        with pytest.raises(UserError, match=f"{path}{words}") as caught:
            list(Parquet(str(path)))
        assert "\n" not in str(caught.value)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", RECORDS * 20, compression="gzip", row_group_size=500, use_dictionary=False)
    whole = path.read_bytes()
    middle = len(whole) // 2
    for content in (whole[:-1], whole[:2], whole[:middle] + b"\xff" * 300 + whole[middle + 300 :], b"text"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as Parquet after record [0-9]+ ") as caught:
            list(Parquet(str(path), field=None))
        assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_only_a_few_rows_are_held(tmp_path: Path) -> None:
    path = tmp_path / "long.parquet"
    texts = [f"{n} " + "abcdefgh" * 12_500 for n in range(1_000)]  # 100 MB in one group of rows, of many pages
    write(path, {"text": texts, "other": texts}, use_dictionary=False, write_batch_size=10)
    before = pyarrow.total_allocated_bytes()
    most = 0
    for chunk, text in zip(Parquet(str(path)).chunks(), texts, strict=True):
        assert chunk.content == text
        most = max(most, pyarrow.total_allocated_bytes() - before)
    assert most < 30_000_000


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"]), pyarrow.array([1])], ["x", "x", "y"])
    parquet.write_table(twice, tmp_path / "a.parquet")
    for field in (None, "x"):
        with pytest.raises(UserError, match="a.parquet has the column 'x' twice"):
            list(Parquet(str(tmp_path / "a.parquet"), field))
    inner = pyarrow.StructArray.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], ["k", "k"])
    table = pyarrow.table({"m": pyarrow.ListArray.from_arrays(pyarrow.array([0, 1]), inner), "text": ["fine"]})
    parquet.write_table(table, tmp_path / "b.parquet")
    assert list(Parquet(str(tmp_path / "b.parquet"))) == ["fine"]  # the other column is not read
    with pytest.raises(UserError, match="b.parquet has the column 'k' twice"):
        list(Parquet(str(tmp_path / "b.parquet"), None))
