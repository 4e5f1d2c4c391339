"""Linear, Embedding and Stacked (expert) weights that only allocate; `Init` fills them, each seeded by its name.

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
        """`Init` fills it."""


class Embedding(nn.Embedding):
    """``torch.nn.Embedding``, filled by `Init`."""

    def reset_parameters(self) -> None:
        """`Init` fills it."""


class Stacked(nn.Module):
    """One weight matrix for each of several experts, in one tensor, filled by `Init`.

    Args:
        experts: Number of matrices.
        inputs: Input features of each.
        outputs: Output features of each.
        active: How many of them one token is multiplied with.
    """

    def __init__(self, experts: int, inputs: int, outputs: int, active: int):
        super().__init__()
        self.experts, self.active = experts, active
        self.weight = nn.Parameter(torch.empty(experts, outputs, inputs))

    def extra_repr(self) -> str:
        experts, outputs, inputs = self.weight.shape
        return f"{experts} x ({inputs} -> {outputs}), active={self.active}"
