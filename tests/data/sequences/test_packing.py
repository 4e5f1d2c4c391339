"""Packed against the documents themselves, and against best-fit decreasing written out item by item."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import Made, check_scored_bytes, documents_of
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_only_rounded

from lit_gpt.data import BPE, Byte, Packed, TextFiles, Tokenizer, Windows, write_corpus
from lit_gpt.data.sequences.datasets import IGNORED
from lit_gpt.data.sequences.packing import best_fit
from lit_gpt.model import GPT
from lit_gpt.nn import ALiBi, Learned, RoPE, SelfAttention

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=60)


def best_fit_by_hand(sizes: list[int], context: int) -> list[int]:
    """What is left in each row, items placed one after the other."""
    left: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [row for row in range(len(left)) if left[row] >= size]
        if fitting:
            left[min(fitting, key=lambda row: left[row])] -= size
        else:
            left.append(context - size)
    return sorted(left)


@given(st.integers(1, 40), st.data())
@settings(deadline=None)
def test_items_of_a_size_placed_together_fill_rows_as_one_by_one(context: int, data: st.DataObject) -> None:
    sizes = np.array(data.draw(st.lists(st.integers(1, context), max_size=120)), dtype=np.int32)
    row_of, rows = best_fit(sizes, context)
    used = np.bincount(row_of, weights=sizes, minlength=rows).astype(int)
    assert sorted((context - used).tolist()) == best_fit_by_hand(sizes.tolist(), context)


def test_ten_million_documents_take_seconds() -> None:
    sizes = np.minimum(np.random.default_rng(0).lognormal(4.5, 1, 1_000_000).astype(np.int32) + 1, 2048)
    row_of, rows = best_fit(sizes, 2048)
    assert np.bincount(row_of, weights=sizes, minlength=rows).max() == 2048
    assert sizes.sum() / (rows * 2048) > 0.999


@given(SIZES, st.integers(1, 16), st.booleans())
@settings(deadline=None)
def test_each_token_but_a_documents_first_is_a_target_once(sizes: list[int], context: int, separator: bool) -> None:
    corpus = Made.of_documents(sizes, separator=separator)
    rows = Packed(corpus, context)
    seen: list[int] = []
    for number in range(len(rows)):
        inputs, targets, segments, _ = rows[number]
        assert segments is not None and inputs.shape == targets.shape == segments.shape == (context,)
        scored = targets != IGNORED
        assert torch.equal(inputs[scored] + 1, targets[scored])
        for segment in segments.unique():
            inside = segments == segment
            assert scored[inside].all() or not scored[inside].any()  # empty places are alone
            documents = {corpus.document_of(token) for token in targets[inside & scored].tolist()}
            assert len(documents) <= 1
        seen += targets[scored].tolist()
    firsts = {int(corpus.offsets[0])} if separator else {int(first) for first in corpus.offsets[:-1]}
    assert sorted(seen) == [token for token in range(len(corpus)) if token not in firsts]


def test_a_batch_is_its_rows_and_empty_rows_score_nothing() -> None:
    rows = Packed(Made.of_documents([5, 3, 30, 9, 2, 2, 7]), 8)
    numbers = np.array([2, -1, 0, 1])
    batch = rows.batch(numbers)
    for place, number in enumerate(numbers.tolist()):
        if number < 0:
            assert (batch.targets[place] == IGNORED).all()
        else:
            for whole, one in zip(batch[:3], rows[number][:3], strict=True):
                assert whole is not None and one is not None and torch.equal(whole[place], one)


def test_what_is_not_scored_is_no_target() -> None:
    corpus = Made.of_documents([6, 30, 4])
    corpus.loss_mask = (np.arange(40) % 3 != 0).astype(np.uint8)
    rows = Packed(corpus, 8)
    batch = rows.batch(np.arange(len(rows)))
    scored = sorted(batch.targets[batch.targets != IGNORED].tolist())
    assert scored == [token for token in range(40) if token % 3 and token not in (0, 6, 36)]


@pytest.mark.parametrize("tokenizer", [Byte(), Byte(bos="<s>", eos="</s>"), Byte(bos="|", eos="|"), Byte(eos="</s>")])
@pytest.mark.parametrize("context", [4, 16])
def test_documents_come_back_with_what_begins_and_ends_them(tokenizer: Tokenizer, context: int, tmp_path: Path) -> None:
    texts = ["first", "the second one, longer", "", "x", "dritter äöü"]
    rows = Packed(write_corpus(tmp_path / "c", texts, tokenizer), context)
    found = documents_of(rows)
    bos, eos = [[id] if id is not None else [] for id in (tokenizer.bos, tokenizer.eos)]
    wanted = [[*bos, *tokenizer.encode(text), *eos] for text in texts]
    whole = [ids for ids in wanted if 1 < len(ids) <= context + 1]
    assert all(ids in found for ids in whole)
    targets = sorted(id for ids in wanted for id in ids[1:])
    batch = rows.batch(np.arange(len(rows)))
    assert sorted(batch.targets[batch.targets != IGNORED].tolist()) == targets


def test_bytes_that_are_scored_are_those_of_the_targets(tmp_path: Path) -> None:
    texts = ["first", "zweiter, über drei Zeilen", "x", "dritter äöü"]
    cuts = (Packed, Windows, partial(Windows, stride=8))
    check_scored_bytes(texts, tmp_path, [partial(cut, context=8) for cut in cuts])


@torch.no_grad()
@pytest.mark.parametrize("position", [RoPE, Learned, ALiBi])
@pytest.mark.parametrize("window", [None, 5])
def test_each_document_is_scored_as_it_is_alone(position: Any, window: int | None) -> None:
    rows = Packed(Made.of_documents([5, 3, 30, 9, 2, 2, 7, 12, 1, 16, 17]), 16)
    net = GPT(
        128, width=32, depth=2, heads=4, context=16, position=position, attention=partial(SelfAttention, window=window)
    ).eval()
    inputs, targets, segments, _ = rows.batch(np.arange(len(rows)))
    assert segments is not None
    together = net(inputs, segments=segments)
    for row, segment in ((one, two) for one in range(len(rows)) for two in segments[one].unique()):
        inside = segments[row] == segment
        if (targets[row][inside] != IGNORED).any():
            alone = net(inputs[row][inside][None])
            assert_only_rounded(together[row][inside][None], alone, depth=2, width=32)


def test_what_is_cut_and_left_empty_is_said() -> None:
    rows = Packed(Made.of_documents([20, 5, 41]), 8)
    assert rows.notes() == [
        "1 of 64 places in packed rows stay empty (1.56%)",
        "2 documents are longer than 8 tokens, cut into 8 stretches",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("context", [512, 1024])
def test_less_than_two_percent_stay_empty_on_paragraphs_of_books(context: int, tmp_path: Path) -> None:
    books = Path(__file__).parents[4] / "shared" / "data" / "gutenberg"
    if not books.exists():
        pytest.skip("the books do not lie beside the repository")
    source = TextFiles(str(books), separator="\n\n")
    tokenizer = BPE(vocab_size=8192)
    tokenizer.train(source)
    rows = Packed(write_corpus(tmp_path / "c", source, tokenizer), context)
    assert rows.padding < 0.02
