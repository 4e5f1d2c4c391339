"""TokenBudget: batches of about as many tokens each, of rows of about one length.

Knows: lengths of rows. Does not know: text, tensors.
"""

import numpy as np

from lit_gpt.data.samplers.samplers import NOTHING, Sampler, Slots, mixed, permuted
from lit_gpt.data.sequences.datasets import Sequences
from lit_gpt.errors import UserError


class TokenBudget(Sampler):
    """Batches of as many rows as fit a number of tokens, for rows of unequal length, such as those of Prompts.

    Rows of about one length come together: a batch is as wide as a multiple of 64 tokens (or the context), and has
    tokens / width rows, so there are few shapes. Which rows meet, and in which order batches come, is drawn anew each
    epoch; each row comes once. What a width's last batch lacks is filled with empty rows. data.batch_size is not used
    for training then; validation goes on by data.val_batch_size rows.

    Args:
        tokens: Most tokens in a batch of one process, padding included.
    """

    whole_batches = True

    def __init__(self, tokens: int = 16384) -> None:
        super().__init__()
        if tokens < 1:
            raise UserError(f"tokens {tokens} of TokenBudget is not a positive number; give at least a row's")
        self.tokens = tokens
        self._by_width = np.empty(0, np.int64)  # numbers of rows, narrow ones first
        self._widths: list[int] = []
        self._sizes: list[int] = []  # rows in a batch of each width
        self._first_rows, self._first_batches = np.zeros(1, np.int64), np.zeros(1, np.int64)

    def open(self, sequences: Sequences) -> None:
        widths = sequences.widths()
        if widths is None:
            widths = np.full(len(sequences), sequences.context, np.int32)
        kinds, counts = np.unique(widths, return_counts=True)
        if len(kinds) and kinds[-1] > self.tokens:
            raise UserError(
                f"tokens {self.tokens} of TokenBudget is less than the longest row, padded to {kinds[-1]}; raise it"
            )
        self._by_width = np.argsort(widths, kind="stable")
        self._widths, self._sizes = kinds.tolist(), (self.tokens // kinds).tolist()
        self._first_rows = np.concatenate(([0], np.cumsum(counts)))
        self._first_batches = np.concatenate(([0], np.cumsum(-(-counts // np.array(self._sizes, np.int64)))))

    def slots(self, rows: int) -> int:
        return int(self._first_batches[-1])

    def numbers(self, seed: int, slots: Slots, epoch_size: int, count: int) -> np.ndarray:
        """Numbers of the rows of the one batch at a slot, int64; NOTHING for empty rows."""
        (place,) = slots.places
        if place >= epoch_size:  # one rank has a batch less than another
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
