"""Residual stream outside of the blocks: embedding scale and learned residual scalars.

Letters: B batch, T tokens, C width."""

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """x times a constant factor, e.g. of the embeddings."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor
        # In 16 bits the factor is rounded too: Gemma was trained so, and 55.4 for 55.5 is more than the rounding of x.
        self.rounded = {
            dtype: torch.tensor(factor, dtype=dtype, device="cpu").item() for dtype in (torch.bfloat16, torch.float16)
        }

    def forward(self, x: Tensor) -> Tensor:
        return x * self.rounded.get(x.dtype, self.factor)

    def extra_repr(self) -> str:
        return f"{self.factor}"


class ResidualScalars(nn.Module):
    """Input of each block: a x + b x_0, with learned scalars a and b for each layer that start at 1 and 0; x_0 is the
    input of the first block (modded-nanogpt, nanochat).
    """

    def __init__(self, depth: int):
        super().__init__()
        self.stream = nn.Parameter(torch.ones(depth))
        self.start = nn.Parameter(torch.zeros(depth))

    def forward(self, x: Tensor, start: Tensor, layer: int) -> Tensor:
        """x and x_0, (B, T, C) each -> (B, T, C)."""
        return self.stream[layer] * x + self.start[layer] * start

    def reset_parameters(self) -> None:
        nn.init.ones_(self.stream)
        nn.init.zeros_(self.start)


class PlainStream(nn.Module):
    """Input of each block: the residual stream itself."""

    def forward(self, x: Tensor, start: Tensor, layer: int) -> Tensor:
        return x
