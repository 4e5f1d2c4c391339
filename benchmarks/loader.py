"""What a batch costs that is read in random order from a corpus of 20 GB, and what reading it leaves in memory.

    python benchmarks/loader.py --gigabytes 20

The corpus is a sparse file: it holds zeros that take no room on the disk, with checksums that are right. A batch has 32
windows of 1,024 tokens, read through the DataLoader that training uses, without workers. Anonymous memory is what the
process holds of its own; pages of the file that the kernel keeps are not in it. The last line is the loader at the size
of the quickstart: 16 windows of 128 out of a corpus of 2 M tokens, beside a training step of that config.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from xxhash import xxh3_64_intdigest

from lit_gpt.data import Byte, Corpus, Shuffled, Windows, write_corpus
from lit_gpt.data.corpus.columns import BLOCK
from lit_gpt.data.folders import read_manifest, write_json
from lit_gpt.data.orders.loading import Ordered, load
from lit_gpt.data.orders.samplers import RankBatches


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
        small = write_corpus(Path(name) / "small", ["x" * 2_000_000], Byte())
        times = measured(small, 128, 16, 900)
        print(f"quickstart's size, 16 x 128: median {statistics.median(times) * 1e3:.3f} ms")


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
    ordered = Ordered(windows, Shuffled(), 1, len(windows))
    sampler = RankBatches(len(windows), batch_size)
    loader = iter(load(ordered, sampler))
    times = []
    for _ in range(min(batches, len(sampler))):
        started = time.perf_counter()
        next(loader)
        times.append(time.perf_counter() - started)
    return times


def anonymous() -> float:
    """MB of memory of the process's own."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1e3


if __name__ == "__main__":
    main()
