"""Blockwise attention for sliding windows, soft-capped scores and sinks, which fused kernels cannot compute without a
T x T mask. Only one block's scores exist at a time, in the backward pass too.

Letters: B batch, T queries, S keys, H heads, K key-value heads, D head size, R = H / K heads that share keys; N queries
and M keys of a block; P rows and G blocks of a step, where a row is one key-value head of one text (there are B K).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

BLOCK = 32  # queries in a block, twice as many for long windows; see `benchmarks/blockwise_attention.py`
SCORES = 1 << 20  # of one step, at most: what a processor's cache holds a good part of
GPU_BLOCK, GPU_SCORES = 512, 1 << 26  # there, starting a kernel costs more than what the edges of a window waste


def blockwise(
    q: Tensor, k: Tensor, v: Tensor, window: int, segments: Tensor | None, mask: Tensor | None, dropout: float,
    scale: float, softcap: float | None = None, sinks: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Attention of (B, H, T, D) queries over (B, K, S, D) keys and values, one block of queries after the other.

    Args:
        q: Queries.
        k: Keys; K divides H.
        v: Values.
        window: How many tokens back a query sees, itself included; the last query is at the last key.
        segments: (B, S) of the keys, within which tokens attend. None: one segment.
        mask: Instead of window and segments: boolean (True: attend) or added to the scores, broadcastable to
            (B, H, T, S). None: causal.
        dropout: Probability of dropping a weight.
        scale: Factor on the scores.
        softcap: Scores become softcap * tanh(score / softcap) before mask and softmax. None: no cap.
        sinks: (H,) one more logit in the softmax's sum, which carries no value, or None.

    Returns:
        (B, H, T, D).
    """
    if mask is not None:
        mask = mask[(None,) * (4 - mask.ndim)]
    cached = k.shape[2] - q.shape[2]
    # Drawn outside, so that checkpoints and seeds govern it, and read inside, where compilers do not look.
    seed = torch.randint(2**62, (), device="cpu") if dropout else None
    q, k = q.to(v.dtype), k.to(v.dtype)  # under autocast a norm's output is wider than a linear's
    y: Tensor = _forward(
        q, k, v, mask, None if segments is None else segments[:, cached:], segments, sinks, seed,
        window, cached, dropout, scale, softcap,
    )  # fmt: skip
    return y


class _Step(NamedTuple):
    """What is computed at once: several rows in one block of queries, or one row in several blocks that lie alike."""

    row: int
    rows: int  # P
    begin: int  # first query
    blocks: int  # G
    queries: int  # N
    first: int  # key of the first block
    keys: int  # M


class _Blocks:
    """The blocks of one call; forward and backward walk over them in the same order.

    Scores (P, G, R, N, M) are kept in at least float32; matrix products are over P G times (R N, D) and (M, D).
    """

    def __init__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, segments: Tensor | None,
        key_segments: Tensor | None, sinks: Tensor | None, seed: Tensor | None,
        window: int, cached: int, dropout: float, scale: float, softcap: float | None,
    ):  # fmt: skip
        self.mask, self.window, self.cached = mask, window, cached
        self.dropout, self.softcap = dropout, softcap
        self.batch, heads, self.queries, _ = q.shape
        self.rows, self.shared = self.batch * k.shape[1], heads // k.shape[1]
        self.q = self.by_row(q * scale)
        self.k, self.v = k.flatten(0, 1), v.flatten(0, 1)  # (B K, S, D)
        self.segments, self.key_segments = (
            None if x is None else x.repeat_interleave(k.shape[1], 0) for x in (segments, key_segments)
        )  # (B K, T) and (B K, S)
        self.wide = torch.promote_types(q.dtype, torch.float32)
        self.sinks = None
        if sinks is not None:
            self.sinks = sinks.to(self.wide).view(-1, 1, self.shared, 1, 1).repeat(self.batch, 1, 1, 1, 1)
        block = BLOCK if window <= 8 * BLOCK else 2 * BLOCK
        self.block, self.most = (GPU_BLOCK, GPU_SCORES) if q.is_cuda else (block, SCORES)
        hidden = torch.full((self.block, self.block), float("-inf"), dtype=self.wide, device=q.device)
        self.future, self.past = hidden.triu(1), hidden.tril(-1)
        self.generator = None if seed is None else torch.Generator(q.device).manual_seed(int(seed))

    def __iter__(self) -> Iterator[_Step]:
        begin = 0
        while begin < self.queries:
            n = min(self.block, self.queries - begin)
            inside = self.mask is None and self.cached + begin >= self.window - 1  # the window is full from here on
            first = self.cached + begin - self.window + 1 if inside else 0
            keys = self.cached + begin + n - first
            blocks = (self.queries - begin) // n if inside else 1
            # Not both: blocks of one row are a view of its keys in which they overlap, and of several rows a copy.
            most = self.rows if self.mask is not None else max(1, self.most // (self.shared * n * keys))
            rows, together = min(most, self.rows), 1
            if self.rows * -(-blocks // most) < -(-self.rows // most) * blocks:  # fewer steps
                rows, together = 1, min(most, blocks)
            for row in range(0, self.rows, rows):
                for i in range(0, blocks, together):
                    here, now = min(rows, self.rows - row), min(together, blocks - i)
                    yield _Step(row, here, begin + i * n, now, n, first + i * n, keys)
            begin += blocks * n

    def by_row(self, x: Tensor) -> Tensor:
        """(B, H, T, D) -> (B K, R, T, D)."""
        return x.reshape(self.rows, self.shared, *x.shape[2:])

    def at_queries(self, x: Tensor, step: _Step) -> Tensor:
        """(B K, R, T, D) -> (P, G, R, N, D), a view."""
        part = x[step.row : step.row + step.rows, :, step.begin : step.begin + step.blocks * step.queries]
        return part.unflatten(2, (step.blocks, step.queries)).transpose(1, 2)

    def at_keys(self, x: Tensor, step: _Step, start: int = 0, end: int | None = None) -> Tensor:
        """(B K, S, ...) -> (P, G, ..., M), a view in which the blocks' keys overlap; or only some of the M keys."""
        end = step.keys if end is None else end
        last = step.first + (step.blocks - 1) * step.queries + end
        return x[step.row : step.row + step.rows, step.first + start : last].unfold(1, end - start, step.queries)

    def add_at_keys(self, x: Tensor, step: _Step, part: Tensor) -> None:
        """Adds (P G, M, D) to (B K, S, D): as many keys of every block at once as do not overlap."""
        part = part.view(step.rows, step.blocks, *part.shape[1:]).transpose(2, 3)
        width = step.keys if step.blocks == 1 else step.queries
        for start in range(0, step.keys, width):
            end = min(start + width, step.keys)
            self.at_keys(x, step, start, end).add_(part[..., start:end])

    def scores(self, q: Tensor, step: _Step) -> tuple[Tensor, Tensor | None]:
        """Masked scores (P, G, R, N, M), and where they are soft-capped the tanh that was taken."""
        n = step.queries
        scores = torch.bmm(q, self.at_keys(self.k, step).flatten(0, 1)).to(self.wide)
        scores = scores.view(step.rows, step.blocks, self.shared, n, step.keys)
        tanh = None
        if self.softcap is not None:
            tanh = scores.div_(self.softcap).tanh_()
            scores = tanh * self.softcap
        if self.mask is not None:
            mask, by_head = self.at_mask(self.mask, step), self.by_head(scores)
            by_head.add_(mask) if mask.is_floating_point() else by_head.masked_fill_(~mask, float("-inf"))
            return scores, tanh
        scores[..., -n:] += self.future[:n, :n]
        # The window's other edge: key m is hidden from query i where m < i - shift.
        shift = max(0, self.window - 1 - self.cached - step.begin)
        if shift < n - 1:
            scores[..., shift:, : n - shift] += self.past[: n - shift, : n - shift]
        if self.segments is not None and self.key_segments is not None:
            own = self.at_queries(self.segments[:, None], step)  # (P, G, 1, N)
            others = self.at_keys(self.key_segments, step)[:, :, None, None]
            scores.masked_fill_(own[..., None] != others, float("-inf"))
        return scores, tanh

    def at_mask(self, mask: Tensor, step: _Step) -> Tensor:
        """The part of a dense mask, or of its gradient, that belongs to a step."""
        return mask[..., step.begin : step.begin + step.queries, step.first : step.first + step.keys]

    def by_head(self, scores: Tensor) -> Tensor:
        """(B K, 1, R, N, M) -> (B, H, N, M): under a dense mask a step has all rows."""
        return scores.view(self.batch, -1, *scores.shape[3:])

    def weights(self, scores: Tensor, step: _Step) -> tuple[Tensor, Tensor | None]:
        """Softmax (P, G, R, N, M) of the scores, and the share (P, G, R, N, 1) of the sinks where there are any."""
        if self.sinks is None:
            return scores.softmax(-1), None
        sinks = self.sinks[step.row : step.row + step.rows]
        total = torch.logaddexp(scores.logsumexp(-1, keepdim=True), sinks)
        return scores.sub_(total).exp_(), (sinks - total).exp_()

    def kept(self, weights: Tensor) -> Tensor | None:
        """What dropout multiplies the weights with; the same in the backward pass as in the forward pass."""
        if self.generator is None:
            return None
        return torch.empty_like(weights).bernoulli_(1 - self.dropout, generator=self.generator).div_(1 - self.dropout)


@torch.library.custom_op("lit_gpt::blockwise_attention", mutates_args=())
def _forward(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, segments: Tensor | None, key_segments: Tensor | None,
    sinks: Tensor | None, seed: Tensor | None, window: int, cached: int, dropout: float, scale: float,
    softcap: float | None,
) -> Tensor:  # fmt: skip
    """One node in a compiled graph, whatever the number of blocks."""
    with torch.autocast(q.device.type, enabled=False):
        blocks = _Blocks(q, k, v, mask, segments, key_segments, sinks, seed, window, cached, dropout, scale, softcap)
        out = q.new_empty(blocks.q.shape)
        for step in blocks:
            scaled = blocks.at_queries(blocks.q, step)
            scores, _ = blocks.scores(_matrices(scaled), step)
            weights, _ = blocks.weights(scores, step)
            kept = blocks.kept(weights)
            weights = weights if kept is None else weights.mul_(kept)
            y = torch.bmm(_matrices(weights).to(v.dtype), blocks.at_keys(blocks.v, step).flatten(0, 1).transpose(1, 2))
            blocks.at_queries(out, step).copy_(y.view(scaled.shape))
    return out.view(q.shape)


@_forward.register_fake
def _(q: Tensor, *rest: Any) -> Tensor:
    return q.new_empty(q.shape)


@torch.library.custom_op("lit_gpt::blockwise_attention_backward", mutates_args=())
def _backward(
    gradient: Tensor, out: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, segments: Tensor | None,
    key_segments: Tensor | None, sinks: Tensor | None, seed: Tensor | None, window: int, cached: int, dropout: float,
    scale: float, softcap: float | None, wants_mask: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v, sinks and mask; the last two are empty where there are none."""
    with torch.autocast(q.device.type, enabled=False):
        blocks = _Blocks(q, k, v, mask, segments, key_segments, sinks, seed, window, cached, dropout, scale, softcap)
        gradient = blocks.by_row(gradient)
        # sum over keys of weight * gradient, the same number for every key of a query
        along = torch.linalg.vecdot(gradient, blocks.by_row(out))[..., None].to(blocks.wide)
        dq = q.new_empty(blocks.q.shape)
        dk, dv = (torch.zeros(x.shape, dtype=blocks.wide, device=x.device) for x in (blocks.k, blocks.v))
        dsinks = q.new_zeros(0 if sinks is None else (blocks.rows, blocks.shared), dtype=blocks.wide)
        dmask = torch.zeros_like(mask, dtype=blocks.wide) if mask is not None and wants_mask else q.new_zeros(0)
        for step in blocks:
            scaled = _matrices(blocks.at_queries(blocks.q, step))
            dy = _matrices(blocks.at_queries(gradient, step))
            scores, tanh = blocks.scores(scaled, step)
            weights, share = blocks.weights(scores, step)
            kept = blocks.kept(weights)
            dropped = weights if kept is None else weights * kept
            blocks.add_at_keys(dv, step, torch.bmm(_matrices(dropped).to(v.dtype).transpose(1, 2), dy))
            dscores = torch.bmm(dy, blocks.at_keys(blocks.v, step).flatten(0, 1)).to(blocks.wide).view(scores.shape)
            if kept is not None:
                dscores.mul_(kept)
            mean = blocks.at_queries(along, step)
            dscores.sub_(mean).mul_(weights)
            if share is not None:
                dsinks[step.row : step.row + step.rows] -= (share * mean).sum((1, 3, 4))
            if mask is not None and wants_mask:
                part = blocks.at_mask(dmask, step)
                part += blocks.by_head(dscores).sum_to_size(part.shape)
            if tanh is not None:
                dscores.mul_(1 - tanh.square_())
            flat = _matrices(dscores).to(q.dtype)
            x = torch.bmm(flat, blocks.at_keys(blocks.k, step).flatten(0, 1).transpose(1, 2))
            view = blocks.at_queries(dq, step)
            torch.mul(x.view(view.shape), scale, out=view)
            blocks.add_at_keys(dk, step, torch.bmm(flat.transpose(1, 2), scaled))
    dk, dv = (x.to(k.dtype).view(k.shape) for x in (dk, dv))
    if sinks is not None:
        dsinks = dsinks.view(q.shape[0], -1).sum(0).to(sinks.dtype)
    return dq.view(q.shape), dk, dv, dsinks, dmask


@_backward.register_fake
def _(
    gradient: Tensor, out: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, segments: Any,
    key_segments: Any, sinks: Tensor | None, seed: Any, window: int, cached: int, dropout: float,
    scale: float, softcap: Any, wants_mask: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    wide = torch.promote_types(q.dtype, torch.float32)
    dsinks = q.new_empty(0, dtype=wide) if sinks is None else torch.empty_like(sinks)
    dmask = torch.empty_like(mask, dtype=wide) if mask is not None and wants_mask else q.new_empty(0)
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), dsinks, dmask


def _matrices(x: Tensor) -> Tensor:
    """(P, G, R, N, D) -> (P G, R N, D), so that the heads that share keys are one matrix."""
    return x.reshape(x.shape[0] * x.shape[1], -1, x.shape[-1])


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Keeps what the backward pass needs: no scores, no weights."""
    *tensors, ctx.window, ctx.cached, ctx.dropout, ctx.scale, ctx.softcap = inputs
    ctx.save_for_backward(output, *tensors)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Gradients in the order of the arguments of `_forward`."""
    out, *tensors = ctx.saved_tensors
    _, _, _, mask, _, _, sinks, _ = tensors
    wants_mask = mask is not None and ctx.needs_input_grad[3]
    dq, dk, dv, dsinks, dmask = _backward(
        gradient, out, *tensors, ctx.window, ctx.cached, ctx.dropout, ctx.scale, ctx.softcap, wants_mask
    )
    dmask = dmask.to(mask.dtype) if wants_mask else None
    return (dq, dk, dv, dmask, None, None, None if sinks is None else dsinks, *[None] * 6)


_forward.register_autograd(_differentiate, setup_context=_remember)
