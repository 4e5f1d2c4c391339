"""What is done to the residual stream outside of the blocks. Letters: B batch, T tokens, C width."""

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """x times a constant.

    Args:
        factor: The constant.
    """

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor
        # In 16 bits the factor is rounded too: Gemma was trained so, and 55.4 for 55.5 is more than the rounding of x.
        self.rounded = {
            dtype: torch.tensor(factor, dtype=dtype, device="cpu").item() for dtype in (torch.bfloat16, torch.float16)
        }

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return x * self.rounded.get(x.dtype, self.factor)

    def extra_repr(self) -> str:
        """Shown by print(net)."""
        return f"{self.factor}"


class ResidualScalars(nn.Module):
    """What each block reads: a x + b x_0, with learned scalars a and b of each layer that start at 1 and 0; x_0 is what
    the first block is given (modded-nanogpt, nanochat).

    Args:
        depth: Number of layers.
    """

    def __init__(self, depth: int):
        super().__init__()
        self.stream = nn.Parameter(torch.ones(depth))
        self.start = nn.Parameter(torch.zeros(depth))

    def forward(self, x: Tensor, start: Tensor, layer: int) -> Tensor:
        """x and x_0, (B, T, C) each -> (B, T, C)."""
        return self.stream[layer] * x + self.start[layer] * start

    def reset_parameters(self) -> None:
        """Every block starts by reading the stream alone."""
        nn.init.ones_(self.stream)
        nn.init.zeros_(self.start)


class PlainStream(nn.Module):
    """What each block reads: the stream as it is."""

    def forward(self, x: Tensor, start: Tensor, layer: int) -> Tensor:
        """(B, T, C) -> the same."""
        return x
