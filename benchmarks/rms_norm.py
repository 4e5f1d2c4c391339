"""RMSNorm's forward and backward against torch's own `rms_norm` and its fused `layer_norm`, in turns, as ratios.

python benchmarks/rms_norm.py
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_gpt.nn import RMSNorm, Sizes

SHAPES = [(768, 128), (12, 64, 4, 32), (2048, 384)]  # a batch of 12 x 64 at width 128, its heads, one at width 384


def seconds(f: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> float:
    """Of one forward and backward."""
    begun = time.perf_counter()
    f(x).backward(gradient)
    x.grad = None
    return time.perf_counter() - begun


def main() -> None:
    """Prints a line for each shape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=200)
    turns = parser.parse_args().turns
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians of {turns} turns, forward and backward"
    )
    for shape in SHAPES:
        width = shape[-1]
        ours = RMSNorm(Sizes(width, 1, 1, 1, 1), affine=False)
        ways: dict[str, Callable[[Tensor], Tensor]] = {
            "ours": ours,
            "F.rms_norm": lambda x, width=width: F.rms_norm(x, (width,), None, 1e-5),  # type: ignore[misc]
            "F.layer_norm": lambda x, width=width: F.layer_norm(x, (width,), None, None, 1e-5),  # type: ignore[misc]
        }
        x, gradient = torch.randn(shape, requires_grad=True), torch.randn(shape)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(turns + 10):
            for name, way in ways.items():
                times[name].append(seconds(way, x, gradient))
        medians = {name: statistics.median(taken[10:]) for name, taken in times.items()}
        row = "  ".join(f"{name} {1e6 * taken:.0f} us" for name, taken in medians.items())
        print(f"{shape!s:18} {row}  ours / F.rms_norm {medians['ours'] / medians['F.rms_norm']:.2f}")


if __name__ == "__main__":
    main()
