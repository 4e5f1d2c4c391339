"""Text that is trained on and evaluated on is counted and said."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_gpt.data import Byte, ExactDuplicates, JsonLines, Mixture, Source, TextFiles
from lit_gpt.data.chunks import Chunk
from lit_gpt.data.corpus import shared_documents
from lit_gpt.data.corpus.prepare import prepare, source_warnings
from lit_gpt.data.corpus.prepared import Prepared
from lit_gpt.data.corpus.recipe import Fractions, Recipe, SplitBy
from lit_gpt.data.corpus.shared_documents import SharedDocuments


def prepared(source: Source, val: float = 0.2, by: SplitBy | None = "document", **more: object) -> Prepared:
    return prepare(Recipe(source, Byte(), Fractions(val, 0.0), split_by=by, **more))  # type: ignore[arg-type]


def shared(one: Prepared) -> list[str]:
    return [line for line in one.notes() if "in the training text too" in line]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Twenty texts, each of them twice."""
    (tmp_path / "pairs").mkdir()
    for number in range(40):
        (tmp_path / "pairs" / f"{number:02}.txt").write_text(f"document number {number // 2}, a few words")
    return tmp_path / "pairs"


def test_documents_in_both_splits_are_counted(pairs: Path) -> None:
    first = prepared(TextFiles(str(pairs)))
    assert shared(first) == [
        "8 of 8 documents of val are in the training text too, word for word; data.split_by hash keeps equal ones in"
        " one split, the filter ExactDuplicates leaves repeats out"
    ]
    assert shared(prepared(TextFiles(str(pairs)))) == shared(first)  # found again
    assert shared(prepared(TextFiles(str(pairs)), by="hash")) == []
    assert shared(prepared(TextFiles(str(pairs)), filters=[ExactDuplicates()])) == []


def test_documents_of_an_own_validation_text_are_counted(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "val.jsonl").write_text('{"text": "document number 3, a few words"}\n{"text": "another"}\n' * 2)
    own = prepared(TextFiles(str(pairs)), val_source=JsonLines(str(tmp_path / "val.jsonl")))
    assert shared(own) == [
        "2 of 4 documents of val are in the training text too, word for word; take them out of one of the two"
    ]


@given(st.lists(st.tuples(st.sampled_from(["train", "val", "test"]), st.text("ab", max_size=3)), max_size=30))
def test_counts_are_those_of_plain_sets(
    tmp_path_factory: pytest.TempPathFactory, documents: list[tuple[str, str]]
) -> None:
    """Also where hashes wait in a file, and documents come in stretches."""
    held, shared_documents._HELD = shared_documents._HELD, 3
    try:
        counter = SharedDocuments(tmp_path_factory.mktemp("work"))
        parts = []
        for split, text in documents:
            cuts = list(text) if len(text) > 1 else [text]
            for at, cut in enumerate(cuts):
                first, last = at == 0, at == len(cuts) - 1
                parts.append(Chunk(cut, first, last).to_split(split))
        assert list(counter.watch(parts)) == parts
        trained = {text for split, text in documents if split == "train"}
        expected = []
        for name in dict.fromkeys(split for split, _ in documents if split != "train"):
            texts = [text for split, text in documents if split == name]
            if count := sum(text in trained for text in texts):
                expected.append(f"{count} of {len(texts)} documents of {name} ")
        lines = counter.lines(["test"])
        assert [line.partition("are in")[0] for line in lines] == expected
    finally:
        shared_documents._HELD = held


def test_a_document_cut_between_splits_is_no_duplicate(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab" * 500)
    assert shared(prepared(TextFiles(str(tmp_path / "a.txt")), by="position")) == []


def test_a_file_that_both_sources_read_is_named(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "link.txt").symlink_to(pairs / "00.txt")
    os.link(pairs / "01.txt", tmp_path / "hard.txt")
    (tmp_path / "other.txt").write_text("a text of its own")

    def said(path: Path | str, source: Source | None = None) -> list[str]:
        main = source or TextFiles(str(pairs))
        return source_warnings(Recipe(main, Byte(), Fractions(0.0, 0.0), val_source=TextFiles(str(path))))

    for path in (pairs / "00.txt", tmp_path / "link.txt", tmp_path / "hard.txt", f"{pairs}/00*"):
        [line] = said(path)
        assert "the source of val reads 1 file of the training text too" in line and "trained on" in line
    assert "reads 40 files of the training text too" in said(pairs)[0]
    assert "reads 40 files" in said(pairs, Mixture({"a": lambda: TextFiles(str(pairs))}))[0]
    assert said(tmp_path / "other.txt") == []


def test_two_fields_of_one_file_are_two_texts(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": "one", "b": "two"}\n' * 3)
    fields = [JsonLines(str(tmp_path / "a.jsonl"), field) for field in ("a", "b", "a")]
    for own, count in ((fields[1], 0), (fields[2], 1)):
        recipe = Recipe(fields[0], Byte(), Fractions(0.0, 0.0), test_source=own, val_source=own)
        assert len(source_warnings(recipe)) == 2 * count
