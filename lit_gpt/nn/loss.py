"""Cross-entropy straight from hidden states and the head's weight, a chunk of rows at a time.

The logits of a whole batch are never held: at 32 x 1,024 tokens and 50,304 words they alone would take 6.6 GB. In
training the gradients of a chunk are computed at once, in the forward pass, and its logits dropped.
Letters: N rows (tokens), C width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_ELEMENTS = 2**24  # logits held at a time: 64 MiB in float32
HALF_ROWS = 2**11  # in float16 a gradient summed over many more would pass 65,504, whatever the loss scale
IGNORE = -100  # target of a token that is not scored


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    softcap: float | None = None,
    label_smoothing: float = 0.0,
    chunk_elements: int = CHUNK_ELEMENTS,
) -> Tensor:
    """Sum of the cross-entropy of ``softcap * tanh(hidden @ weight.T / softcap)`` over the scored targets.

    Args:
        hidden: (N, C).
        weight: (V, C), the head's.
        targets: (N,) ids, -100 where not scored.
        softcap: Logit softcap (Gemma 2, arXiv 2408.00118); None for none.
        label_smoothing: Share of the target's probability that is spread over the vocabulary (Szegedy et al. 2015).
        chunk_elements: Logits held at a time.

    Returns:
        Scalar, float32 (float64 for float64 input), in nats.
    """
    rows = max(1, chunk_elements // weight.shape[0])
    if hidden.shape[0] <= rows:
        return _sum(_logits(hidden, weight, softcap), targets, label_smoothing)
    return _Chunked.apply(hidden, weight, targets, softcap, label_smoothing, rows)


@torch.no_grad()
def score_tokens(
    hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None = None, chunk_elements: int = CHUNK_ELEMENTS
) -> tuple[Tensor, Tensor]:
    """Loss of each token and whether the most likely token is the target; for evaluation, without gradients.

    Args:
        hidden: (N, C).
        weight: (V, C), the head's.
        targets: (N,) ids, -100 where not scored (loss 0, not correct).
        softcap: Logit softcap; None for none.
        chunk_elements: Logits held at a time.

    Returns:
        (N,) losses in nats, float32; (N,) booleans.
    """
    rows = max(1, chunk_elements // weight.shape[0])
    losses, correct = [], []
    for h, t in zip(hidden.split(rows), targets.split(rows), strict=True):
        logits = _logits(h, weight, softcap)
        losses.append(F.cross_entropy(logits, t, reduction="none", ignore_index=IGNORE))
        correct.append(logits.argmax(-1) == t)
    return torch.cat(losses), torch.cat(correct)


def cap(logits: Tensor, softcap: float | None) -> Tensor:
    """``softcap * tanh(logits / softcap)``, or the logits themselves where softcap is None."""
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def _logits(hidden: Tensor, weight: Tensor, softcap: float | None) -> Tensor:
    """(N, V), at least float32: a bf16 sum over 50,000 words has two digits."""
    logits = F.linear(hidden, weight)
    return cap(logits if logits.dtype == torch.float64 else logits.float(), softcap)


def _sum(logits: Tensor, targets: Tensor, label_smoothing: float) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORE, label_smoothing=label_smoothing)


class _Chunked(torch.autograd.Function):
    """The sum over all rows, with the gradients of each chunk computed while its logits are at hand."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None, smoothing: float, rows: int
    ) -> Tensor:
        wanted = any(ctx.needs_input_grad[:2])
        device = hidden.device.type
        cast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        if cast == torch.float16:
            rows = min(rows, HALF_ROWS)
        matrix = weight.detach().to(cast)
        total = torch.zeros((), device=hidden.device, dtype=torch.promote_types(hidden.dtype, torch.float32))
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=total.dtype)  # 16 bits would lose the later chunks
        with torch.autocast(device, enabled=False):
            for start in range(0, hidden.shape[0], rows):
                h = hidden[start : start + rows].detach().to(cast)
                t = targets[start : start + rows]
                logits = _logits(h, matrix, None)
                capped = cap(logits, softcap)
                total += _sum(capped, t, smoothing)
                if not wanted:
                    continue
                # d loss / d logits = softmax - (1 - s) onehot - s / V, for scored rows, times 1 - tanh^2 of the cap.
                scored = t != IGNORE
                grad = capped.softmax(-1)
                at = torch.where(scored, t, 0)[:, None]
                grad.scatter_add_(1, at, torch.full_like(at, smoothing - 1.0, dtype=grad.dtype))
                if smoothing:
                    grad -= smoothing / weight.shape[0]
                if softcap is not None:
                    grad *= 1 - (capped / softcap).square()
                grad = (grad * scored[:, None]).to(cast)
                grad_hidden[start : start + rows] = grad @ matrix
                grad_weight += grad.T @ h
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        factor = grads[0]
        scaled = (grad_hidden * factor).to(grad_hidden.dtype), (grad_weight * factor).to(ctx.weight_dtype)
        return *scaled, None, None, None, None
