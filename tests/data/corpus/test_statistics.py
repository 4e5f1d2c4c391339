"""Statistics of prepared texts against plain counting."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lit_gpt.data.corpus import statistics as module
from lit_gpt.data.corpus.corpus import Corpus, write_corpus
from lit_gpt.data.corpus.statistics import Statistics, statistics
from lit_gpt.data.tokenizers.byte_and_char import Byte

SMALL = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that borders of blocks fall everywhere."""
    monkeypatch.setattr(module, "_BLOCK", 7)
    monkeypatch.setattr(module, "_DOCUMENTS", 2)


def corpora(folder: Path, splits: dict[str, list[str]], tokenizer: Byte) -> dict[str, Corpus]:
    number = sum(1 for _ in folder.iterdir())
    return {split: write_corpus(folder / f"{number}-{split}", texts, tokenizer) for split, texts in splits.items()}


def made(tokenizer: Byte) -> Byte:
    tokenizer.train([])
    return tokenizer


texts = st.lists(st.text("abc", max_size=14), min_size=1, max_size=6).filter(any)


@SMALL
@given(texts, texts, st.integers(1, 5), st.booleans())
def test_counts_lengths_and_overlap_are_those_of_plain_counting(
    tmp_path: Path, train: list[str], val: list[str], ngram: int, framed: bool
) -> None:
    tokenizer = made(Byte(bos="<s>", eos="</s>") if framed else Byte())
    found = statistics(
        corpora(tmp_path, {"train": train, "val": val}, tokenizer),
        ngram=ngram,
        framing=(tokenizer.bos, tokenizer.eos),
    )
    for split, documents in (("train", train), ("val", val)):
        one = found[split]
        rows = [[tokenizer.bos, *text.encode(), tokenizer.eos] if framed else list(text.encode()) for text in documents]
        counts = Counter(id for row in rows for id in row)
        assert {id: many for id, many in enumerate(one.counts.tolist()) if many} == counts
        lengths = Counter(map(len, rows))
        assert dict(zip(one.lengths.tolist(), one.times.tolist(), strict=True)) == lengths
        assert (one.tokens, one.documents, one.trained_on) == (sum(map(len, rows)), len(rows), sum(map(len, rows)))
        assert one.bytes == sum(len(text.encode()) for text in documents)
        assert sum(many for _, _, many in one.length_histogram()) == len(rows)
        for start, end, many in one.length_histogram():
            first = 0 if start == one.length_histogram()[0][0] else start
            assert many == sum(first <= len(row) <= end for row in rows)

    def ngrams(documents: list[str]) -> list[tuple[int, ...]]:
        rows = [[-1, *text.encode(), -2] if framed else list(text.encode()) for text in documents]
        return [tuple(row[at : at + ngram]) for row in rows for at in range(len(row) - ngram + 1)]

    there, overlap = set(ngrams(train)), found["val"].overlap
    assert overlap is not None
    assert overlap.ngrams == len(ngrams(val))
    assert overlap.shared == sum(one in there for one in ngrams(val))
    full = [text for text in val if text]
    assert (overlap.documents, overlap.shared_documents) == (len(full), sum(text in train for text in full))
    assert overlap.repeated == len(full) - len(set(full))
    assert found["train"].overlap is None


def test_several_held_out_texts_are_each_compared(tmp_path: Path) -> None:
    splits = {"train": ["abcdef", "xyz"], "val": ["abcdef", "ghi"], "extra/far": ["ghi"], "test": ["xyz"]}
    found = statistics(corpora(tmp_path, {k: v for k, v in splits.items() if "/" not in k}, made(Byte())), ngram=3)
    assert {split: one.overlap.shared for split, one in found.items() if one.overlap} == {"val": 4, "test": 1}
    assert {split: one.overlap.shared_documents for split, one in found.items() if one.overlap} == {"val": 1, "test": 1}


def test_progress_counts_every_token_once(tmp_path: Path) -> None:
    made_corpora = corpora(tmp_path, {"train": ["abcdef" * 5, "xyz"], "val": ["abc"]}, made(Byte()))
    seen: list[int] = []
    statistics(made_corpora, advance=seen.append)
    assert sum(seen) == sum(map(len, made_corpora.values()))
    assert max(seen) <= 7


def test_quantiles_and_coverage() -> None:
    counts = np.array([0, 50, 30, 0, 15, 5])
    one = Statistics(10, 0, counts, np.array([2, 5, 100]), np.array([5, 4, 1]), 100)
    assert [one.length_at(share) for share in (0.0, 0.5, 0.51, 0.9, 0.95, 1.0)] == [2, 2, 5, 5, 100, 100]
    assert one.ranked.tolist() == [50, 30, 15, 5]
    assert [one.ids_for(share) for share in (0.5, 0.6, 0.8, 0.99)] == [1, 2, 2, 4]
    assert one.length_histogram() == [(2, 3, 5), (4, 7, 4), (8, 15, 0), (16, 31, 0), (32, 63, 0), (64, 127, 1)]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 17))
def test_windows_are_equal_where_their_numbers_are(ids: list[int], size: int) -> None:
    if len(ids) < size:
        return
    hashes = module._windows(module._scattered(np.array(ids)), size).tolist()
    grams = [tuple(ids[at : at + size]) for at in range(len(ids) - size + 1)]
    assert len(hashes) == len(grams)
    assert len(set(zip(hashes, grams, strict=True))) == len(set(hashes)) == len(set(grams))
