"""The bound on rounding: what rounding does lies below it, and the smallest errors that people make far above."""

import copy
from collections.abc import Callable

import pytest
import torch
from rounding import OUTLIER, allowance, assert_only_rounded, choices_are_beyond_rounding, misses
from test_llama import SIZES, pair

from lit_gpt.model import GPT
from lit_gpt.nn import RMSNorm

DEPTH, WIDTH = 2, 96
IDS = torch.randint(0, 97, (3, 50), generator=torch.Generator().manual_seed(1))


def other_eps(net: GPT) -> None:
    """1e-6 in place of 1e-5 in one norm."""
    norm = net.blocks[0].attention_norm
    assert isinstance(norm, RMSNorm) and norm.eps == 1e-5
    norm.eps = 1e-6


def swapped(net: GPT) -> None:
    """Two numbers of one matrix change places."""
    weight = net.blocks[1].attention.value.weight.data
    weight[[3, 4], [5, 5]] = weight[[4, 3], [5, 5]]


def other_base(net: GPT) -> None:
    """A rotary base that is 1% too large."""
    rope = net.positions[0]
    rope.base *= 1.01
    rope.reset_buffers()


@pytest.mark.parametrize("mistake", [other_eps, swapped, other_base], ids=lambda mistake: mistake.__name__)
@torch.no_grad()
def test_a_real_error_is_far_beyond_rounding(mistake: Callable[[GPT], None]) -> None:
    _, net = pair(SIZES["grouped-query"])
    exact = copy.deepcopy(net).double()(IDS)
    assert_only_rounded(net(IDS), exact, DEPTH, WIDTH)
    mistake(net)
    rms, largest = misses(net(IDS), exact)
    assert rms > 10 * allowance(DEPTH, WIDTH) and largest > 10 * OUTLIER * allowance(DEPTH, WIDTH)
    with pytest.raises(AssertionError, match="result misses by rms .* rounding explains"):
        assert_only_rounded(net(IDS), exact, DEPTH, WIDTH)


def test_one_wrong_number_among_many_is_seen() -> None:
    exact = torch.randn(1000, 100, dtype=torch.float64)
    found = exact.float()
    found[7, 7] += 1e-3
    with pytest.raises(AssertionError, match="misses by"):
        assert_only_rounded(found, exact, DEPTH, WIDTH)


def test_a_choice_between_near_equals_is_one_of_rounding() -> None:
    logits = torch.tensor([[1.0, 5.0, 3.0], [4.0, 2.0, 0.0]])
    assert choices_are_beyond_rounding(logits, DEPTH, WIDTH)
    logits[1, 1] = 4.0001
    assert not choices_are_beyond_rounding(logits, DEPTH, WIDTH)
