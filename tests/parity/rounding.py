"""How far float32 may lie from the exact answer: the one bound of all tests that compare results in float32.

Two correct programs add in different orders, and each processor adds in its own: both miss the float64 answer by
rounding, in proportion to the result's scale. So each is held to float64 and to that scale, never to the other by a
fixed 1e-5.

The bound, in units of eps = 2**-23 times the root mean square (rms) of the exact answer: a block is about 8 operations
in a row whose results are rounded (norm, projection, scores, softmax, mix, projection, norm, feed-forward), each a sum
of up to `width` products. A sum of n rounded products misses by up to eps/2 sqrt(n), and independent misses add as
squares: eps/2 sqrt(8 depth width). MARGIN = 4 allows for how much a net stretches what enters it (norms of small
vectors, narrow softmaxes, gates). A single number may lie further out than the rms, and a token whose norm is small
stretches its own row: 16 times, where a normal distribution over 50,000 numbers would reach 4.5 times.

Measured over all families of `tests/hub` (depth 2 or 3, width 48: bound 55 or more): rms 2.7 to 9.9, largest 134 of the
880 allowed, with AVX-512, AVX2 and neither. A wrong eps, one swapped pair of weights or a rotary base that is off by 1%
misses by far more (`tests/parity/test_rounding.py`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPS = torch.finfo(torch.float32).eps
MARGIN, OUTLIER = 4.0, 16.0


def allowance(depth: int, width: int, passes: int = 1) -> float:
    """Root mean square of the error that float32 may have, in units of EPS times the result's own.

    Args:
        depth: Blocks that the numbers went through; 1 for a single layer.
        width: Products in the longest of the usual sums.
        passes: 2 for gradients, which went forward and back.
    """
    return MARGIN / 2 * math.sqrt(8 * passes * depth * width)


def misses(found: Tensor, exact: Tensor, scale: float | None = None) -> tuple[float, float]:
    """Error of a float32 result as root mean square and as its largest, in units of EPS times the scale.

    Args:
        found: The result.
        exact: The same in float64, or another float32 result.
        scale: Root mean square that errors are measured by; None for that of `exact`.
    """
    assert found.shape == exact.shape, (found.shape, exact.shape)
    apart = found.detach().double() - exact.detach().double()
    unit = EPS * (exact.detach().double().square().mean().sqrt().item() if scale is None else scale)
    return apart.square().mean().sqrt().item() / unit, apart.abs().max().item() / unit


def assert_only_rounded(
    found: Tensor, exact: Tensor, depth: int, width: int, passes: int = 1, scale: float | None = None, what: str = ""
) -> None:
    """A float32 result misses the exact one by rounding at most.

    Args:
        found: The result, in float32.
        exact: The same computed in float64; or in float32 another way, and twice the error is allowed.
        depth: As in `allowance`.
        width: As in `allowance`.
        passes: As in `allowance`.
        scale: As in `misses`.
        what: Name for the message.
    """
    assert found.dtype == torch.float32, found.dtype
    allowed = allowance(depth, width, passes) * (2 if exact.dtype == torch.float32 else 1)
    rms, largest = misses(found, exact, scale)
    told = f"{what or 'result'} misses by rms {rms:.1f} and at most {largest:.1f} eps of its scale"
    explained = f"rounding explains {allowed:.1f} and {OUTLIER * allowed:.1f}"
    assert rms <= allowed and largest <= OUTLIER * allowed, f"{told}; {explained}"


def choices_are_beyond_rounding(logits: Tensor, depth: int, width: int) -> bool:
    """Whether greedy choices are the same on every processor: the two largest logits lie further apart than rounding.

    Args:
        logits: (N, vocabulary), in float32.
        depth: As in `allowance`.
        width: As in `allowance`.
    """
    first, second = logits.double().topk(2).values.unbind(-1)
    unit = EPS * logits.double().square().mean().sqrt().item()
    return bool(((first - second) > 2 * OUTLIER * allowance(depth, width) * unit).all())
