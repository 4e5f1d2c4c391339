"""Masked and replaced tokens: how many, which, and nothing else."""

from typing import Any

import numpy as np
import pytest
import torch

from lit_gpt.data import Batch, Byte, Char, MaskTokens, ReplaceTokens
from lit_gpt.data.augment.augment import trained_lengths, uniform
from lit_gpt.data.sequences.datasets import IGNORED
from lit_gpt.errors import UserError


def batch(rows: int = 40, width: int = 200) -> Batch:
    ids = torch.randint(260, (rows, width + 1), generator=torch.Generator().manual_seed(1))  # 256 on: special
    targets = ids[:, 1:].clone()
    targets[:, -20:] = IGNORED
    targets[:, :10] = IGNORED
    return Batch(ids[:, :-1].clone(), targets)


def opened(cls: Any, *arguments: Any) -> Any:
    augment = cls(*arguments)
    augment.open(Byte(bos="<s>", eos="</s>", pad="<pad>", special=["<mask>"]))
    return augment


KEYS = np.arange(40, dtype=np.uint64) * np.uint64(7)


@pytest.mark.parametrize("cls", [MaskTokens, ReplaceTokens])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 1.0])
def test_a_share_of_the_ordinary_inputs_is_changed_and_nothing_else(cls: Any, rate: float) -> None:
    before, after = batch(), opened(cls, rate).apply(batch(), KEYS)
    assert torch.equal(before.targets, after.targets)
    changed = before.inputs != after.inputs
    may = before.inputs < 256
    may[:, -20:] = False  # empty places at the rows' ends
    assert not changed[~may].any()
    share = changed[may].float().mean()
    expected = rate if cls is MaskTokens else rate * 255 / 256
    assert abs(share - expected) < 4 * (rate * (1 - rate) / may.sum()) ** 0.5 + 0.005
    if cls is MaskTokens:
        assert (after.inputs[changed] == 258).all()
    elif rate:
        drawn = torch.bincount(after.inputs[changed], minlength=256)
        assert len(drawn) == 256 and (drawn - drawn.float().mean()).abs().max() < 6 * drawn.float().mean() ** 0.5


def test_rows_are_changed_by_their_own_keys_alone() -> None:
    whole = opened(MaskTokens, 0.3).apply(batch(), KEYS).inputs
    part = batch()
    some = Batch(part.inputs[5:9].clone(), part.targets[5:9].clone())
    assert torch.equal(opened(MaskTokens, 0.3).apply(some, KEYS[5:9]).inputs, whole[5:9])
    assert not torch.equal(opened(MaskTokens, 0.3).apply(batch(), KEYS + np.uint64(1)).inputs, whole)


def test_which_token_masks() -> None:
    named = opened(MaskTokens, 1.0, "<mask>").apply(batch(), KEYS)
    assert 259 in named.inputs
    char = Char(unk="?", pad="<pad>")
    char.train(["abc"])
    augment = MaskTokens(1.0)
    augment.open(char)
    ids = torch.tensor([[0, 1, 2, 0]])
    assert (augment.apply(Batch(ids.clone(), ids), KEYS[:1]).inputs == char.unk).all()
    with pytest.raises(UserError, match="MaskTokens needs a mask, and Byte has neither unk nor pad; .*tokenizer.pad"):
        MaskTokens().open(Byte())
    with pytest.raises(UserError, match="no special token '<nothing>'"):
        opened(MaskTokens, 0.1, "<nothing>")


@pytest.mark.parametrize("cls", [MaskTokens, ReplaceTokens])
def test_a_rate_is_a_share(cls: Any) -> None:
    with pytest.raises(UserError, match=f"rate 1.5 of {cls.__name__}"):
        cls(1.5)


def test_lengths_reach_to_the_last_target() -> None:
    targets = np.array([[1, IGNORED, 2, IGNORED], [IGNORED] * 4, [1, 2, 3, 4]])
    assert trained_lengths(targets).tolist() == [3, 0, 4]


def test_numbers_are_even() -> None:
    values = uniform(np.arange(500, dtype=np.uint64), 400)
    counts, _ = np.histogram(values, 50, (0, 1))
    assert ((counts - 4000) ** 2 / 4000).sum() < 86  # chi square with 49 degrees of freedom, once in a thousand
    assert abs(np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]) < 0.01
