"""ForwardContext: what all layers share in one forward pass, i.e. positions, attention masks and packed segments.

Letters: B batch, T new tokens (queries), S tokens so far with those in the KV cache (keys), H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lit_gpt.errors import UserError
from lit_gpt.nn.cache import Cache
from lit_gpt.nn.mask import AttentionMask

if TYPE_CHECKING:
    from lit_gpt.nn.position import Position


@dataclass(frozen=True)
class ForwardContext:
    """What is computed once per forward pass and read by every layer.

    There is one for each distinct position encoding. They share ids and segments, and the attention masks too, unless
    their position adds a bias to the scores. Nothing is written to it later, so activation checkpointing sees the same
    values again.
    """

    ids: Tensor  # (B, T)
    position_ids: Tensor  # (T,) or (B, T): position of each query inside its segment
    segments: Tensor | None  # (B, T): tokens of different segments do not attend to each other
    cached: int  # tokens already in the cache; S = cached + T
    position: Position
    tables: tuple[Tensor, ...]  # what the position gathered for the queries, e.g. cos and sin
    masks: dict[int | None, AttentionMask]  # by window

    def mask(self, window: int | None = None) -> AttentionMask:
        """The attention mask of a window; None for plain causal attention.

        Raises:
            UserError: No layer has this `Attention.window`.
        """
        if window not in self.masks:
            raise UserError(f"there is no attention mask of window {window}; set it as the window of your attention")
        return self.masks[window]


def forward_contexts(
    ids: Tensor, positions: Sequence[Position], windows: Sequence[int | None],
    cache: Cache | None = None, segments: Tensor | None = None,
) -> list[ForwardContext]:  # fmt: skip
    """One context for each position encoding, with a mask for each window; moves the cache's segments and positions on.

    Args:
        ids: (B, T), the new tokens.
        positions: The distinct position encodings of the net.
        windows: The distinct windows of its attention layers.
        cache: Keys and values of the tokens before, or None.
        segments: (B, T) of the new tokens, or None.
    """
    queries = ids.shape[1]
    cached = cache.length if cache is not None else 0
    for position in positions:
        position.reach(cached + queries)
    if cache is not None and cache.segments is not None and segments is None:
        segments = cache.segments[:, -1:].expand(-1, queries)
    key_segments = segments
    if segments is None:
        position_ids = torch.arange(cached, cached + queries, device=ids.device)  # (T,)
    else:
        position_ids = positions_in_segments(segments)  # (B, T)
        if cache is not None:
            position_ids, key_segments = _continue(cache, position_ids, segments)

    def masks(bias: Tensor | None) -> dict[int | None, AttentionMask]:
        return {w: AttentionMask.build(queries, cached, w, key_segments, bias, ids.device) for w in windows}

    contexts = []
    unbiased: dict[int | None, AttentionMask] = {}  # shared by all positions that add nothing to the scores
    for position in positions:
        bias = position.bias(queries, cached, ids)
        if bias is None and not unbiased:
            unbiased = masks(None)
        tables, own = position.gather(position_ids, cached + queries), unbiased if bias is None else masks(bias)
        contexts.append(ForwardContext(ids, position_ids, segments, cached, position, tables, own))
    return contexts


def positions_in_segments(segments: Tensor) -> Tensor:
    """(B, T) positions that restart at 0 wherever the segment changes."""
    index = torch.arange(segments.shape[1], device=segments.device)
    starts = torch.ones_like(segments, dtype=torch.bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return index - torch.where(starts, index, 0).cummax(1).values


def _continue(cache: Cache, position_ids: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (B, T) that go on where a segment began in the cache, and the segments (B, S) of all keys."""
    if cache.length and cache.segments is None:
        raise UserError("segments must be given from the first call with a cache on, not only later")
    if cache.segments is not None and cache.next_position is not None:
        same = (segments == cache.segments[:, -1:]).cummin(1).values  # still in the segment that the cache ends with
        position_ids = torch.where(same, position_ids + cache.next_position[:, None], position_ids)
        cache.segments = torch.cat((cache.segments, segments), 1)
    else:
        cache.segments = segments
    cache.next_position = position_ids[:, -1] + 1
    return position_ids, cache.segments
