"""Batches of ids out of a corpus.

Knows: corpora, windows, shapes. Does not know: files, text, training. B is the batch, T the context.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lit_gpt.data.corpus import Corpus
from lit_gpt.data.samplers import NOTHING, Order, Slots
from lit_gpt.errors import UserError

IGNORED = -100  # a target that is not scored; what cross-entropy leaves out by default


class Batch(NamedTuple):
    """What the net is shown and what it should say.

    inputs: (B, T) int64. targets: (B, T) int64, -100 where nothing is scored. segments: (B, T) int64 or None, tokens
    see their own segment only. task: which task a batch is of, or None.
    """

    inputs: Tensor
    targets: Tensor
    segments: Tensor | None = None
    task: Tensor | None = None


class Windows(Dataset[Batch]):
    """Stretches of context + 1 ids, one every `stride` tokens: the first T are inputs, the last T are targets.

    With the default stride, the context, windows touch: each token but the first of the corpus is a target exactly
    once. The last window may be short; it is filled up with targets of -100. With stride 1 every place in the text
    begins a window, and only whole ones count.

    Args:
        corpus: Where the ids are.
        context: Tokens that the net sees at once.
        stride: Tokens between the starts of windows.
    """

    def __init__(self, corpus: Corpus, context: int, stride: int | None = None) -> None:
        self.corpus, self.context, self.stride = corpus, context, stride or context
        scored = max(len(corpus) - 1, 0)
        self.count = -(-scored // context) if stride is None else max(scored - context, -1) // self.stride + 1

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Batch:
        """One window, as a batch without its first axis."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"window {number} of {len(self)}")
        inputs, targets, _, _ = self.batch(np.array([number % len(self)]))
        return Batch(inputs[0], targets[0])

    def batch(self, numbers: np.ndarray) -> Batch:
        """Several windows at once; the number NOTHING gives an empty row, in which nothing is scored."""
        ids, context = self.corpus.ids, self.context
        rows = np.zeros((len(numbers), context + 1), dtype=np.int64)  # (B, T + 1)
        whole = True
        for row, number in zip(rows, numbers.tolist(), strict=True):
            start = number * self.stride
            if number != NOTHING and start + context < len(ids):
                row[:] = ids[start : start + context + 1]
            else:
                whole = False
                part = ids[start:] if number != NOTHING else ids[:0]
                row[: len(part)] = part
        if rows.size and rows.max() >= self.corpus.vocab_size:
            self._refuse(rows, numbers)
        tokens = torch.from_numpy(rows)
        targets = tokens[:, 1:].clone()  # of their own: marking them must not mark the inputs
        if not whole:
            self._leave_out(targets, numbers)
        return Batch(tokens[:, :-1].contiguous(), targets)

    def _leave_out(self, targets: Tensor, numbers: np.ndarray) -> None:
        for row, number in zip(targets, numbers.tolist(), strict=True):
            scored = len(self.corpus) - 1 - number * self.stride if number != NOTHING else 0
            row[max(scored, 0) :] = IGNORED

    def _refuse(self, rows: np.ndarray, numbers: np.ndarray) -> None:
        row, column = np.argwhere(rows >= self.corpus.vocab_size)[0]
        raise UserError(
            f"token id {rows[row, column]} at token {numbers[row] * self.stride + column} of"
            f" {self.corpus.folder / 'ids.bin'} is past the vocabulary of {self.corpus.vocab_size};"
            f" the file was changed: remove {self.corpus.folder} and prepare again"
        )


class Ordered(Dataset[Batch]):
    """Windows in an order: asked for slots of an epoch, it gives their batch.

    Workers hold copies of it; nothing that it gives depends on what was asked before.

    Args:
        windows: What is drawn from.
        order: Which window stands at which slot.
        seed: Of the order.
        epoch_size: Slots in an epoch; by default one for each window.
    """

    def __init__(self, windows: Windows, order: Order, seed: int = 0, epoch_size: int | None = None) -> None:
        self.windows, self.order, self.seed = windows, order, seed
        self.epoch_size = len(windows) if epoch_size is None else epoch_size

    def __len__(self) -> int:
        return self.epoch_size

    def __getitem__(self, slots: Slots) -> Batch:
        return self.__getitems__(slots)

    def __getitems__(self, slots: Slots) -> Batch:
        """A whole batch in one go: joining rows one by one costs more than reading them."""
        return self.windows.batch(self.order.numbers(self.seed, slots, self.epoch_size, len(self.windows)))


def as_it_is(batch: Batch) -> Batch:
    """The collate function of whole batches: there is nothing left to join."""
    return batch
