"""Attention block of queries by block of queries, for what the fused kernels cannot do without a T x T mask: sliding
windows, soft-capped scores, sinks. Only one block's scores exist at a time, in the backward pass too.

Knows masks and scores, nothing of layers or positions.
Letters: B batch, T queries, S keys, H heads, K key-value heads, D head size, N queries and M keys of one block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BLOCK = 64  # queries in a block; see `benchmarks/window.py`
GPU_BLOCK = 512  # there, starting a kernel costs more than what the edges of a window waste


@dataclass(frozen=True)
class Band:
    """What the queries of a sliding window see: themselves and the ``window - 1`` tokens before, in their segment."""

    window: int
    cached: int  # keys before the first query
    segments: Tensor | None = None  # (B, T)
    key_segments: Tensor | None = None  # (B, S)
    flex: Any = None  # the same as a BlockMask, on a GPU


@dataclass(frozen=True)
class Recent:
    """What few queries behind a cache see: nothing but the last ``keys`` keys, and of these what the mask says."""

    keys: int
    mask: Tensor | None  # boolean, broadcastable to (B, H, T, keys); None: all


def blocks_pay(queries: int) -> bool:
    """Whether a window over so many queries goes by blocks; below, one small mask is faster."""
    return queries > 2 * BLOCK


def blockwise(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | Band | None, dropout: float, scale: float,
    softcap: float | None = None, sinks: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Attention of (B, H, T, D) queries over (B, K, S, D) keys and values, one block of queries after the other.

    Args:
        q: Queries.
        k: Keys; K divides H.
        v: Values.
        mask: As `attend` takes it. None: causal, the last query at the last key.
        dropout: Probability of dropping a weight.
        scale: Factor on the scores.
        softcap: Scores become softcap * tanh(score / softcap) before mask and softmax. None: they stay.
        sinks: (H,) one more logit in the softmax's sum, which carries no value. None: none.

    Returns:
        (B, H, T, D).
    """
    band = mask if isinstance(mask, Band) else Band(k.shape[2], k.shape[2] - q.shape[2])
    dense = mask if isinstance(mask, Tensor) else None
    if dense is not None:
        dense = dense[(None,) * (4 - dense.ndim)]
    # Drawn outside, so that checkpoints and seeds govern it, and read inside, where compilers do not look.
    seed = torch.randint(2**62, (), device="cpu") if dropout else None
    block = GPU_BLOCK if q.is_cuda else BLOCK
    q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast a norm's output is wider than a linear's
    y: Tensor = _forward(
        q, k, v, dense, band.segments, band.key_segments, sinks, seed,
        band.window, band.cached, dropout, scale, softcap, block,
    )  # fmt: skip
    return y


class _Blocks:
    """The blocks of one call; forward and backward walk over them in the same order.

    Scores (B, H, N, M) are kept in at least float32; matrix products are over (B K, H / K N, D).
    """

    def __init__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, segments: Tensor | None,
        key_segments: Tensor | None, sinks: Tensor | None, seed: Tensor | None,
        window: int, cached: int, dropout: float, scale: float, softcap: float | None, block: int,
    ):  # fmt: skip
        self.mask, self.segments, self.key_segments = mask, segments, key_segments
        self.window, self.cached, self.dropout, self.softcap, self.block = window, cached, dropout, softcap, block
        self.q, self.scale = q, scale
        self.batch, self.heads, self.queries, self.size = q.shape
        self.kv_heads = k.shape[1]
        self.k, self.v = (x.reshape(self.batch * self.kv_heads, x.shape[2], self.size) for x in (k, v))
        self.wide = torch.promote_types(q.dtype, torch.float32)
        self.sinks = None if sinks is None else sinks.to(self.wide)[:, None, None]  # (H, 1, 1)
        hidden = torch.full((block, block), float("-inf"), dtype=self.wide, device=q.device)
        self.future, self.past = hidden.triu(1), hidden.tril(-1)
        self.generator = None if seed is None else torch.Generator(q.device).manual_seed(int(seed))

    def __iter__(self) -> Iterator[tuple[int, int, int, int]]:
        """First query, end of the queries, first key, end of the keys."""
        for begin in range(0, self.queries, self.block):
            end = min(begin + self.block, self.queries)
            first = 0 if self.mask is not None else max(0, self.cached + begin - self.window + 1)
            yield begin, end, first, self.cached + end

    def fold(self, x: Tensor) -> Tensor:
        """(B, H, N, D) -> (B K, H / K N, D), so that the heads that share keys are one matrix."""
        return x.reshape(self.batch * self.kv_heads, -1, x.shape[-1])

    def unfold(self, x: Tensor, queries: int) -> Tensor:
        """(B K, H / K N, D) -> (B, H, N, D)."""
        return x.view(self.batch, self.heads, queries, x.shape[-1])

    def scores(self, q: Tensor, begin: int, end: int, first: int, last: int) -> tuple[Tensor, Tensor | None]:
        """Masked scores (B, H, N, M), and where they are soft-capped the tanh that was taken."""
        n = end - begin
        scores = self.unfold(torch.bmm(q, self.k[:, first:last].transpose(1, 2)), n).to(self.wide)
        tanh = None
        if self.softcap is not None:
            tanh = scores.div_(self.softcap).tanh_()
            scores = tanh * self.softcap
        if self.mask is not None:
            mask = self.mask[..., begin:end, first:last]
            return (scores.add_(mask) if mask.is_floating_point() else scores.masked_fill_(~mask, float("-inf"))), tanh
        scores[..., -n:] += self.future[:n, :n]
        # The window's other edge: key m is hidden from query i where m < i - shift.
        shift = max(0, self.window - 1 - self.cached - begin)
        if shift < n - 1:
            scores[..., shift:, : n - shift] += self.past[: n - shift, : n - shift]
        if self.segments is not None and self.key_segments is not None:
            others = self.segments[:, begin:end, None] != self.key_segments[:, None, first:last]
            scores.masked_fill_(others[:, None], float("-inf"))
        return scores, tanh

    def weights(self, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Softmax (B, H, N, M) of the scores, and the share (B, H, N, 1) of the sinks where there are any."""
        if self.sinks is None:
            return scores.softmax(-1), None
        total = torch.logaddexp(scores.logsumexp(-1, keepdim=True), self.sinks)
        return scores.sub_(total).exp_(), (self.sinks - total).exp_()

    def kept(self, weights: Tensor) -> Tensor | None:
        """What dropout multiplies the weights with; the same in the backward pass as in the forward pass."""
        if self.generator is None:
            return None
        return torch.empty_like(weights).bernoulli_(1 - self.dropout, generator=self.generator).div_(1 - self.dropout)


@torch.library.custom_op("lit_gpt::blockwise_attention", mutates_args=())
def _forward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, segments: Tensor | None, key_segments: Tensor | None,
    sinks: Tensor | None, seed: Tensor | None, window: int, cached: int, dropout: float, scale: float,
    softcap: float | None, block: int,
) -> Tensor:  # fmt: skip
    """One node in a compiled graph, whatever the number of blocks."""
    with torch.autocast(q.device.type, enabled=False):
        blocks = _Blocks(
            q, k, v, mask, segments, key_segments, sinks, seed, window, cached, dropout, scale, softcap, block
        )
        out = _empty_out(q)
        for begin, end, first, last in blocks:
            scores, _ = blocks.scores(blocks.fold(q[:, :, begin:end] * scale), begin, end, first, last)
            weights, _ = blocks.weights(scores)
            kept = blocks.kept(weights)
            weights = weights if kept is None else weights.mul_(kept)
            y = torch.bmm(blocks.fold(weights).to(v.dtype), blocks.v[:, first:last])
            out[:, :, begin:end] = blocks.unfold(y, end - begin)
    return out


@_forward.register_fake
def _(q: Tensor, *rest: Any) -> Tensor:
    return _empty_out(q)


@torch.library.custom_op("lit_gpt::blockwise_attention_backward", mutates_args=())
def _backward(
    gradient: Tensor, out: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, segments: Tensor | None,
    key_segments: Tensor | None, sinks: Tensor | None, seed: Tensor | None, window: int, cached: int, dropout: float,
    scale: float, softcap: float | None, block: int, wants_mask: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v, sinks and mask; the last two are empty where there are none."""
    with torch.autocast(q.device.type, enabled=False):
        blocks = _Blocks(
            q, k, v, mask, segments, key_segments, sinks, seed, window, cached, dropout, scale, softcap, block
        )
        dq = _empty_out(q)
        dk, dv = (torch.zeros_like(x, dtype=blocks.wide) for x in (blocks.k, blocks.v))
        dsinks = q.new_zeros(0 if sinks is None else q.shape[1], dtype=blocks.wide)
        dmask = torch.zeros_like(mask, dtype=blocks.wide) if mask is not None and wants_mask else q.new_zeros(0)
        for begin, end, first, last in blocks:
            n = end - begin
            scaled, dy = blocks.fold(q[:, :, begin:end] * scale), blocks.fold(gradient[:, :, begin:end])
            scores, tanh = blocks.scores(scaled, begin, end, first, last)
            weights, share = blocks.weights(scores)
            kept = blocks.kept(weights)
            dropped = weights if kept is None else weights * kept
            dv[:, first:last] += torch.bmm(blocks.fold(dropped).to(v.dtype).transpose(1, 2), dy)
            dscores = blocks.unfold(torch.bmm(dy, blocks.v[:, first:last].transpose(1, 2)), n).to(blocks.wide)
            if kept is not None:
                dscores.mul_(kept)
            # sum over keys of weight * gradient, the same number for every key of a query
            along = torch.linalg.vecdot(gradient[:, :, begin:end], out[:, :, begin:end])[..., None].to(blocks.wide)
            dscores.sub_(along).mul_(weights)
            if share is not None:
                dsinks -= (share * along).sum((0, 2, 3))
            if mask is not None and wants_mask:
                part = dmask[..., begin:end, first:last]
                part += dscores.sum_to_size(part.shape)
            if tanh is not None:
                dscores.mul_(1 - tanh.square_())
            flat = blocks.fold(dscores).to(q.dtype)
            dq[:, :, begin:end] = blocks.unfold(torch.bmm(flat, blocks.k[:, first:last]), n) * scale
            dk[:, first:last] += torch.bmm(flat.transpose(1, 2), scaled)
    dk, dv = (x.to(k.dtype).view(k.shape) for x in (dk, dv))
    return dq, dk, dv, dsinks if sinks is None else dsinks.to(sinks.dtype), dmask


@_backward.register_fake
def _(
    gradient: Tensor, out: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, segments: Any,
    key_segments: Any, sinks: Tensor | None, seed: Any, window: int, cached: int, dropout: float,
    scale: float, softcap: Any, block: int, wants_mask: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    wide = torch.promote_types(q.dtype, torch.float32)
    dsinks = q.new_empty(0, dtype=wide) if sinks is None else torch.empty_like(sinks)
    dmask = torch.empty_like(mask, dtype=wide) if mask is not None and wants_mask else q.new_empty(0)
    return _empty_out(q), k.new_empty(k.shape), v.new_empty(v.shape), dsinks, dmask


def _empty_out(q: Tensor) -> Tensor:
    """(B, H, T, D) that lies in memory as (B, T, H, D), as the projection behind wants it."""
    batch, heads, queries, size = q.shape
    return q.new_empty(batch, queries, heads, size).transpose(1, 2)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keeps what the backward pass needs: no scores, no weights."""
    *tensors, ctx.window, ctx.cached, ctx.dropout, ctx.scale, ctx.softcap, ctx.block = inputs
    ctx.save_for_backward(output, *tensors)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients in the order of the arguments of `_forward`."""
    out, *tensors = ctx.saved_tensors
    _, _, _, mask, _, _, sinks, _ = tensors
    wants_mask = mask is not None and ctx.needs_input_grad[3]
    dq, dk, dv, dsinks, dmask = _backward(
        gradient, out, *tensors, ctx.window, ctx.cached, ctx.dropout, ctx.scale, ctx.softcap, ctx.block, wants_mask
    )
    dmask = dmask.to(mask.dtype) if wants_mask else None
    return (dq, dk, dv, dmask, None, None, None if sinks is None else dsinks, *[None] * 7)


_forward.register_autograd(_differentiate, setup_context=_remember)
