"""Prompts against the documents they are made of."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from corpora import Made, check_scored_bytes
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data import Byte, Prompts, write_corpus
from lit_gpt.data.sequences.datasets import IGNORED


@given(st.lists(st.integers(0, 300), min_size=1, max_size=20), st.sampled_from([1, 50, 100, 128]))
@settings(deadline=None)
def test_each_record_that_fits_is_a_row_of_its_own(sizes: list[int], context: int) -> None:
    corpus = Made.of_documents(sizes)
    rows = Prompts(corpus, context)
    fitting = [number for number, size in enumerate(sizes) if 2 <= size <= context + 1]
    assert len(rows) == len(fitting)
    for row, number in enumerate(fitting):
        inputs, targets, segments, _ = rows[row]
        first, size = int(corpus.offsets[number]), sizes[number]
        assert segments is None and inputs[: size - 1].tolist() == list(range(first, first + size - 1))
        assert targets[: size - 1].tolist() == list(range(first + 1, first + size))
        assert (targets[size - 1 :] == IGNORED).all()
        assert len(inputs) == min(context, -(-(size - 1) // 64) * 64)
    assert rows.lengths().tolist() == [sizes[number] - 1 for number in fitting]


def test_a_batch_is_as_wide_as_its_longest_row_needs() -> None:
    rows = Prompts(Made.of_documents([10, 66, 200, 130]), 150)
    assert rows.batch(np.array([0, -1])).inputs.shape == (2, 64)
    assert rows.batch(np.array([0, 1])).inputs.shape == (2, 128)
    batch = rows.batch(np.array([2, -1, 0]))
    assert batch.inputs.shape == (3, 150) and rows.widths().tolist() == [64, 128, 150]
    assert (batch.targets[1] == IGNORED).all() and torch.equal(batch.targets[2, :64], rows[0].targets)


def test_long_records_are_dropped_or_cut_and_counted() -> None:
    corpus = Made.of_documents([10, 66, 200, 1, 130])
    dropped, cut = Prompts(corpus, 100), Prompts(corpus, 100, too_long="cut")
    assert len(dropped) == 2 and dropped.notes() == [
        "2 of 5 records are longer than 100 tokens, dropped",
        "1 of 5 records have nothing to predict, dropped",
    ]
    assert len(cut) == 4 and cut.notes()[0] == "2 of 5 records are longer than 100 tokens, cut at their end"
    assert cut[2].targets.tolist() == list(range(77, 177))
    corpus.loss_mask = np.ones(len(corpus), np.uint8)
    corpus.loss_mask[76:200] = 0  # of the third record only the end is learned
    pointless = Prompts(corpus, 100, too_long="cut")
    assert len(pointless) == 3
    assert pointless.notes()[0] == (
        "1 of 5 records are longer than 100 tokens and have nothing to train on in their beginning, dropped"
    )


def test_a_text_of_which_nothing_fits_says_what_would_do() -> None:
    shortage = Prompts(Made.of_documents([200, 300]), 100).shortage()
    assert shortage is not None and "2 of 2 are longer than 100 tokens" in shortage and "data.context" in shortage


def test_only_what_is_scored_is_a_target_and_counts_its_bytes(tmp_path: Path) -> None:
    texts = ["kürzer", "etwas länger als der Rest", "xy"]
    options = ({"context": 12}, {"context": 12, "too_long": "cut"}, {"context": 60})
    check_scored_bytes(texts, tmp_path, [partial(Prompts, **one) for one in options])


def test_questions_are_read_and_not_learned() -> None:
    corpus = Made.of_documents([8, 6])
    corpus.loss_mask = np.array([0] * 5 + [1] * 3 + [0] * 2 + [1] * 4, np.uint8)
    batch = Prompts(corpus, 64).batch(np.array([0, 1]))
    assert batch.inputs[0, :7].tolist() == list(range(7))
    assert [row[row != IGNORED].tolist() for row in batch.targets] == [[5, 6, 7], [10, 11, 12, 13]]


@pytest.mark.parametrize("too_long", ["drop", "cut"])
def test_records_begin_with_the_separator_before_them(too_long: str, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", ["one", "two", "three"], Byte(bos="|", eos="|"))
    rows = Prompts(corpus, 64, too_long)  # type: ignore[arg-type]
    assert [rows[number].inputs[0].item() for number in range(3)] == [256] * 3
    assert [(rows[number].targets != IGNORED).sum().item() for number in range(3)] == [4, 4, 6]
