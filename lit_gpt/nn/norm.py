"""Normalization layers over the last dimension: LayerNorm and RMSNorm."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gpt.errors import UserError, not_implemented
from lit_gpt.nn.sizes import Sizes


class Norm(nn.Module):
    """Base of the norms: ``forward(x) -> x`` over the last dimension, (..., C) -> (..., C)."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.width = sizes.width

    def forward(self, x: Tensor) -> Tensor:
        raise not_implemented(self, "forward")

    def reset_parameters(self) -> None:
        """Sets weights to one and biases to zero."""
        for name, parameter in self.named_parameters(recurse=False):
            nn.init.zeros_(parameter) if name == "bias" else nn.init.ones_(parameter)


class LayerNorm(Norm):
    """Layer normalization (Ba, Kiros and Hinton 2016, arXiv 1607.06450).

    Args:
        sizes: Filled in by the net.
        eps: Added to the variance.
        affine: Whether it has a learned weight.
        bias: Whether it has a learned bias beside the weight.
    """

    def __init__(self, sizes: Sizes, eps: float = 1e-5, affine: bool = True, bias: bool = False):
        super().__init__(sizes)
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(self.width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(self.width)) if affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.width,), self.weight, self.bias, self.eps)


class RMSNorm(Norm):
    """Root mean square normalization (Zhang and Sennrich 2019, arXiv 1910.07467): x / rms(x) * (center + weight).

    Args:
        sizes: Filled in by the net.
        eps: Added to the mean square.
        affine: Whether it has a learned weight.
        center: What is added to the weight, which starts at 1 - center; Gemma has 1, so that weight decay and 16-bit
            weights draw the factor to 1.
    """

    def __init__(self, sizes: Sizes, eps: float = 1e-5, affine: bool = True, center: float = 0.0):
        super().__init__(sizes)
        if not math.isfinite(center):
            raise UserError(f"center must be a number, got {center}; Gemma has 1, others 0")
        self.eps, self.center = eps, center
        self.weight = nn.Parameter(torch.full((self.width,), 1.0 - center)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if weight is None or not self.center:
            return self._times(x, weight)
        # 1 + w has no room for a small w in 16 bits.
        factor = weight.to(torch.promote_types(weight.dtype, torch.float32)) + self.center
        return self._times(x.to(factor.dtype), factor).to(x.dtype)

    def _times(self, x: Tensor, factor: Tensor | None) -> Tensor:
        """(..., C) and (C,) -> (..., C)."""
        if x.is_cpu and x.dtype in (torch.float32, torch.float64):
            y: Tensor = _RootMeanSquare.apply(x, self.eps)
            return y if factor is None else y * factor
        return F.rms_norm(x, (self.width,), factor, self.eps)

    def reset_parameters(self) -> None:
        """The factor starts at one."""
        if self.weight is not None:
            nn.init.constant_(self.weight, 1.0 - self.center)


class _RootMeanSquare(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) on CPUs, where torch has no fused kernel: forward and backward in half the time of
    ``F.rms_norm`` (`benchmarks/rms_norm.py`), which passes over memory five times each way.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = torch.rsqrt(length.square() / x.shape[-1] + eps)
        y = x * inverse
        ctx.save_for_backward(y, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        # dx = (g - y mean(g y)) / rms
        y, inverse = ctx.saved_tensors
        along = torch.linalg.vecdot(grads[0], y).unsqueeze(-1) / y.shape[-1]
        return torch.addcmul(grads[0], y, along, value=-1) * inverse, None
