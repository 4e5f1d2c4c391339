"""Linear and Embedding that only allocate: their values come from the net's `Init`, by name.

torch's own constructors draw random numbers at once, which costs time, moves the global generator and cannot be
repeated for one tensor alone.
"""

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
