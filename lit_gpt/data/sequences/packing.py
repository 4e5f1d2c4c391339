"""Sequence packing: whole documents in one sequence, without attention across documents.

B is the batch, T the context.
"""

import numpy as np
import torch

from lit_gpt.data.corpus.corpus import Corpus
from lit_gpt.data.samplers.samplers import NOTHING
from lit_gpt.data.sequences.datasets import Batch, Sequences, TextBytes, document_stretches, side_by_side, sums_over
from lit_gpt.data.tokenizers.tokenizer import Tokenizer


class Packed(Sequences):
    """Sequence packing of whole documents with little padding; attention and positions stay within a document.

    Best-fit decreasing, as in Ding et al. 2024, "Fewer truncations improve language modeling" (arXiv:2404.10830). A
    document longer than the context is split without overlap; its last part is packed with other documents. Each token
    of a document except its first is a target exactly once. A special token that is both bos and eos ends each document
    and begins the next. Padding at the end of a sequence is a segment with targets of -100.

    Args:
        corpus: The corpus.
        context: Length of a sequence, in tokens.
    """

    def __init__(self, corpus: Corpus, context: int) -> None:
        super().__init__(corpus, context)
        starts, ends = document_stretches(corpus)
        sizes = np.maximum(ends - starts - 1, 0)  # inputs of each document, and as many targets
        whole, rest = np.divmod(sizes, context)
        # Whole contexts of long documents come first; only their counts are kept, so that memory grows with the number
        # of documents and not of tokens.
        long = np.flatnonzero(whole)
        self._long_starts, self._long_counts = starts[long], np.cumsum(whole[long])
        self.long_rows = int(self._long_counts[-1]) if len(long) else 0
        packed = np.flatnonzero(rest)
        starts, sizes = (starts + whole * context)[packed], rest[packed].astype(np.int32)
        row_of, rows = best_fit(sizes, context)
        by_row = np.argsort(row_of, kind="stable")
        self._starts, self._sizes = starts[by_row], sizes[by_row]
        self._first = np.concatenate(([0], np.cumsum(np.bincount(row_of, minlength=rows))))
        self.count = self.long_rows + rows
        stretches = whole + (rest > 0)
        self._cut, self._stretches = int((stretches > 1).sum()), int(stretches[stretches > 1].sum())
        self.filled = self.long_rows * context + int(sizes.sum(dtype=np.int64))

    def batch(self, numbers: np.ndarray) -> Batch:
        inputs, targets, segments = side_by_side(self.corpus, *self._parts(numbers), self.context)
        return Batch(torch.from_numpy(inputs), torch.from_numpy(targets), torch.from_numpy(segments))

    def _parts(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First input and number of inputs of each part, and parts of each sequence; an empty one has an empty part."""
        long = (numbers != NOTHING) & (numbers < self.long_rows)
        alone = long | (numbers == NOTHING)
        packed = np.where(alone, 0, numbers - self.long_rows)
        first, last = self._first[packed], self._first[np.minimum(packed + 1, len(self._first) - 1)]
        counts = np.where(alone, 1, last - first)
        is_alone = np.repeat(alone, counts)
        which = (np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum()))[~is_alone]
        starts, sizes = np.zeros((2, len(is_alone)), np.int64)
        starts[~is_alone], sizes[~is_alone] = self._starts[which], self._sizes[which]
        is_long = np.repeat(long, counts)
        starts[is_long], sizes[is_long] = self._starts_of_long(numbers[long]), self.context
        return starts, sizes, counts

    def _starts_of_long(self, numbers: np.ndarray) -> np.ndarray:
        """First input of sequences that one long document fills."""
        document = np.searchsorted(self._long_counts, numbers, side="right")
        before = np.concatenate(([0], self._long_counts))[document]
        return self._long_starts[document] + (numbers - before) * self.context

    def averaged(self, values: np.ndarray) -> np.ndarray:
        long = self._starts_of_long(np.arange(self.long_rows)) + 1
        means = sums_over(self.corpus, values, long, long + self.context) / self.context
        if not len(self._starts):
            return means
        sums = sums_over(self.corpus, values, self._starts + 1, self._starts + 1 + self._sizes)
        first = self._first[:-1]
        packed = np.add.reduceat(sums, first) / np.add.reduceat(self._sizes.astype(np.int64), first)
        return np.concatenate((means, packed))

    @property
    def padding(self) -> float:
        """Share of padding."""
        return 1.0 - self.filled / max(len(self) * self.context, 1)

    def notes(self) -> list[str]:
        places = len(self) * self.context
        notes = [f"{places - self.filled:,} of {places:,} places in packed rows stay empty ({self.padding:.2%})"]
        if self._cut:
            documents = f"{self._cut:,} document{' is' if self._cut == 1 else 's are'}"
            notes.append(f"{documents} longer than {self.context} tokens, cut into {self._stretches:,} stretches")
        return notes

    def scored_bytes(self, tokenizer: Tokenizer) -> int:
        # The first token of a document is not a target. If there is a bos it is that, which has no text.
        firsts = np.unique(np.asarray(self.corpus.offsets)[:-1])
        if self.corpus.manifest.get("bos") is not None:
            firsts = firsts[:1]  # a split by position begins within a document
        return self.corpus.bytes - TextBytes(tokenizer).at(self.corpus, firsts)


def best_fit(sizes: np.ndarray, context: int) -> tuple[np.ndarray, int]:
    """Bin packing by best-fit decreasing.

    The longest item first, each into the bin with the least space that fits. Items of equal size are placed together,
    with the same result as one by one, so the cost depends on the number of sizes rather than of items.

    Args:
        sizes: Sizes of the items, from 1 to context. (N,)
        context: Capacity of a bin.

    Returns:
        The bin of each item, int32 (N,), and the number of bins.
    """
    order = np.argsort(-sizes.astype(np.int32), kind="stable")
    counts = np.bincount(sizes, minlength=context + 1)
    row_of = np.empty(len(sizes), np.int32)
    rows_with: list[list[np.ndarray]] = [[] for _ in range(context + 1)]  # by remaining space
    occupied = 0  # bit r: there are bins with remaining space r
    rows = placed = 0
    for size in np.flatnonzero(counts)[::-1].tolist():
        missing = int(counts[size])
        while missing:
            fitting = occupied >> size
            room = size + (fitting & -fitting).bit_length() - 1 if fitting else context
            each = room // size  # a bin that took an item is the best fit for the next one too, while it has space
            wanted = -(-missing // each)
            if fitting:
                chosen = rows_with[room].pop()
                if len(chosen) > wanted:
                    rows_with[room].append(chosen[wanted:])
                    chosen = chosen[:wanted]
                elif not rows_with[room]:
                    occupied ^= 1 << room
            else:
                chosen = np.arange(rows, rows + wanted, dtype=np.int32)
                rows += wanted
            taken = min(missing, len(chosen) * each)
            row_of[order[placed : placed + taken]] = np.repeat(chosen, each)[:taken]
            placed, missing = placed + taken, missing - taken
            full, last = divmod(taken, each)
            for some, used in ((chosen[:full], each), (chosen[full:], last)):
                left = room - used * size
                if len(some) and left:
                    rows_with[left].append(some)
                    occupied |= 1 << left
    return row_of, rows
