"""How much of packed rows stays empty, and what a batch costs, on books that are split into paragraphs.

python benchmarks/packing.py ../shared/data/gutenberg
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from lit_gpt.data import BPE, Packed, Sequences, Shuffled, TextFiles, Windows, write_corpus
from lit_gpt.data.samplers.loading import SampledSequences
from lit_gpt.data.samplers.samplers import Slots
from lit_gpt.data.sequences.packing import best_fit

ROWS = 32


def cost(rows: Sequences) -> float:
    """Median milliseconds of a shuffled batch."""
    ordered, times = SampledSequences(rows, Shuffled(), 1), []
    for epoch in range(3):
        for start in range(0, len(rows) - ROWS, ROWS):
            begun = time.perf_counter()
            ordered[Slots(epoch, range(start, start + ROWS))]
            times.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(times)


def main() -> None:
    """Prints a line for each vocabulary and context."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("books", help="a folder of text files")
    parser.add_argument("--vocab_sizes", type=int, nargs="+", default=[8192, 32768])
    parser.add_argument("--contexts", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--separator", default="\n\n", help="what parts documents")
    arguments = parser.parse_args()
    source = TextFiles(arguments.books, separator=arguments.separator)
    for vocab_size in arguments.vocab_sizes:
        tokenizer = BPE(vocab_size=vocab_size)
        tokenizer.train(source)
        with tempfile.TemporaryDirectory() as folder:
            corpus = write_corpus(Path(folder) / "c", source, tokenizer)
            for context in arguments.contexts:
                begun = time.perf_counter()
                packed = Packed(corpus, context)
                seconds = time.perf_counter() - begun
                print(
                    f"{vocab_size} ids, context {context}: {corpus.documents:,} documents in {len(packed):,} rows,"
                    f" {packed.padding:.2%} empty, planned in {seconds:.2f} s; a batch of {ROWS} takes"
                    f" {cost(packed):.2f} ms, of windows {cost(Windows(corpus, context)):.2f} ms",
                    flush=True,
                )
    sizes = np.minimum(np.random.default_rng(0).lognormal(4.5, 1, 10_000_000).astype(np.int32) + 1, 1024)
    begun = time.perf_counter()
    _, rows = best_fit(sizes, 1024)
    print(f"10,000,000 documents in {rows:,} rows, planned in {time.perf_counter() - begun:.1f} s")


if __name__ == "__main__":
    main()
