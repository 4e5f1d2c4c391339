"""Records of JSON, one a line: what is read, what is refused, and where it stands."""

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data import JsonLines
from lit_gpt.errors import UserError

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(texts=st.lists(ANY_TEXT, max_size=5), ascii=st.booleans(), end=st.sampled_from(["\n", "\r\n", "\n \n"]))
@settings(max_examples=100, deadline=None)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], ascii: bool, end: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    records = [{"id": n, "meta": {"body": text}, "text": text + "!"} for n, text in enumerate(texts)]
    lines = "".join(json.dumps(record, ensure_ascii=ascii) + end for record in records)
    path.write_bytes(b"\xef\xbb\xbf" + lines.encode() + b"\n")
    assert list(JsonLines(str(path))) == [text + "!" for text in texts]
    assert list(JsonLines(str(path), field="meta.body")) == texts
    assert list(JsonLines(str(path), field=None)) == records


def test_a_name_with_a_dot_is_found_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a.b": "flat", "a": {"b": "deep"}}')
    assert list(JsonLines(str(tmp_path), field="a.b")) == ["flat"]


def test_folders_of_records_are_read_by_name_with_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "b.ndjson").write_text('{"text": "three"}')
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "one"}\n\n{"text": ""}\n'))
    (tmp_path / "README.md").write_text("not a record")
    (tmp_path / "empty.jsonl").touch()
    chunks = list(JsonLines(str(tmp_path)).chunks())
    assert [(one.content, one.where) for one in chunks] == [
        ("one", f"{tmp_path}/a.jsonl.gz:1"),
        ("", f"{tmp_path}/a.jsonl.gz:3"),
        ("three", f"{tmp_path}/b.ndjson:1"),
    ]
    assert all(one.begins and one.ends for one in chunks)
    (tmp_path / "sub").mkdir()
    with pytest.raises(UserError, match="has no .jsonl or .ndjson files"):
        list(JsonLines(str(tmp_path / "sub")))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"text": "a"', r":2 \(byte 14\) is no JSON record: Expecting ',' delimiter, column 13"),
        (b"nonsense", r":2 \(byte 14\) is no JSON record"),
        (b'{"text": "a"} {"text": "b"}', r":2 \(byte 14\) is no JSON record: Extra data"),
        (b'["text"]', r":2 \(byte 14\) is JSON but no record \(list\)"),
        (b"[" * 100_000, r":2 \(byte 14\) is no JSON record: .*recursion"),
        (b"9" * 5000, r":2 \(byte 14\) is no JSON record: Exceeds the limit"),
        (b'{"body": "a", "id": 3}', ":2: there is no field 'text'; the fields are: body, id"),
        (b"{}", ":2: there is no field 'text'; the fields are: none"),
        (b'{"text": null}', ":2: field 'text' holds null and no text"),
        (b'{"text": 3}', ":2: field 'text' holds a number and no text"),
        (b'{"text": ["a"]}', ":2: field 'text' holds a list and no text"),
        (b'{"text": "caf\xe9"}', ":2 is not UTF-8 text: byte 0xe9 at offset 27"),
        (rb'{"text": "\ud83d"}', r":2 \(byte 14\): the record holds .ud83d, half of a surrogate pair"),
        (rb'{"text": "a", "b": {"c": ["\uDC00"]}}', r":2 \(byte 14\): the record holds .udc00"),
    ],
)
def test_a_bad_line_is_named_with_what_is_wrong(tmp_path: Path, line: bytes, words: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b'{"text": "a"}\n' + line + b"\n")
    with pytest.raises(UserError, match=words) as caught:
        list(JsonLines(str(path)))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_pairs_of_surrogates_are_one_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(r'{"text": "\ud83d\ude00 \\ud83d"}')
    assert list(JsonLines(str(tmp_path))) == ["😀 \\ud83d"]


def test_the_name_of_a_field_may_not_be_empty() -> None:
    with pytest.raises(UserError, match="field is empty"):
        JsonLines("a.jsonl", field="")


def test_one_record_is_held_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("w") as file:
        for _ in range(40):
            file.write(json.dumps({"text": "x" * 1_000_000}) + "\n")
    tracemalloc.start()
    assert sum(len(chunk.content) for chunk in JsonLines(str(path)).chunks()) == 40_000_000
    assert tracemalloc.get_traced_memory()[1] < 12_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("line", ['{"text": "a", "text": "b"}', '{"text": "a", "meta": {"x": 1, "y": 2, "x": 1}}'])
def test_a_key_that_is_there_twice_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(UserError, match=r"a.jsonl:2 .*key '(text|x)' is there twice"):
        list(JsonLines(str(tmp_path / "a.jsonl")))
