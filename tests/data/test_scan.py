"""Surveys: what is remembered of a text is that of this text, and is whole."""

from pathlib import Path

import pytest

from lit_gpt.data import Length, TextFiles
from lit_gpt.data.corpus.scan import scan, staying
from lit_gpt.data.folders import cache_folder
from lit_gpt.errors import UserError


def test_texts_that_differ_in_what_is_left_out_are_told_apart(tmp_path: Path) -> None:
    long = [f"a document of some length, number {number}" for number in range(5)]
    sources, filters = {}, [Length(min_chars=5)]
    for name, texts in (("last", [*long, "x"]), ("first", ["x", *long])):
        (tmp_path / name).write_text("\n".join(texts))
        sources[name] = TextFiles(str(tmp_path / name), "\n")
    found = {name: scan(source, list(filters)) for name, source in sources.items()}
    assert found["last"].fingerprint == found["first"].fingerprint
    for name, source in sources.items():
        assert [chunk.content for chunk in staying(source, found[name], False)] == long
        assert scan(source, list(filters)) == found[name]


def test_verdicts_that_were_damaged_are_given_again(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a long document\nx\nanother long document")
    source = TextFiles(str(tmp_path / "text"), "\n")
    found = scan(source, [Length(min_chars=5)])
    assert found.verdicts is not None
    (cache_folder() / "scans" / found.verdicts).write_bytes(b"")  # as a crash of the machine may leave it
    assert len(list(staying(source, scan(source, [Length(min_chars=5)]), False))) == 2


def test_verdicts_that_cannot_be_kept_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("a long document\nx")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIT_GPT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"folder \S+scans cannot be made .* set LIT_GPT_CACHE"):
        scan(TextFiles(str(tmp_path / "text"), "\n"), [Length(min_chars=5)])
    assert scan(TextFiles(str(tmp_path / "text"), "\n")).documents == 2  # without filters it is only a shortcut
