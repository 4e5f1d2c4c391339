"""Grouped matrix products of a mixture of experts: rows are sorted by expert and multiplied with its matrices.

Letters: N tokens, K experts a token, A = N K assignments, E experts, C width, F hidden width of one expert.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Groups(NamedTuple):
    """Assignments in the order of their experts; token n's j-th choice is assignment n K + j."""

    order: Tensor  # (A,) assignments sorted by expert
    places: Tensor  # (A,) the index of each assignment in that order
    ends: Tensor  # (E,) int32: one past the last index of each expert


def group(chosen: Tensor, experts: int) -> Groups:
    """Sorts the choices (N, K) of all tokens by expert, without waiting for a device."""
    ranked, order = chosen.flatten().sort(stable=True)
    index = torch.arange(experts, device=chosen.device)
    ends = torch.searchsorted(ranked, index, right=True, out_int32=True)
    places = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
    return Groups(order, places, ends)


def mix_experts(x: Tensor, shares: Tensor, groups: Groups, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """Sum over each token's experts of share * down(silu(gate(x)) * up(x)).

    Args:
        x: (N, C).
        shares: (N, K), weights of the chosen experts; float32 at least.
        groups: The choices, sorted.
        gate: (E, F, C), as is up.
        up: (E, F, C).
        down: (E, C, F).

    Returns:
        (N, C) in the type of x, or of autocast where that is on, as from `F.linear`.
    """
    device = x.device.type
    if torch.is_autocast_enabled(device) and x.dtype != torch.float64:
        to = torch.get_autocast_dtype(device)
        x, gate, up, down = x.to(to), gate.to(to), up.to(to), down.to(to)
    if device == "cuda" and takes_grouped_mm(x, gate):
        return by_grouped_mm(x, shares, groups, gate, up, down)
    y: Tensor = _Mix.apply(x, shares, *groups, gate, up, down)
    return y


def takes_grouped_mm(x: Tensor, gate: Tensor) -> bool:
    """Whether torch has one kernel for all groups: bfloat16 alone, and rows of a multiple of 16 bytes. Anything else
    loops over the groups inside torch, and then waits for the device to learn their sizes, nine times a layer."""
    return x.dtype == torch.bfloat16 and x.shape[-1] % 8 == 0 and gate.shape[1] % 8 == 0


def by_grouped_mm(x: Tensor, shares: Tensor, groups: Groups, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """`mix_experts` in torch's grouped products, which read the sizes of the groups on the device."""
    order, places, ends = groups
    copies = shares.shape[1]
    rows = _Take.apply(x, order // copies, places, copies)  # (A, C)
    share = _Take.apply(shares.reshape(-1, 1), order, places, 1)  # (A, 1)
    hidden = F.silu(_product(rows, gate, ends)) * _product(rows, up, ends)  # (A, F)
    y = _product((hidden * share).to(x.dtype), down, ends)
    return _Take.apply(y, places, order, 1).unflatten(0, (-1, copies)).sum(1)


def _product(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    """(A, inputs), (E, outputs, inputs) -> (A, outputs)."""
    return F.grouped_mm(rows, weight.transpose(1, 2), offs=ends)


class _Take(torch.autograd.Function):
    """x[index], where each row of x is taken `copies` times; the gradient is taken back row by row, in a fixed order.

    torch's own backward adds into zeros: one row at a time on a CPU, in any order on a GPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, back: Tensor, copies: int) -> Tensor:
        ctx.save_for_backward(back)
        ctx.copies = copies
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (back,) = ctx.saved_tensors
        return _collect(grads[0], back, ctx.copies), None, None, None


class _Mix(torch.autograd.Function):
    """`mix_experts` one expert after another: what one expert needs between its products stays in the CPU's cache, and
    what the backward needs beside x are the two products before the non-linearity."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        y, gated, raised = _forward(*inputs)
        ctx.save_for_backward(*inputs, gated, raised)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_shares, *grad_weights = _backward(grads[0].contiguous(), *ctx.saved_tensors)
        return grad_x, grad_shares, None, None, None, *grad_weights


@torch.library.custom_op("lit_gpt::mix_experts", mutates_args=())
def _forward(
    x: Tensor, shares: Tensor, order: Tensor, places: Tensor, ends: Tensor, gate: Tensor, up: Tensor, down: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The result (N, C), and gate(x) and up(x) (A, F) in the order of the experts."""
    tokens, share = order // shares.shape[1], shares.flatten()[order].unsqueeze(1)
    gated, raised = (x.new_empty(len(order), gate.shape[1]) for _ in range(2))
    y = x.new_empty(len(order), x.shape[1])
    for expert, at in _occupied(ends):
        rows = x.index_select(0, tokens[at])
        torch.mm(rows, gate[expert].T, out=gated[at])
        torch.mm(rows, up[expert].T, out=raised[at])
        hidden = F.silu(gated[at]).mul_(raised[at]).mul_(share[at])
        torch.mm(hidden, down[expert].T, out=y[at])
    return _collect(y, places, shares.shape[1]), gated, raised


@torch.library.custom_op("lit_gpt::mix_experts_backward", mutates_args=())
def _backward(
    grad: Tensor, x: Tensor, shares: Tensor, order: Tensor, places: Tensor, ends: Tensor,
    gate: Tensor, up: Tensor, down: Tensor, gated: Tensor, raised: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of x, shares, gate, up and down."""
    tokens, share = order // shares.shape[1], shares.flatten()[order].unsqueeze(1)
    grad_rows = x.new_empty(len(order), x.shape[1])
    grad_share = torch.empty_like(share)
    # An expert that no token chose has a gradient of zero.
    grad_gate, grad_up, grad_down = (
        torch.zeros_like(w, memory_format=torch.contiguous_format) for w in (gate, up, down)
    )
    for expert, at in _occupied(ends):
        rows, grad_y = x.index_select(0, tokens[at]), grad.index_select(0, tokens[at])
        silu = F.silu(gated[at])
        hidden = silu * raised[at]
        grad_hidden = grad_y @ down[expert]  # before it is multiplied with the share
        torch.sum(grad_hidden * hidden, 1, keepdim=True, dtype=share.dtype, out=grad_share[at])
        torch.mm(grad_y.T, hidden.mul_(share[at]), out=grad_down[expert])
        grad_hidden.mul_(share[at])
        grad_raised = silu.mul_(grad_hidden)
        grad_gated = torch.ops.aten.silu_backward(grad_hidden.mul_(raised[at]), gated[at])
        torch.mm(grad_gated.T, rows, out=grad_gate[expert])
        torch.mm(grad_raised.T, rows, out=grad_up[expert])
        torch.mm(grad_gated, gate[expert], out=grad_rows[at]).addmm_(grad_raised, up[expert])
    grad_shares = grad_share.index_select(0, places).view_as(shares)
    return _collect(grad_rows, places, shares.shape[1]), grad_shares, grad_gate, grad_up, grad_down


@_forward.register_fake
def _(x, shares, order, places, ends, gate, up, down):  # type: ignore[no-untyped-def]
    hidden = order.shape[0], gate.shape[1]
    return torch.empty_like(x), x.new_empty(hidden), x.new_empty(hidden)


@_backward.register_fake
def _(grad, x, shares, order, places, ends, gate, up, down, gated, raised):  # type: ignore[no-untyped-def]
    return tuple(torch.empty_like(t, memory_format=torch.contiguous_format) for t in (x, shares, gate, up, down))


def _occupied(ends: Tensor) -> Iterator[tuple[int, slice]]:
    """The experts that have rows, with the places of these."""
    start = 0
    for expert, end in enumerate(ends.tolist()):
        if end > start:
            yield expert, slice(start, end)
        start = end


def _collect(rows: Tensor, places: Tensor, copies: int) -> Tensor:
    """(A, ...) in the order of the experts -> (N, ...): the sum of each token's rows."""
    return rows.index_select(0, places).unflatten(0, (-1, copies)).sum(1)
