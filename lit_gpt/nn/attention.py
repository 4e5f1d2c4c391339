"""Self-attention layers: multi-head, grouped-query attention (GQA), sliding windows, softcaps, attention sinks.

Letters: B batch, T queries, S keys, H heads, K key-value heads, C width, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lit_gpt.errors import UserError, not_implemented
from lit_gpt.nn.cache import LayerCache
from lit_gpt.nn.context import ForwardContext
from lit_gpt.nn.linear import Embedding, Linear
from lit_gpt.nn.mask import attend
from lit_gpt.nn.norm import Norm
from lit_gpt.nn.sizes import Sizes


class Attention(nn.Module):
    """Base of the attention layers: ``forward(x, ctx, cache=None) -> x``, (B, T, C) -> (B, T, C).

    Args:
        sizes: Filled in by the net.

    Attributes:
        head_size: D; the position encoding is built for it.
        window: Sliding window in tokens, the query's own included; None for all. `ctx.mask(window)` is the mask.
        residual: Names of the linears that write into the residual stream; `Init` scales them.
    """

    residual: ClassVar[tuple[str, ...]] = ()
    window: int | None = None

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.head_size = sizes.head_size

    def forward(self, x: Tensor, ctx: ForwardContext, cache: LayerCache | None = None) -> Tensor:
        raise not_implemented(self, "forward")


class SelfAttention(Attention):
    """Scaled dot-product self-attention (Vaswani et al. 2017). kv_heads equal to heads is multi-head attention, fewer
    grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245), one multi-query attention (Shazeer 2019).

    Args:
        sizes: Filled in by the net.
        kv_heads: Key-value heads; divides heads. None: as many as heads.
        head_size: Size of one head. None: width / heads.
        window: Sliding window in tokens, the query's own included. None: all tokens.
        qk_norm: Norm over each head's queries and keys, before positions (Henry et al. 2020, arXiv 2010.04245).
        bias: Whether the four projections have biases.
        dropout: Probability that an attention weight is dropped. None: the net's dropout.
        scale: Factor on the scores. None: 1 / sqrt(head_size).
        out_bias: Whether the last projection has a bias. None: as bias says.
        qk_norm_over: "head": one norm for each head, all with the same weights. "heads": one over the width of all
            heads together (OLMo 2, arXiv 2501.00656).
        attn_softcap: Scores become attn_softcap * tanh(score / attn_softcap) (Gemma 2, arXiv 2408.00118). None: no cap.
        sinks: Attention sinks: a learned logit per head in the softmax's sum that carries no value (Xiao et al. 2023,
            arXiv 2309.17453; gpt-oss).
        value_embedding: Whether a learned row for each token id is mixed into the values (Zhou et al. 2024,
            arXiv 2410.17897; modded-nanogpt).
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
        out_bias: bool | None = None,
        qk_norm_over: Literal["head", "heads"] = "head",
        attn_softcap: float | None = None,
        sinks: bool = False,
        value_embedding: bool = False,
    ):
        super().__init__(sizes)
        heads, width = sizes.heads, sizes.width
        kv_heads = heads if kv_heads is None else kv_heads
        if kv_heads < 1 or heads % kv_heads:
            divisors = [n for n in range(1, heads + 1) if heads % n == 0]
            raise UserError(f"kv_heads {kv_heads} does not divide heads {heads}; choose one of {divisors}")
        if head_size is None and width % heads:
            raise UserError(
                f"width {width} is not divisible by heads {heads}; change one of them or give attention a head_size"
            )
        if head_size is not None and head_size < 1:
            raise UserError(f"head_size must be at least 1, got {head_size}")
        if window is not None and window < 1:
            raise UserError(f"window must be at least 1 (the token itself), got {window}; leave it out to see all")
        if scale is not None and not 0 < scale < math.inf:
            raise UserError(f"scale must be above 0, got {scale}; leave it out for 1 / sqrt(head_size)")
        if attn_softcap is not None and not 0 < attn_softcap < math.inf:
            raise UserError(f"attn_softcap must be above 0, got {attn_softcap}; leave it out for none")
        if qk_norm_over not in ("head", "heads"):
            raise UserError(f"qk_norm_over must be head or heads, got {qk_norm_over!r}")
        if qk_norm_over == "heads" and qk_norm is None:
            raise UserError("qk_norm_over heads needs a norm and there is none; give qk_norm, e.g. RMSNorm")
        self.heads, self.kv_heads, self.window = heads, kv_heads, window
        self.scale, self.attn_softcap = scale, attn_softcap
        self.head_size = head_size or width // heads
        self.dropout = sizes.dropout if dropout is None else dropout
        self.query = Linear(width, heads * self.head_size, bias)
        self.key = Linear(width, kv_heads * self.head_size, bias)
        self.value = Linear(width, kv_heads * self.head_size, bias)
        self.out = Linear(heads * self.head_size, width, bias if out_bias is None else out_bias)
        norm_heads = (heads, kv_heads) if qk_norm_over == "heads" else (1, 1)
        self.norm_widths = tuple(n * self.head_size for n in norm_heads)  # of queries and of keys
        self.query_norm, self.key_norm = (
            qk_norm(sizes.replace(width=width)) if qk_norm else nn.Identity() for width in self.norm_widths
        )
        self.sinks = Sinks(heads) if sinks else None
        self.value_embedding = ValueEmbedding(sizes.vocab_size, kv_heads * self.head_size) if value_embedding else None

    def forward(self, x: Tensor, ctx: ForwardContext, cache: LayerCache | None = None) -> Tensor:
        batch, queries, _ = x.shape
        q = self.query_norm(self.query(x).unflatten(-1, (-1, self.norm_widths[0])))  # (B, T, H, D) or (B, T, 1, H D)
        k = self.key_norm(self.key(x).unflatten(-1, (-1, self.norm_widths[1])))
        v = self.value(x)
        if self.value_embedding is not None:
            v = self.value_embedding(v, ctx.ids)
        # (B, H or K, T, D)
        q, k, v = (t.reshape(batch, queries, -1, self.head_size).transpose(1, 2) for t in (q, k, v))
        q, k = ctx.position.rotate(q, k, ctx)
        if cache is not None:
            k, v = cache.append(k, v, ctx.cached)  # (B, K, S, D)
        dropout = self.dropout if self.training else 0.0
        sinks = None if self.sinks is None else self.sinks.weight
        y = attend(q, k, v, ctx.mask(self.window), dropout, self.scale, self.attn_softcap, sinks)
        return self.out(y.transpose(1, 2).reshape(batch, queries, -1))


class Sinks(nn.Module):
    """Attention sinks: one learned logit a head, initialized to zero like a key orthogonal to the query."""

    def __init__(self, heads: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(heads))

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)


class ValueEmbedding(nn.Module):
    """Values mixed with an embedding of the token, a v + b e(id), with learned factors that start at one half."""

    def __init__(self, vocab_size: int, width: int):
        super().__init__()
        self.table = Embedding(vocab_size, width)
        self.factors = nn.Parameter(torch.full((2,), 0.5))  # a, b

    def forward(self, v: Tensor, ids: Tensor) -> Tensor:
        """(B, T, K D), (B, T) -> (B, T, K D)."""
        return self.factors[0] * v + self.factors[1] * self.table(ids).to(v.dtype)

    def reset_parameters(self) -> None:
        nn.init.constant_(self.factors, 0.5)
