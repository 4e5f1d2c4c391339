"""Scans: what is remembered of a text is that of this text, and is whole."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lit_gpt.data import BPE, Byte, Length, Source, TextFiles
from lit_gpt.data.chunks import Content
from lit_gpt.data.corpus.prepare import prepare
from lit_gpt.data.corpus.recipe import Fractions, Recipe
from lit_gpt.data.corpus.scan import kept, scan
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
        assert [chunk.content for chunk in kept(source, found[name], True)] == long
        assert scan(source, list(filters)) == found[name]


def test_a_damaged_keep_mask_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a long document\nx\nanother long document")
    source = TextFiles(str(tmp_path / "text"), "\n")
    found = scan(source, [Length(min_chars=5)])
    assert found.keep_mask is not None
    (cache_folder() / "scans" / found.keep_mask).write_bytes(b"")  # as a crash of the machine may leave it
    assert len(list(kept(source, scan(source, [Length(min_chars=5)]), True))) == 2


def test_a_keep_mask_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("a long document\nx")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LIT_GPT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"folder \S+scans cannot be made .* set LIT_GPT_CACHE"):
        scan(TextFiles(str(tmp_path / "text"), "\n"), [Length(min_chars=5)])
    assert scan(TextFiles(str(tmp_path / "text"), "\n")).documents == 2  # without filters it is only a shortcut


class Counted(Source):
    """Counts how often it is read."""

    readings = 0

    def __iter__(self) -> Iterator[Content]:
        self.readings += 1
        return iter([f"document {number} with text" for number in range(30)])


@pytest.mark.parametrize(("held", "readings"), [(10**6, 1), (100, 3)])
def test_a_small_text_is_read_once_and_a_long_one_by_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, readings: int
) -> None:
    monkeypatch.setattr("lit_gpt.data.corpus.scan.HELD", held)
    source = Counted()
    prepared = prepare(Recipe(source, BPE(vocab_size=300), Fractions(0.2, 0.0)), tmp_path / "corpus")
    assert source.readings == readings
    assert sum(corpus.documents for corpus in prepared.corpora.values()) == 30


def test_a_text_that_changes_between_stages_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Growing(Counted):
        def __iter__(self) -> Iterator[Content]:
            return iter([*super().__iter__(), f"reading {self.readings}"])

    monkeypatch.setattr("lit_gpt.data.corpus.scan.HELD", 1)
    with pytest.raises(UserError, match=r"the text of Growing\(.* changed"):
        prepare(Recipe(Growing(), Byte(), Fractions(0.2, 0.0)), tmp_path / "corpus")
