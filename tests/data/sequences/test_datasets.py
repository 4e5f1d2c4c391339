"""Windows against slices of the ids."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data import Byte, Corpus, Windows, write_corpus
from lit_gpt.data.sequences.datasets import IGNORED
from lit_gpt.errors import UserError


class Made:
    """Stands for a corpus: ids in memory."""

    def __init__(self, ids: np.ndarray) -> None:
        self.ids, self.vocab_size, self.folder = ids, int(ids.max(initial=0)) + 1, Path("made")
        self.loss_mask = None

    def __len__(self) -> int:
        return len(self.ids)


@given(st.integers(2, 200), st.integers(1, 30))
@settings(deadline=None)
def test_each_token_but_the_first_is_a_target_once(size: int, context: int) -> None:
    ids = np.arange(size, dtype=np.uint16)
    windows = Windows(Made(ids), context)  # type: ignore[arg-type]
    seen = []
    for number in range(len(windows)):
        inputs, targets, segments, task = windows[number]
        assert inputs.shape == targets.shape == (context,) and inputs.dtype == targets.dtype == torch.int64
        assert segments is None and task is None
        scored = targets != IGNORED
        assert torch.equal(inputs[scored] + 1, targets[scored])
        seen += targets[scored].tolist()
    assert seen == list(range(1, size))


@given(st.integers(2, 60), st.integers(1, 12))
@settings(deadline=None)
def test_crops_are_all_whole_windows(size: int, context: int) -> None:
    windows = Windows(Made(np.arange(size, dtype=np.uint16)), context, stride=1)  # type: ignore[arg-type]
    assert len(windows) == max(size - context, 0)
    for number in range(len(windows)):
        inputs, targets, _, _ = windows[number]
        assert inputs.tolist() == list(range(number, number + context))
        assert targets.tolist() == list(range(number + 1, number + context + 1))


def test_batches_equal_single_windows_and_empty_rows_score_nothing(tmp_path: Path) -> None:
    windows = Windows(write_corpus(tmp_path / "c", ["the quick brown fox"], Byte()), 5)
    numbers = np.array([3, -1, 0, 2])
    inputs, targets, _, _ = windows.batch(numbers)
    for row, number in enumerate(numbers):
        if number < 0:
            assert (targets[row] == IGNORED).all()
        else:
            assert torch.equal(inputs[row], windows[number].inputs) and torch.equal(
                targets[row], windows[number].targets
            )
    inputs[0] = 0  # batches own their memory
    assert windows[3].inputs.any() and targets[0, 0] == windows[3].targets[0]


def test_windows_travel_to_workers(tmp_path: Path) -> None:
    windows = Windows(write_corpus(tmp_path / "c", ["the quick brown fox"], Byte()), 5)
    assert torch.equal(pickle.loads(pickle.dumps(windows))[1].inputs, windows[1].inputs)
    with pytest.raises(IndexError):
        windows[4]
    assert torch.equal(windows[-1].inputs, windows[3].inputs)


def test_ids_that_were_changed_on_disk_are_refused_with_their_place(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c", ["the quick brown fox"], Byte())
    raw = np.fromfile(corpus.folder / "ids.bin", dtype=np.uint16)
    raw[7] = 300
    raw.tofile(corpus.folder / "ids.bin")
    with pytest.raises(UserError, match="ids.bin is damaged"):
        Windows(Corpus(corpus.folder), 5).batch(np.array([0, 1]))
