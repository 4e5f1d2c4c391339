"""What a sliding window costs beside full causal attention, forward and backward, in turns, as ratios.

Scores and values alone, without projections, through the layer's own `attend`. The dense mask that this saves is timed
too, and what soft-caps and sinks add.

python benchmarks/blockwise_attention.py
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from lit_gpt.nn import AttentionMask, attend
from lit_gpt.nn.mask import visible

HEADS, SIZE = 8, 64


clock = time.perf_counter


def seconds(f: Callable[..., Tensor], inputs: list[Tensor], gradient: Tensor) -> float:
    """Of one forward and backward."""
    begun = clock()
    f(*inputs).backward(gradient)
    for x in inputs:
        x.grad = None
    return clock() - begun


def pair(
    name: str, one: Callable[..., Tensor], other: Callable[..., Tensor], batch: int, length: int, turns: int
) -> None:
    """Prints medians and the ratio one / other of each turn."""
    inputs = [torch.randn(batch, HEADS, length, SIZE, requires_grad=True) for _ in range(3)]
    gradient = torch.randn(batch, HEADS, length, SIZE)
    for f in (one, other):
        seconds(f, inputs, gradient)
    times = [(seconds(one, inputs, gradient), seconds(other, inputs, gradient)) for _ in range(turns)]
    ratios = sorted(a / b for a, b in times)
    ours, theirs = (1e3 * statistics.median(taken) for taken in zip(*times, strict=True))
    print(
        f"{name:34} ({batch}, {HEADS}, {length}, {SIZE})  {ours:6.1f} ms  {theirs:6.1f} ms  "
        f"ratio {statistics.median(ratios):.3f}  ({ratios[0]:.3f} to {ratios[-1]:.3f})",
        flush=True,
    )


def main() -> None:
    """Prints a line for each comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--cpu-time", action="store_true", help="the process's, not the wall's: for a busy machine")
    options = parser.parse_args()
    if options.cpu_time:
        global clock
        clock = time.process_time
    torch.set_num_threads(options.threads)
    length, turns = options.length, options.turns
    causal = AttentionMask.build(length)
    print(
        f"torch {torch.__version__}, {options.threads} threads, float32, {'CPU' if options.cpu_time else 'wall'} time; "
        f"medians of {turns} turns; left / right"
    )

    def windowed(size: int, segments: Tensor | None = None) -> Callable[..., Tensor]:
        mask = AttentionMask.build(length, window=size, segments=segments)
        return lambda q, k, v: attend(q, k, v, mask)

    def full(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v, causal)

    for batch in (1, 2):
        pair("window 128 / causal", windowed(128), full, batch, length, turns)
    for size in (16, 512, 1024):
        pair(f"window {size} / causal", windowed(size), full, 1, length, turns)
    segments = (torch.arange(length) // 300)[None]
    pair("window 128 with segments / causal", windowed(128, segments), full, 1, length, turns)
    tensor = visible(length, length, 128, None, "cpu")
    dense = AttentionMask("dense", length, length, 128, length, tensor)
    pair("window 128 / the same, dense mask", windowed(128), lambda q, k, v: attend(q, k, v, dense), 1, length, turns)
    sinks = torch.zeros(HEADS, requires_grad=True)
    pair("causal with sinks / causal", lambda q, k, v: attend(q, k, v, causal, sinks=sinks), full, 1, length, turns)
    pair("causal, soft-capped / causal", lambda q, k, v: attend(q, k, v, causal, softcap=50.0), full, 1, length, turns)


if __name__ == "__main__":
    main()
