"""Float32 answers against float64's: how much rounding explains, whatever processor and thread count computed them.

Two correct float32 implementations sum in different orders, so they differ from each other and from one run to the next
on another processor. Both are therefore held against one float64 answer, relative to the largest number in it.
"""

import copy

import torch
from torch import Tensor, nn

# Rounding of one sum is about eps; over the layers of the small models here it grew to 31 eps at most, theirs and ours
# alike (AVX-512, AVX2 and scalar kernels). A swapped weight or another activation is 1,000 eps and more.
ROUNDING = 128 * torch.finfo(torch.float32).eps  # 1.5e-5 of the largest number


def in_float64(net: nn.Module) -> nn.Module:
    """The same weights, computing in float64; the original stays as it is."""
    return copy.deepcopy(net).double()


def assert_is_rounding(answer: Tensor, exact: Tensor, name: str = "", scale: float | None = None) -> None:
    """A float32 answer differs from the float64 answer by rounding alone.

    Args:
        answer: What was computed in float32.
        exact: The same in float64.
        name: What it is, for the message.
        scale: What the difference is measured against, where the largest number of `exact` is the wrong one.
    """
    assert answer.dtype == torch.float32 and exact.dtype == torch.float64
    assert answer.shape == exact.shape
    answer, exact = answer.detach(), exact.detach()
    scale = float(exact.abs().max()) if scale is None else scale
    difference = float((answer.double() - exact).abs().max())
    assert difference <= ROUNDING * scale, f"{name}: off by {difference:.2e}, {difference / scale:.1e} of {scale:.3g}"
