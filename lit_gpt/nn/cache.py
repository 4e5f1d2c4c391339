"""KV cache: keys and values of the tokens so far, so that generation computes each token once.

A cache is an argument of the forward pass; no module keeps one. It is written in place: for inference only.
Letters: B batch, H key-value heads, S tokens, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

BUCKET = 64  # buffers grow in multiples of this many tokens, at least doubling


class LayerCache:
    """One layer's keys and values in preallocated buffers (B, H, capacity, D)."""

    def __init__(self) -> None:
        self.k: Tensor | None = None
        self.v: Tensor | None = None

    def append(self, k: Tensor, v: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Writes (B, H, T, D) at ``start``; returns all keys and values so far, (B, H, start + T, D)."""
        end = start + k.shape[2]
        self.k, self.v = _room(self.k, k, end, start), _room(self.v, v, end, start)
        self.k[:, :, start:end] = k
        self.v[:, :, start:end] = v
        return self.k[:, :, :end], self.v[:, :, :end]


class Cache:
    """KV cache of all layers of a net; grows as needed.

    Args:
        depth: Layers of the net.

    Attributes:
        length: Tokens seen so far, the same for every row.
        segments: (B, length) of them, or None where none were given.
        next_position: (B,) position of the next token in its segment, or None where that is ``length``.
    """

    def __init__(self, depth: int):
        self.layers = [LayerCache() for _ in range(depth)]
        self.length = 0
        self.segments: Tensor | None = None
        self.next_position: Tensor | None = None

    def select(self, rows: Tensor) -> None:
        """Keeps these batch rows, (B',) indices, in this order."""
        for layer in self.layers:
            if layer.k is not None and layer.v is not None:
                layer.k, layer.v = layer.k[rows], layer.v[rows]
        if self.segments is not None and self.next_position is not None:
            self.segments, self.next_position = self.segments[rows], self.next_position[rows]


def _room(buffer: Tensor | None, like: Tensor, end: int, start: int) -> Tensor:
    """The buffer, or a larger one with the same beginning, that holds ``end`` tokens."""
    if buffer is not None and buffer.shape[2] >= end:
        return buffer
    capacity = max(-(-end // BUCKET) * BUCKET, 2 * start)
    batch, heads, _, size = like.shape
    larger = torch.empty(batch, heads, capacity, size, dtype=like.dtype, device=like.device)
    if buffer is not None:
        larger[:, :, :start] = buffer[:, :, :start]
    return larger
