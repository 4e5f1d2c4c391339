"""Attention masks (causal, sliding window, packed segments, KV cache, additive bias) and the kernel that computes each.

Letters: B batch, T queries, S keys (those in the KV cache first), H heads, K key-value heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gpt.nn.blockwise_attention import blockwise
from lit_gpt.nn.flex import SMALLEST_HEAD, block_mask, flexible

FEW_QUERIES = 256  # up to which one dense mask is as fast as going by blocks; see `benchmarks/blockwise_attention.py`


@dataclass(frozen=True, eq=False)
class AttentionMask:
    """Which keys each query of a forward pass attends to. `ctx.mask(window)` holds one for each window of the net.

    `attend` computes attention with the fastest kernel for the mask; `apply` masks scores that a layer computed itself.

    Attributes:
        kind: "causal": every key up to the query's own position. "full": one query that sees all ``recent`` keys.
            "window": a causal sliding window within segments. "dense": what ``tensor`` says.
        queries: T.
        keys: S.
        window: How many tokens back a query sees, itself included; S where there is no window.
        recent: How many of the last keys are seen by any query; those before can be dropped.
        tensor: Boolean (True: attend) or added to the scores, broadcastable to (B, H, T, recent); "dense" only.
        segments: (B, S), or None; tokens attend within their own segment.
        blocks: The same mask as FlexAttention's BlockMask; "window" on GPUs only.
    """

    kind: Literal["causal", "full", "window", "dense"]
    queries: int
    keys: int
    window: int
    recent: int
    tensor: Tensor | None = None
    segments: Tensor | None = None
    blocks: Any = None

    @classmethod
    def build(
        cls, queries: int, cached: int = 0, window: int | None = None, segments: Tensor | None = None,
        bias: Tensor | None = None, device: torch.device | str = "cpu",
    ) -> AttentionMask:  # fmt: skip
        """The mask of one window; a T x S tensor is built for segments, biases and few queries.

        Args:
            queries: T.
            cached: Keys in the KV cache, before the first query; S = cached + T.
            window: How many tokens back a query sees, itself included; None for all.
            segments: (B, S) of the keys; the queries are the last T of them. None: one segment.
            bias: (H, T, S) to be added to the scores, or None.
            device: Where to build it.
        """
        keys = recent = cached + queries
        window = keys if window is None or window > keys else window
        if window < keys and bias is None:
            if queries > FEW_QUERIES:
                blocks = None
                if torch.device(device).type == "cuda" and not cached and torch.is_grad_enabled():
                    blocks = block_mask(queries, window, segments, torch.device(device))
                return cls("window", queries, keys, window, keys, segments=segments, blocks=blocks)
            recent = min(keys, queries + window - 1)
        if segments is None and bias is None and window >= recent and (queries == recent or queries == 1):
            return cls("causal" if queries > 1 else "full", queries, keys, window, recent)
        tensor = visible(queries, recent, window, None if segments is None else segments[:, -recent:], device)
        if bias is not None:
            tensor = torch.where(tensor, bias, float("-inf"))
        return cls("dense", queries, keys, window, recent, tensor, segments)

    def apply(self, scores: Tensor) -> Tensor:
        """Scaled scores (B, H, T, S) -> the same with -inf where a key is hidden and the position's bias added, for
        layers that take the softmax themselves."""
        mask = self.tensor
        if mask is None or self.recent < self.keys:
            mask = visible(self.queries, self.keys, self.window, self.segments, scores.device)
        return scores + mask.to(scores.dtype) if mask.is_floating_point() else scores.masked_fill(~mask, float("-inf"))

    def kernel(
        self, q: Tensor, dropout: float = 0.0, softcap: float | None = None, sinks: Tensor | None = None
    ) -> Literal["sdpa", "blockwise", "flex"]:
        """Which kernel `attend` takes: torch's scaled_dot_product_attention (flash kernels where they exist), and for
        what it cannot do without a T x S mask FlexAttention in training on GPUs, `blockwise` elsewhere."""
        if self.kind != "window" and softcap is None and sinks is None:
            return "sdpa"
        trains_on_gpu = q.is_cuda and torch.is_grad_enabled() and not dropout
        supported = q.shape[-1] >= SMALLEST_HEAD and q.dtype != torch.float64
        in_blocks = self.kind == "causal" or self.blocks is not None
        return "flex" if trains_on_gpu and supported and in_blocks else "blockwise"


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask, dropout: float = 0.0, scale: float | None = None,
    softcap: float | None = None, sinks: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Scaled dot-product attention of (B, H, T, D) queries over (B, K, S, D) keys and values, K dividing H.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        mask: As `ctx.mask` gives it.
        dropout: Probability of dropping an attention weight.
        scale: Factor on the scores; None for 1 / sqrt(D).
        softcap: Scores become softcap * tanh(score / softcap) before the mask; None for none.
        sinks: (H,) a further logit in each softmax's sum; None for none.

    Returns:
        (B, H, T, D).
    """
    if mask.recent < mask.keys:
        k, v = k[:, :, -mask.recent :], v[:, :, -mask.recent :]
    kernel = mask.kernel(q, dropout, softcap, sinks)
    if kernel == "sdpa":
        tensor = mask.tensor.to(q.dtype) if mask.tensor is not None and mask.tensor.is_floating_point() else mask.tensor
        grouped = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(
            q, k, v, tensor, dropout, mask.kind == "causal", scale=scale, enable_gqa=grouped
        )
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if kernel == "flex":
        blocks = block_mask(mask.queries, mask.queries, None, q.device) if mask.blocks is None else mask.blocks
        return flexible(q, k, v, blocks, scale, softcap, sinks)
    banded = mask.kind == "window"
    return blockwise(
        q, k, v, mask.window if banded else mask.recent, mask.segments if banded else None, mask.tensor,
        dropout, scale, softcap, sinks,
    )  # fmt: skip


def visible(queries: int, keys: int, window: int, segments: Tensor | None, device: torch.device | str) -> Tensor:
    """Boolean (T, S), or (B, 1, T, S) for segments (B, S): causal, within the window and the query's segment."""
    distance = distances(queries, keys - queries, device)
    mask = distance >= 0
    if window < keys:
        mask = mask & (distance < window)
    if segments is None:
        return mask
    return (mask & (segments[:, -queries:, None] == segments[:, None, :]))[:, None]


def distances(queries: int, cached: int, device: torch.device | str) -> Tensor:
    """(T, S): how far each key lies behind each query; negative in the future."""
    key = torch.arange(cached + queries, device=device)
    return key[cached:, None] - key[None, :]
