"""Rows of CSV: what is read, what is refused, and where it stands."""

import csv
import lzma
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data import Csv
from lit_gpt.errors import UserError

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(rows=st.lists(st.tuples(ANY_TEXT, ANY_TEXT), max_size=5), delimiter=st.sampled_from([",", ";", "\t", None]))
@settings(max_examples=100, deadline=None)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str | None
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=delimiter or ",", quoting=csv.QUOTE_ALL)
        writer.writerows([("label", "text"), *rows])
    assert list(Csv(str(path), delimiter=delimiter)) == [text for _, text in rows]
    assert list(Csv(str(path), None, delimiter)) == [{"label": label, "text": text} for label, text in rows]


def test_long_values_line_breaks_and_compressions(tmp_path: Path) -> None:
    long = "x" * 3_000_000
    (tmp_path / "a.tsv.xz").write_bytes(lzma.compress(f'id\ttext\n1\t"a\r\nb ""c"""\n\n2\t{long}\n'.encode()))
    chunks = list(Csv(str(tmp_path), delimiter=r"\t").chunks())
    assert [one.content for one in chunks] == ['a\r\nb "c"', long]
    assert [one.where for one in chunks] == [f"{tmp_path}/a.tsv.xz:2", f"{tmp_path}/a.tsv.xz:5"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,id\na,1\nb\n", ":3 has 1 value.* and the header has 2"),
        ("text,id\na,1\nb,c,2\n", ":3 has 3 value.* and the header has 2"),
        ('text,id\na,1\n"b,2\nc,3', ":3 is no row of CSV .unexpected end of data"),
        ('text,id\na,1\n"b"c,2\n', ":3 is no row of CSV"),
        ("body,id\na,1\n", ":1: there is no field 'text'; the fields are: body, id"),
        ("text,text\na,1\n", ":1: the header has 'text' twice"),
    ],
)
def test_a_bad_row_is_named_with_what_is_wrong(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        list(Csv(str(path)))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("delimiter", ["", "ab", '"', "\n"])
def test_a_delimiter_is_one_character(delimiter: str) -> None:
    with pytest.raises(UserError, match="delimiter"):
        Csv("a.csv", delimiter=delimiter)


LONE = 'id\ttext\n1\t"Yes she said\n2\tand left\n3\tat "ten"\n4\tthe end\n5\t"no" more\n'


def test_a_lone_quote_is_text_where_quoting_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(LONE)
    source = Csv(str(tmp_path / "a.tsv"), quoting="none")
    assert list(source) == ['"Yes she said', "and left", 'at "ten"', "the end", '"no" more']
    assert source.notes() == []


def test_rows_that_swallow_line_breaks_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('id\ttext\n1\t"Yes she said\n2\tand left\n3\tat ten"\n4\tthe "end"\n')
    (tmp_path / "b.csv").write_text('id,text\n1,"two\nlines"\n\n2,one\n3,"three\n\nlines"\n')
    source = Csv(str(tmp_path))
    for _ in range(2):  # as often as it is read
        assert list(source) == [
            "Yes she said\n2\tand left\n3\tat ten",
            'the "end"',
            "two\nlines",
            "one",
            "three\n\nlines",
        ]
    what_would_do = "where these marks are part of the text, give quoting none"
    assert source.notes() == [
        f"1 row of a.tsv holds line breaks between quotation marks, the first at {tmp_path}/a.tsv:2; {what_would_do}",
        f"2 rows of b.csv hold line breaks between quotation marks, the first at {tmp_path}/b.csv:2; {what_would_do}",
    ]


def test_what_quoting_would_mend_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(LONE)
    with pytest.raises(UserError, match="quoting none where"):
        list(Csv(str(tmp_path / "a.tsv")))
