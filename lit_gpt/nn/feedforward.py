"""Feed-forward layers: MLP, SwiGLU, GeGLU, and their activations.

Letters: B batch, T tokens, C width, F hidden width."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_gpt.errors import UserError, not_implemented
from lit_gpt.nn.linear import Linear
from lit_gpt.nn.sizes import Sizes

if TYPE_CHECKING:
    from lit_gpt.nn.moe import Routing

Aux: TypeAlias = "Tensor | float | Routing"  # what a layer adds to the loss; `moe.total` adds the layers' up


class Activation(nn.Module):
    """Base of the pointwise non-linearities: ``forward(x) -> x``."""

    def forward(self, x: Tensor) -> Tensor:
        raise not_implemented(self, "forward")


class GELU(Activation):
    """Gaussian error linear unit (Hendrycks and Gimpel 2016, arXiv 1606.08415).

    Args:
        approximate: ``tanh`` is GPT-2's approximation, ``none`` the exact one.
    """

    def __init__(self, approximate: Literal["none", "tanh"] = "none"):
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x, approximate=self.approximate)


class ReLU(Activation):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class ReLUSquared(Activation):
    """max(x, 0)^2 (Primer, So et al. 2021, arXiv 2109.08668)."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _SquaredReLU.apply(x)
        return y


class _SquaredReLU(torch.autograd.Function):
    """max(x, 0)^2 with its gradient 2 max(x, 0): torch's ``square`` is a power, several times slower on CPUs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (grads[0] * positive).mul_(2)


class FeedForward(nn.Module):
    """Base of the feed-forward layers: ``forward(x) -> (x, aux)``, (B, T, C) -> (B, T, C) and a term for the loss
    (a router's balance; 0.0 for dense layers).

    Args:
        sizes: Filled in by the net.

    Attributes:
        residual: Names of the linears that write into the residual stream; `Init` scales them.
    """

    residual: ClassVar[tuple[str, ...]] = ()

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.width = sizes.width

    def forward(self, x: Tensor) -> tuple[Tensor, Aux]:
        """(B, T, C) -> (B, T, C) and the auxiliary loss."""
        raise not_implemented(self, "forward")


class MLP(FeedForward):
    """Two matrices with a non-linearity between them (Vaswani et al. 2017, section 3.3).

    Args:
        sizes: Filled in by the net.
        ratio: Hidden width over width.
        hidden: Hidden width itself; overrides ratio.
        bias: Whether the projections have biases.
        activation: The non-linearity: GELU, ReLU, ReLUSquared or a class of yours.
    """

    residual = ("down",)

    def __init__(
        self,
        sizes: Sizes,
        ratio: float = 4.0,
        hidden: int | None = None,
        bias: bool = False,
        activation: Callable[[], Activation] = GELU,
    ):
        super().__init__(sizes)
        hidden = hidden_width(hidden, ratio * self.width)
        self.up = Linear(self.width, hidden, bias)
        self.activation = activation()
        self.down = Linear(hidden, self.width, bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        return self.down(self.activation(self.up(x))), 0.0


class _Gated(FeedForward):
    """down(act(gate(x)) * up(x)), the gated linear units of Shazeer 2020 (arXiv 2002.05202)."""

    residual = ("down",)

    def __init__(self, sizes: Sizes, ratio: float, hidden: int | None, bias: bool):
        super().__init__(sizes)
        # Two thirds, so that three matrices cost what the MLP's two do; a multiple of 8 for the GEMM kernels.
        hidden = hidden_width(hidden, -(-(2 * ratio * self.width / 3) // 8) * 8)
        self.gate = Linear(self.width, hidden, bias)
        self.up = Linear(self.width, hidden, bias)
        self.down = Linear(hidden, self.width, bias)


class SwiGLU(_Gated):
    """Gated feed-forward with SiLU (Shazeer 2020, arXiv 2002.05202), as in Llama.

    Args:
        sizes: Filled in by the net.
        ratio: Hidden width over width of the MLP with equally many parameters; this one takes two thirds of it.
        hidden: Hidden width itself; overrides ratio.
        bias: Whether the projections have biases.
    """

    def __init__(self, sizes: Sizes, ratio: float = 4.0, hidden: int | None = None, bias: bool = False):
        super().__init__(sizes, ratio, hidden, bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        return self.down(F.silu(self.gate(x)) * self.up(x)), 0.0


class GeGLU(_Gated):
    """Gated feed-forward with GELU (Shazeer 2020, arXiv 2002.05202), as in Gemma.

    Args:
        sizes: Filled in by the net.
        ratio: Hidden width over width of the MLP with equally many parameters; this one takes two thirds of it.
        hidden: Hidden width itself; overrides ratio.
        bias: Whether the projections have biases.
        approximate: ``tanh`` is Gemma's approximation of GELU, ``none`` the exact one.
    """

    def __init__(
        self,
        sizes: Sizes,
        ratio: float = 4.0,
        hidden: int | None = None,
        bias: bool = False,
        approximate: Literal["none", "tanh"] = "none",
    ):
        super().__init__(sizes, ratio, hidden, bias)
        self.approximate = approximate

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        return self.down(F.gelu(self.gate(x), approximate=self.approximate) * self.up(x)), 0.0


def hidden_width(hidden: int | None, derived: float) -> int:
    """``hidden``, or the width derived from ratio where it is None."""
    if hidden is not None and hidden < 1:
        raise UserError(f"hidden must be at least 1, got {hidden}; leave it out to use ratio")
    if hidden is None and derived <= 0:
        raise UserError("ratio must be above 0; it is hidden width over width")
    return hidden or max(1, round(derived))
