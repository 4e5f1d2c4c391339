"""Layers in which tokens look at other tokens. Positions and masks come from the frame, memory from the cache.

Letters: B batch, T queries, S keys, H heads, K key-value heads, C width, D head size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from lit_gpt.nn.cache import LayerCache
from lit_gpt.nn.frame import Frame, Sizes
from lit_gpt.nn.linear import Linear
from lit_gpt.nn.norm import Norm


class Attention(nn.Module):
    """Base of the attention layers: ``forward(x, frame, cache=None) -> x``, (B, T, C) -> (B, T, C).

    Args:
        sizes: Filled in by the net.

    Attributes:
        head_size: D; the position encoding is built for it.
        window: How many tokens back a query sees, itself included; None for all. The frame holds a mask for it.
        residual: Names of the linears that write into the residual stream; `Init` scales them.
    """

    residual: ClassVar[tuple[str, ...]] = ()
    window: int | None = None

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.head_size = sizes.head_size

    def forward(self, x: Tensor, frame: Frame, cache: LayerCache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        raise TypeError(f"{type(self).__name__} must define forward(x, frame, cache)")


class SelfAttention(Attention):
    """Scaled dot-product attention (Vaswani et al. 2017) with any number of key-value heads: as many as heads is
    multi-head, fewer is grouped-query (Ainslie et al. 2023, arXiv 2305.13245), one is multi-query (Shazeer 2019).

    Args:
        sizes: Filled in by the net.
        kv_heads: Key-value heads; divides heads. None: as many as heads.
        head_size: Size of one head. None: width / heads.
        window: How many tokens back a query sees, itself included. None: all.
        qk_norm: Norm over each head's queries and keys, before positions (Henry et al. 2020, arXiv 2010.04245).
        bias: Whether the four projections have biases.
        dropout: Probability that an attention weight is dropped. None: the net's dropout.
        scale: Factor on the scores. None: 1 / sqrt(head_size).
    """

    residual = ("out",)

    def __init__(
        self,
        sizes: Sizes,
        kv_heads: int | None = None,
        head_size: int | None = None,
        window: int | None = None,
        qk_norm: Callable[[Sizes], Norm] | None = None,
        bias: bool = False,
        dropout: float | None = None,
        scale: float | None = None,
    ):
        super().__init__(sizes)
        heads, width = sizes.heads, sizes.width
        kv_heads = heads if kv_heads is None else kv_heads
        if kv_heads < 1 or heads % kv_heads:
            divisors = [n for n in range(1, heads + 1) if heads % n == 0]
            raise ValueError(f"kv_heads {kv_heads} does not divide heads {heads}; choose one of {divisors}")
        if head_size is None and width % heads:
            raise ValueError(
                f"width {width} is not divisible by heads {heads}; change one of them or give attention a head_size"
            )
        if head_size is not None and head_size < 1:
            raise ValueError(f"head_size must be at least 1, got {head_size}")
        if window is not None and window < 1:
            raise ValueError(f"window must be at least 1 (the token itself), got {window}; leave it out to see all")
        self.heads, self.kv_heads, self.window, self.scale = heads, kv_heads, window, scale
        self.head_size = head_size or width // heads
        self.dropout = sizes.dropout if dropout is None else dropout
        self.query = Linear(width, heads * self.head_size, bias)
        self.key = Linear(width, kv_heads * self.head_size, bias)
        self.value = Linear(width, kv_heads * self.head_size, bias)
        self.out = Linear(heads * self.head_size, width, bias)
        one_head = sizes.replace(width=self.head_size)
        self.query_norm = qk_norm(one_head) if qk_norm else nn.Identity()
        self.key_norm = qk_norm(one_head) if qk_norm else nn.Identity()

    def forward(self, x: Tensor, frame: Frame, cache: LayerCache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        batch, queries, _ = x.shape
        q = self.query(x).view(batch, queries, self.heads, self.head_size).transpose(1, 2)  # (B, H, T, D)
        k = self.key(x).view(batch, queries, self.kv_heads, self.head_size).transpose(1, 2)  # (B, K, T, D)
        v = self.value(x).view(batch, queries, self.kv_heads, self.head_size).transpose(1, 2)
        q, k = frame.position.rotate(self.query_norm(q), self.key_norm(k), frame)
        if cache is not None:
            k, v = cache.append(k, v, frame.cached)  # (B, K, S, D)
        dropout = self.dropout if self.training else 0.0
        y = attend(q, k, v, frame.mask(self.window), dropout, self.scale)
        return self.out(y.transpose(1, 2).reshape(batch, queries, -1))


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float = 0.0, scale: float | None = None
) -> Tensor:
    """Attention of (B, H, T, D) queries over (B, K, S, D) keys and values; torch picks flash kernels where they exist.

    Args:
        q: Queries.
        k: Keys; K divides H.
        v: Values.
        mask: Boolean (True: sees) or additive, broadcastable to (B, H, T, S). None: causal, or one query that sees all.
        dropout: Probability of dropping a weight.
        scale: Factor on the scores; None for 1 / sqrt(D).

    Returns:
        (B, H, T, D).
    """
    causal = mask is None and q.shape[2] > 1
    if mask is not None and mask.is_floating_point():
        mask = mask.to(q.dtype)
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale=scale, enable_gqa=grouped)
