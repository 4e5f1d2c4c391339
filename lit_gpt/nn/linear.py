"""Linear, Stacked and Embedding that only allocate: their values come from the net's `Init`, by name.

torch's own constructors draw random numbers at once, which costs time, moves the global generator and cannot be
repeated for one tensor alone.
"""

import torch
from torch import nn


class Linear(nn.Linear):
    """``torch.nn.Linear`` without bias unless asked for, filled by `Init`."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False):
        super().__init__(inputs, outputs, bias=bias)

    def reset_parameters(self) -> None:
        """Left to `Init`."""


class Embedding(nn.Embedding):
    """``torch.nn.Embedding``, filled by `Init`."""

    def reset_parameters(self) -> None:
        """Left to `Init`."""


class Stacked(nn.Module):
    """One weight matrix for each of several experts, in one tensor, filled by `Init`.

    Args:
        experts: How many matrices.
        inputs: Size of what each is multiplied with.
        outputs: Size of what each gives.
        active: How many of them one token meets.
    """

    def __init__(self, experts: int, inputs: int, outputs: int, active: int):
        super().__init__()
        self.experts, self.active = experts, active
        self.weight = nn.Parameter(torch.empty(experts, outputs, inputs))

    def extra_repr(self) -> str:
        """For printing."""
        experts, outputs, inputs = self.weight.shape
        return f"{experts} x ({inputs} -> {outputs}), active={self.active}"
