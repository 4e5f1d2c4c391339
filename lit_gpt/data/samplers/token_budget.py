"""TokenBudget: batches of sequences of similar length, limited by their number of tokens."""

import numpy as np

from lit_gpt.data.samplers.samplers import NOTHING, Sampler, Slots, mixed, permuted
from lit_gpt.data.sequences.datasets import Sequences
from lit_gpt.errors import UserError


class TokenBudget(Sampler):
    """Batches with a maximum number of tokens, for sequences of unequal length, such as those of Prompts.

    Sequences of similar length are batched together: a batch is padded to a multiple of 64 tokens (or the context) and
    has tokens / width sequences, so there are few shapes. Both are shuffled each epoch; each sequence occurs once. The
    last batch of a width is filled with empty sequences. It replaces data.batch_size in training; validation uses
    data.val_batch_size.

    Args:
        tokens: Maximum tokens in a batch of one process, padding included.
    """

    whole_batches = True

    def __init__(self, tokens: int = 16384) -> None:
        super().__init__()
        if tokens < 1:
            raise UserError(f"tokens {tokens} of TokenBudget is not a positive number; give at least a sequence's")
        self.tokens = tokens
        self._by_width = np.empty(0, np.int64)  # sequence numbers, by width
        self._widths: list[int] = []
        self._sizes: list[int] = []  # sequences in a batch of each width
        self._first_rows, self._first_batches = np.zeros(1, np.int64), np.zeros(1, np.int64)

    def open(self, sequences: Sequences) -> None:
        widths = sequences.widths()
        if widths is None:
            widths = np.full(len(sequences), sequences.context, np.int32)
        kinds, counts = np.unique(widths, return_counts=True)
        if len(kinds) and kinds[-1] > self.tokens:
            raise UserError(
                f"tokens {self.tokens} of TokenBudget is less than the longest sequence, padded to {kinds[-1]}"
            )
        self._by_width = np.argsort(widths, kind="stable")
        self._widths, self._sizes = kinds.tolist(), (self.tokens // kinds).tolist()
        self._first_rows = np.concatenate(([0], np.cumsum(counts)))
        self._first_batches = np.concatenate(([0], np.cumsum(-(-counts // np.array(self._sizes, np.int64)))))

    def slots(self, rows: int) -> int:
        return int(self._first_batches[-1])

    def numbers(self, seed: int, slots: Slots, epoch_size: int, count: int) -> np.ndarray:
        """Sequence numbers of the batch at a slot, int64; NOTHING for empty ones."""
        (place,) = slots.places
        if place >= epoch_size:  # past the end: one rank has a batch less
            return np.full(self._sizes[0], NOTHING, np.int64)
        batch = int(permuted(np.array([place], np.uint64), epoch_size, mixed(seed, slots.epoch))[0])
        kind = int(np.searchsorted(self._first_batches, batch, side="right")) - 1
        size, first = self._sizes[kind], int(self._first_rows[kind])
        there = int(self._first_rows[kind + 1]) - first
        begin = (batch - int(self._first_batches[kind])) * size
        places = np.arange(begin, min(begin + size, there), dtype=np.uint64)
        numbers = np.full(size, NOTHING, np.int64)
        drawn = permuted(places, there, mixed(seed, slots.epoch, 1 + kind)).astype(np.int64)
        numbers[: len(places)] = self._by_width[first + drawn]
        return numbers
