"""Windows, soft-caps and sinks on GPUs, by FlexAttention (Dong et al. 2024, arXiv 2412.05496): one kernel that is
compiled for the scores and skips the blocks that no query attends to.

`AttentionMask.kernel` decides when it is used; otherwise `blockwise_attention.py` computes the same.
Letters: B batch, T queries and keys, H heads, K key-value heads, D head size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, flex_attention

BLOCK = 128  # the kernels' unit of skipping
SMALLEST_HEAD = 16  # the kernels take no smaller head size, and no float64


def flexible(
    q: Tensor, k: Tensor, v: Tensor, blocks: BlockMask, scale: float,
    softcap: float | None = None, sinks: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The same as `blockwise_attention.blockwise`, without dropout and cache.

    Args:
        q: (B, H, T, D).
        k: (B, K, T, D).
        v: (B, K, T, D).
        blocks: From `block_mask`.
        scale: Factor on the scores.
        softcap: Bound of the scores, or None.
        sinks: (H,) one more logit in the softmax's sum, or None.

    Returns:
        (B, H, T, D).
    """
    q, k = q.to(v.dtype), k.to(v.dtype)
    kernel: Any = flex_attention if torch.compiler.is_compiling() else _compiled()  # in a compiled net: with the net
    y: Tensor
    y, aux = kernel(
        q, k, v,
        score_mod=None if softcap is None else _capped(softcap), block_mask=blocks, scale=scale,
        enable_gqa=q.shape[1] != k.shape[1], return_aux=AuxRequest(lse=True),
    )  # fmt: skip
    if sinks is None:
        return y
    # exp(lse) / (exp(lse) + exp(sink)), the weight that the sink leaves to the keys
    return y * torch.sigmoid(aux.lse - sinks[:, None]).to(y.dtype)[..., None]


def block_mask(queries: int, window: int, segments: Tensor | None, device: torch.device) -> BlockMask:
    """BlockMask of a causal sliding window within segments (B, T), built without a T x T mask.

    Args:
        queries: T, of a sequence from its first token on.
        window: How many tokens back a query sees, itself included.
        segments: (B, T), or None.
        device: Where to build it.
    """
    rows = -(-queries // BLOCK)
    row = torch.arange(rows, dtype=torch.int32, device=device)
    first = ((row * BLOCK - window + 1).clamp(min=0)) // BLOCK
    indices = (first[:, None] + row[None, :]) % rows  # the first `row - first + 1` of each line count

    def seen(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        visible = (key <= query) & (query - key < window)
        return visible if segments is None else visible & (segments[b, query] == segments[b, key])

    return BlockMask.from_kv_blocks(
        (row - first + 1)[None, None], indices[None, None].contiguous(), BLOCK_SIZE=BLOCK, mask_mod=seen,
        seq_lengths=(queries, queries),
    )  # fmt: skip


def _capped(softcap: float) -> Callable[..., Tensor]:
    """The softcap as a score_mod."""

    def score(score: Tensor, b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return score


@functools.cache
def _compiled() -> Any:
    return torch.compile(flex_attention)
