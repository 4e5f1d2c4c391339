"""Mixture of experts: a router with top-k experts per token, load-balancing loss and router z-loss.

Letters: B batch, T tokens of a row, N = B T tokens, K experts a token, E experts, C width, F hidden width of an expert.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lit_gpt.errors import UserError
from lit_gpt.nn.expert_matmul import group, mix_experts
from lit_gpt.nn.feedforward import Aux, FeedForward, SwiGLU, hidden_width
from lit_gpt.nn.linear import Linear, Stacked
from lit_gpt.nn.sizes import Sizes


class Routing(NamedTuple):
    """How one layer routed its tokens: what the load-balancing loss over several layers is computed from."""

    load: Tensor  # (E,) share of tokens routed to each expert; sums to K
    probability: Tensor  # (E,) mean router probability of each expert
    aux_loss_coef: float  # factor of the load-balancing loss
    z_loss: Tensor  # scalar, of this layer alone, with its factor


class MoE(FeedForward):
    """Mixture of experts: a router sends each token to a few SwiGLUs of many (Mixtral, Jiang et al. 2024, arXiv
    2401.04088). No token is dropped, however uneven the load.

    Args:
        sizes: Filled in by the net.
        ratio: Sets the hidden width such that the experts of one token have together as many parameters as SwiGLU.
        hidden: Hidden width of one expert; overrides ratio.
        experts: Experts to choose from.
        top_k: How many of them each token goes to.
        shared: Shared experts, which every token goes to (DeepSeekMoE, Dai et al. 2024, arXiv 2401.06066).
        normalize_weights: Whether the weights of a token's top_k experts are normalized to sum to 1.
        aux_loss_coef: Factor of the load-balancing loss (Switch Transformer, Fedus et al. 2021, arXiv 2101.03961).
        z_loss_coef: Factor of the router z-loss (ST-MoE, Zoph et al. 2022, arXiv 2202.08906).
        pooled: Whether the load-balancing loss is that of all pooled layers' tokens together (as in transformers), not
            the sum of each layer's own.
    """

    residual = ("down",)

    def __init__(
        self,
        sizes: Sizes,
        ratio: float = 4.0,
        hidden: int | None = None,
        experts: int = 8,
        top_k: int = 2,
        shared: int = 0,
        normalize_weights: bool = True,
        aux_loss_coef: float = 0.01,
        z_loss_coef: float = 0.001,
        pooled: bool = False,
    ):
        super().__init__(sizes)
        if experts < 2:
            raise UserError(f"experts must be at least 2, got {experts}; one expert is SwiGLU")
        if not 1 <= top_k <= experts:
            raise UserError(f"top_k must be from 1 to experts ({experts}), got {top_k}")
        if top_k == 1 and normalize_weights:
            raise UserError(
                "top_k 1 with normalize_weights gives every token the weight 1, whatever the router says; "
                "give normalize_weights=False"
            )
        if shared < 0:
            raise UserError(f"shared must be 0 or more, got {shared}")
        for name, factor in (("aux_loss_coef", aux_loss_coef), ("z_loss_coef", z_loss_coef)):
            if not 0 <= factor < math.inf:
                raise UserError(f"{name} must be a number from 0 up, got {factor}; 0 switches it off")
        hidden = hidden_width(hidden, -(-(2 * ratio * self.width / 3) // (8 * (top_k + shared))) * 8)
        self.experts, self.top_k, self.normalize_weights = experts, top_k, normalize_weights
        self.aux_loss_coef, self.z_loss_coef, self.pooled = aux_loss_coef, z_loss_coef, pooled
        self.router = Linear(self.width, experts)
        self.gate = Stacked(experts, self.width, hidden, top_k)
        self.up = Stacked(experts, self.width, hidden, top_k)
        self.down = Stacked(experts, hidden, self.width, top_k)
        self.shared = SwiGLU(sizes, hidden=shared * hidden) if shared else nn.Identity()

    def forward(self, x: Tensor) -> tuple[Tensor, Aux]:
        """(B, T, C) -> (B, T, C) and the router's losses; 0.0 where no gradient is computed."""
        tokens = x.flatten(0, -2)  # (N, C)
        logits = self.router(tokens)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # (N, E)
        probabilities = logits.softmax(-1)
        shares, chosen = probabilities.topk(self.top_k, dim=-1)  # (N, K)
        if self.normalize_weights:
            shares = shares / shares.sum(-1, keepdim=True)
        groups = group(chosen, self.experts)
        y = mix_experts(tokens, shares, groups, self.gate.weight, self.up.weight, self.down.weight).view_as(x)
        if isinstance(self.shared, SwiGLU):
            y = y + self.shared(x)[0]
        return y, self._aux(logits, probabilities, groups.ends) if torch.is_grad_enabled() else 0.0

    def _aux(self, logits: Tensor, probabilities: Tensor, ends: Tensor) -> Aux:
        load = ends.diff(prepend=ends.new_zeros(1)).to(logits.dtype) / len(logits)
        z_loss = self.z_loss_coef * logits.logsumexp(-1).square().mean()
        routing = Routing(load, probabilities.mean(0), self.aux_loss_coef, z_loss)
        return routing if self.pooled else total([routing])


def total(terms: Sequence[Aux]) -> Tensor | float:
    """The sum of the layers' auxiliary losses. Layers that return their `Routing` are balanced as one if they have as
    many experts and the same factor: their loads and probabilities are averaged before they are multiplied.

    Args:
        terms: What each layer's feed-forward returned beside its output.
    """
    loss: Tensor | float = 0.0
    pools: dict[tuple[int, float], list[Routing]] = {}
    for term in terms:
        if isinstance(term, Routing):
            loss = loss + term.z_loss
            pools.setdefault((len(term.load), term.aux_loss_coef), []).append(term)
        else:
            loss = loss + term
    for (experts, aux_loss_coef), pool in pools.items():
        # Of K experts a token, an even load gives K: as much as Switch's 1 for its one expert.
        load = torch.stack([routing.load for routing in pool]).mean(0)
        probability = torch.stack([routing.probability for routing in pool]).mean(0)
        loss = loss + aux_loss_coef * experts * (load * probability).sum()
    return loss
