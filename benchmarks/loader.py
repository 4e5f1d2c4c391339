"""What a batch costs that is read in random order from a corpus of 20 GB, and what reading it leaves in memory.

    python benchmarks/loader.py --gigabytes 20

The corpus is a sparse file: it holds zeros that take no room on the disk, with checksums that are right. A batch has 32
windows of 1,024 tokens, read through the DataLoader that training uses, without workers. Anonymous memory is what the
process holds of its own; pages of the file that the kernel keeps are not in it. The last line is the loader of
configs/quickstart.yaml beside a step of its training.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from xxhash import xxh3_64_intdigest

from lit_gpt.cli import build
from lit_gpt.data import Byte, Corpus, Shuffled, Windows, write_corpus
from lit_gpt.data.corpus.memmap import BLOCK
from lit_gpt.data.folders import read_manifest, write_json
from lit_gpt.data.samplers.loading import SampledSequences, load
from lit_gpt.data.samplers.samplers import RankBatches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--batches", type=int, default=3000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        corpus = sparse(Path(name) / "corpus", int(asked.gigabytes * 1e9) // BLOCK * BLOCK)
        before = anonymous()
        times = measured(corpus, 1024, 32, asked.batches)
        cuts = statistics.quantiles(times, n=20)
        print(
            f"{asked.gigabytes:g} GB, 32 x 1024: median {statistics.median(times) * 1e3:.3f} ms,"
            f" 5 % {cuts[0] * 1e3:.3f}, 95 % {cuts[-1] * 1e3:.3f};"
            f" anonymous memory +{anonymous() - before:.1f} MB over {asked.batches:,} batches"
        )
        loader, step = quickstart(Path(name))
        print(f"quickstart, 16 x 128: a batch {loader * 1e3:.3f} ms, a step {step * 1e3:.1f} ms: {loader / step:.2%}")


def sparse(folder: Path, size: int) -> Corpus:
    """A corpus of so many bytes of ids, all zero, in no room."""
    write_corpus(folder, ["x"], Byte())
    with (folder / "ids.bin").open("wb") as file:
        file.truncate(size)
    sums = np.full(size // BLOCK, xxh3_64_intdigest(bytes(BLOCK)), "<u8")
    (folder / "ids.sums").write_bytes(sums.tobytes())
    manifest = read_manifest(folder / "manifest.json", "lit_gpt corpus", 2)
    manifest["files"]["ids.bin"]["bytes"], manifest["files"]["ids.sums"]["bytes"] = size, sums.nbytes
    write_json(folder / "manifest.json", manifest)
    return Corpus(folder)


def measured(corpus: Corpus, context: int, batch_size: int, batches: int) -> list[float]:
    windows = Windows(corpus, context)
    ordered = SampledSequences(windows, Shuffled(), 1, len(windows))
    sampler = RankBatches(len(windows), batch_size)
    loader = iter(load(ordered, sampler))
    times = []
    for _ in range(min(batches, len(sampler))):
        started = time.perf_counter()
        next(loader)
        times.append(time.perf_counter() - started)
    return times


def quickstart(folder: Path) -> tuple[float, float]:
    """Median seconds that the loader of configs/quickstart.yaml takes for a batch, and its training for a step."""
    config = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
    run = build(config, {"trainer.default_root_dir": str(folder), "trainer.enable_progress_bar": False})
    optimizer = torch.optim.AdamW(run.model.parameters(), fused=True)
    loading, steps = [], []
    loader = iter(run.data.train_dataloader())
    for _ in range(60):
        started = time.perf_counter()
        batch = next(loader)
        loaded = time.perf_counter()
        (total, count), _ = run.model.objective(run.model.net, batch)
        (total / count).backward()
        optimizer.step()
        optimizer.zero_grad()
        loading.append(loaded - started)
        steps.append(time.perf_counter() - started)
    return statistics.median(loading), statistics.median(steps)


def anonymous() -> float:
    """MB of memory of the process's own."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1e3


if __name__ == "__main__":
    main()
