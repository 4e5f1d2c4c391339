"""A patch for tests: transformers computes in float64 throughout.

Its norms, rotary tables, softmax and losses are written to go through float32 whatever the net's own precision, which
hides differences below 1e-7. While the patch is on, every request for float32 made through torch means float64.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class Float64(TorchFunctionMode):
    """Within this context a model is built and run with no number of less than 64 bits."""

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if function is torch.Tensor.float:
            function = torch.Tensor.double
        args = tuple(_lift(argument) for argument in args)
        return function(*args, **{name: _lift(argument) for name, argument in (kwargs or {}).items()})


def _lift(argument: Any) -> Any:
    return torch.float64 if argument is torch.float32 else argument
