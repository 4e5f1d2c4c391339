"""Transformer blocks: pre-norm, post-norm, sandwich and parallel layouts of the two residual branches.

Letters: B batch, T tokens, C width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from lit_gpt.errors import not_implemented
from lit_gpt.nn.attention import Attention
from lit_gpt.nn.cache import LayerCache
from lit_gpt.nn.context import ForwardContext
from lit_gpt.nn.feedforward import Aux, FeedForward
from lit_gpt.nn.norm import Norm
from lit_gpt.nn.sizes import Sizes


class Block(nn.Module):
    """Base of the blocks: ``forward(x, ctx, cache=None) -> (x, aux)``.

    Args:
        sizes: Filled in by the net.
        attention: The layer's attention.
        feedforward: The layer's feed-forward.
        norm: Makes a norm from sizes; a block makes as many as it needs.

    Attributes:
        normalized: Whether the output is normalized already, so that the net adds no norm before the head.
    """

    normalized: ClassVar[bool] = False

    def __init__(self, sizes: Sizes, attention: Attention, feedforward: FeedForward, norm: Callable[[Sizes], Norm]):
        super().__init__()
        self.attention = attention
        self.feedforward = feedforward
        self.dropout = nn.Dropout(sizes.dropout) if sizes.dropout else nn.Identity()

    def forward(self, x: Tensor, ctx: ForwardContext, cache: LayerCache | None = None) -> tuple[Tensor, Aux]:
        """(B, T, C) -> (B, T, C) and the feed-forward's auxiliary loss."""
        raise not_implemented(self, "forward")


class _TwoNorms(Block):
    """A norm for each of the two branches."""

    def __init__(self, sizes: Sizes, attention: Attention, feedforward: FeedForward, norm: Callable[[Sizes], Norm]):
        super().__init__(sizes, attention, feedforward, norm)
        self.attention_norm, self.feedforward_norm = norm(sizes), norm(sizes)


class PreNorm(_TwoNorms):
    """Norms inside the residual branches (GPT-2; Xiong et al. 2020, arXiv 2002.04745): x + f(norm(x))."""

    def forward(self, x: Tensor, ctx: ForwardContext, cache: LayerCache | None = None) -> tuple[Tensor, Aux]:
        x = x + self.dropout(self.attention(self.attention_norm(x), ctx, cache))
        y, aux = self.feedforward(self.feedforward_norm(x))
        return x + self.dropout(y), aux


class PostNorm(_TwoNorms):
    """Norms on the residual stream itself (Vaswani et al. 2017; GPT-1): norm(x + f(x)). Needs a longer warm-up."""

    normalized = True

    def forward(self, x: Tensor, ctx: ForwardContext, cache: LayerCache | None = None) -> tuple[Tensor, Aux]:
        x = self.attention_norm(x + self.dropout(self.attention(x, ctx, cache)))
        y, aux = self.feedforward(x)
        return self.feedforward_norm(x + self.dropout(y)), aux


class Sandwich(Block):
    """Norms before and after each branch (CogView, Ding et al. 2021, arXiv 2105.13290; Gemma 2):
    x + norm(f(norm(x)))."""

    def __init__(self, sizes: Sizes, attention: Attention, feedforward: FeedForward, norm: Callable[[Sizes], Norm]):
        super().__init__(sizes, attention, feedforward, norm)
        self.attention_norm, self.attention_post_norm = norm(sizes), norm(sizes)
        self.feedforward_norm, self.feedforward_post_norm = norm(sizes), norm(sizes)

    def forward(self, x: Tensor, ctx: ForwardContext, cache: LayerCache | None = None) -> tuple[Tensor, Aux]:
        y = self.attention(self.attention_norm(x), ctx, cache)
        x = x + self.dropout(self.attention_post_norm(y))
        y, aux = self.feedforward(self.feedforward_norm(x))
        return x + self.dropout(self.feedforward_post_norm(y)), aux


class ResPostNorm(_TwoNorms):
    """Norms on the output of the branches (Swin v2, Liu et al. 2021, arXiv 2111.09883; OLMo 2): x + norm(f(x))."""

    def forward(self, x: Tensor, ctx: ForwardContext, cache: LayerCache | None = None) -> tuple[Tensor, Aux]:
        x = x + self.dropout(self.attention_norm(self.attention(x, ctx, cache)))
        y, aux = self.feedforward(x)
        return x + self.dropout(self.feedforward_norm(y)), aux


class Parallel(Block):
    """Attention and feed-forward in parallel (GPT-J, Wang and Komatsuzaki 2021; GPT-NeoX, Black et al. 2022, arXiv
    2204.06745; PaLM): x + attention(norm(x)) + feedforward(norm(x)).

    Args:
        sizes: Filled in by the net.
        attention: The layer's attention.
        feedforward: The layer's feed-forward.
        norm: Makes a norm from sizes.
        shared_norm: Whether both branches read one norm (GPT-J, Phi, Falcon), not one each (GPT-NeoX).
    """

    def __init__(
        self, sizes: Sizes, attention: Attention, feedforward: FeedForward, norm: Callable[[Sizes], Norm],
        shared_norm: bool = False,
    ):  # fmt: skip
        super().__init__(sizes, attention, feedforward, norm)
        self.attention_norm = norm(sizes)
        self.feedforward_norm = None if shared_norm else norm(sizes)

    def forward(self, x: Tensor, ctx: ForwardContext, cache: LayerCache | None = None) -> tuple[Tensor, Aux]:
        normed = self.attention_norm(x)
        y, aux = self.feedforward(normed if self.feedforward_norm is None else self.feedforward_norm(x))
        return x + self.dropout(self.attention(normed, ctx, cache)) + self.dropout(y), aux
