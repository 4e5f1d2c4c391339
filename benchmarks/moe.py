"""A training step with experts against one with a dense SwiGLU of as many active parameters, in turns, as ratios.

python benchmarks/moe.py
"""

import argparse
import os
import statistics
import time
from functools import partial

import torch
from torch import Tensor

from lit_gpt.model import GPT
from lit_gpt.nn import FeedForward, MoE, RMSNorm, RoPE, Stacked, SwiGLU, linear_cross_entropy

VOCABULARY = 4096


class Training:
    """A net that makes whole training steps: forward, backward, clipping and fused AdamW."""

    def __init__(self, feedforward: type[FeedForward] | partial, batch_size: int, context: int) -> None:
        self.net = GPT(
            VOCABULARY, width=384, depth=6, heads=6, context=context, feedforward=feedforward, norm=RMSNorm,
            position=RoPE, seed=1,
        )  # fmt: skip
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-4, fused=True)
        self.batch_size, self.context = batch_size, context

    def step(self) -> tuple[float, float]:
        """Seconds of one step, and those of its clipping and optimizer alone."""
        ids = torch.randint(VOCABULARY, (self.batch_size, self.context + 1))
        begun = time.perf_counter()
        self.optimizer.zero_grad()
        self.net(ids[:, :-1], reduce=partial(mean_loss, ids[:, 1:])).backward()
        gradients = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        ended = time.perf_counter()
        return ended - begun, ended - gradients

    def parameters(self) -> tuple[int, int]:
        """All of them, and those that one token meets."""
        every = sum(p.numel() for p in self.net.parameters())
        stacks = [m for m in self.net.modules() if isinstance(m, Stacked)]
        return every, every - sum(m.weight.numel() // m.experts * (m.experts - m.active) for m in stacks)


def mean_loss(targets: Tensor, hidden: Tensor, weight: Tensor, softcap: float | None, aux: Tensor | float) -> Tensor:
    """Cross-entropy and the router's losses."""
    return linear_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten(), softcap) / targets.numel() + aux


def main() -> None:
    """Prints each turn and the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--top_k", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    ways = {
        "dense": Training(SwiGLU, asked.batch_size, asked.context),
        "experts": Training(partial(MoE, experts=asked.experts, top_k=asked.top_k), asked.batch_size, asked.context),
    }
    print(
        f"torch {torch.__version__}, {asked.threads} threads, batches of {asked.batch_size} x {asked.context}, float32"
    )
    for name, way in ways.items():
        every, active = way.parameters()
        print(f"{name}: {every / 1e6:.2f} M parameters, {active / 1e6:.2f} M active")
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(asked.turns + 1):
        # The order changes from turn to turn, so that neither always runs on the other's warm processor.
        for name in sorted(ways, reverse=turn % 2 == 1):
            taken[name].append(ways[name].step())
    ratios = [e[0] / d[0] for e, d in zip(taken["experts"][1:], taken["dense"][1:], strict=True)]
    for name, times in taken.items():
        whole, updating = (statistics.median(part) for part in zip(*times[1:], strict=True))
        print(f"{name}: {1e3 * whole:.0f} ms a step, of which {1e3 * updating:.0f} ms clipping and optimizer")
    print(f"experts / dense {statistics.median(ratios):.3f}; each turn " + " ".join(f"{r:.3f}" for r in ratios))


if __name__ == "__main__":
    main()
