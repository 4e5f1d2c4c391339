"""What all layers of one forward pass share: sizes of the whole net, positions, masks.

Knows nothing of attention kernels, of caches' storage or of training. Letters: B batch, T new tokens (queries),
S tokens seen so far (keys, S >= T), H heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_gpt.nn import flex
from lit_gpt.nn.blockwise_attention import Band, Recent, blocks_pay

if TYPE_CHECKING:
    from lit_gpt.nn.position import Position

Mask = Tensor | Band | Recent | None


@dataclass(frozen=True)
class ForwardContext:
    """Everything about positions that is computed once per forward pass and read by every layer.

    One is made for each distinct position encoding; contexts of one pass share ids and segments, and the masks too
    unless their position adds a bias to the scores.
    It is never written to after it is made, so recomputed layers see the same values.
    """

    ids: Tensor  # (B, T)
    at: Tensor  # (T,) or (B, T): position of each query inside its segment
    segments: Tensor | None  # (B, T): tokens of different segments do not see each other
    cached: int  # tokens already in the cache; S = cached + T
    position: Position
    tables: tuple[Tensor, ...]  # what the position gathered for `at`, e.g. cos and sin
    masks: dict[int | None, Mask]  # by window: None means "causal, no mask needed"

    def mask(self, window: int | None) -> Mask:
        """The mask for a window, for `attend`: boolean or additive, broadcastable to (B, H, T, S); None where causality
        is all; a `Band` or `Recent` where a window is told in words, because T x S numbers would cost too much."""
        return self.masks[window]


def positions_in_segments(segments: Tensor) -> Tensor:
    """(B, T) positions that restart at 0 wherever the segment changes."""
    index = torch.arange(segments.shape[1], device=segments.device)
    starts = torch.ones_like(segments, dtype=torch.bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return index - torch.where(starts, index, 0).cummax(1).values


def build_mask(
    window: int | None, queries: int, cached: int, segments: Tensor | None, key_segments: Tensor | None,
    bias: Tensor | None, device: torch.device,
) -> Mask:  # fmt: skip
    """The mask of one window, or None where the kernel's own causal mode (or no mask at all) says the same.

    Args:
        window: How many tokens back a query sees, itself included; None for all.
        queries: T.
        cached: Keys that stand before the first query.
        segments: (B, T) of the queries, or None.
        key_segments: (B, S) of the keys, or None.
        bias: (H, T, S) to be added to the scores, or None.
        device: Where to build it.
    """
    keys = cached + queries
    if window is not None and window < keys and bias is None:
        if blocks_pay(queries):
            blocks = None
            if device.type == "cuda" and not cached and torch.is_grad_enabled():
                blocks = flex.block_mask(queries, window, segments, device)
            return Band(window, cached, segments, key_segments, blocks)
        recent = min(keys, queries + window - 1)
        if recent < keys:
            own = None if key_segments is None else key_segments[:, -recent:]
            return Recent(recent, _dense(window, queries, recent, segments, own, None, device))
    return _dense(window, queries, keys, segments, key_segments, bias, device)


def _dense(
    window: int | None, queries: int, keys: int, segments: Tensor | None, key_segments: Tensor | None,
    bias: Tensor | None, device: torch.device,
) -> Tensor | None:  # fmt: skip
    """The mask as T x S booleans or numbers, or None where the kernel needs none."""
    reach = keys if window is None else min(window, keys)
    if segments is None and bias is None and reach == keys and (keys == queries or queries == 1):
        return None
    distance = distances(queries, keys - queries, device)
    mask = distance >= 0
    if reach < keys:
        mask = mask & (distance < reach)
    if segments is not None and key_segments is not None:
        mask = mask & (segments[:, :, None] == key_segments[:, None, :])  # (B, T, S)
        mask = mask[:, None]  # (B, 1, T, S)
    if bias is None:
        return mask
    return torch.where(mask, bias, float("-inf"))


def distances(queries: int, cached: int, device: torch.device) -> Tensor:
    """(T, S): how far each key lies behind each query; negative in the future."""
    key = torch.arange(cached + queries, device=device)
    return key[cached:, None] - key[None, :]
