"""Sequences of token ids from a corpus as batches of inputs, targets and segments; the base class, and Windows.

B is the batch, T the context.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lit_gpt.data.corpus.corpus import Corpus
from lit_gpt.data.corpus.memmap import Column
from lit_gpt.data.samplers.samplers import NOTHING
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError

IGNORED = -100  # target of a token that the loss ignores; the default ignore_index of cross-entropy
_READ = 1 << 20  # tokens read at once


class Batch(NamedTuple):
    """Inputs and targets of a training step.

    inputs: (B, T) int64. targets: (B, T) int64, -100 where the loss ignores a token. segments: (B, T) int64 or None;
    tokens attend to their own segment only. task: index of the batch's task, or None.
    """

    inputs: Tensor
    targets: Tensor
    segments: Tensor | None = None
    task: Tensor | None = None


class Sequences(Dataset[Batch], ABC):
    """The base of all sequences. A subclass sets `count` and implements the abstract methods.

    Args:
        corpus: The corpus.
        context: Length of a sequence, in tokens.
    """

    count = 0

    def __init__(self, corpus: Corpus, context: int) -> None:
        self.corpus, self.context = corpus, context

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Batch:
        """One sequence, as a batch without the first dimension."""
        if not -len(self) <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        inputs, targets, segments, _ = self.batch(np.array([number % len(self)]))
        return Batch(inputs[0], targets[0], None if segments is None else segments[0])

    @abstractmethod
    def batch(self, numbers: np.ndarray) -> Batch:
        """Several sequences at once; the number NOTHING gives an empty one, with targets of -100."""

    def lengths(self) -> np.ndarray | None:
        """Length of each sequence in tokens; None if all have the context's."""
        return None

    def widths(self) -> np.ndarray | None:
        """Padded length of each sequence in a batch of its like; None if all have the context's."""
        return None

    @abstractmethod
    def averaged(self, values: np.ndarray) -> np.ndarray:
        """The mean of a value per document over the targets of each sequence."""

    def every_start(self) -> "Sequences":
        """Sequences that begin at each token, for samplers that draw random starts."""
        raise UserError(
            f"{type(self).__name__} cannot begin at every token; use data.sampler Shuffled or data.sequences Windows"
        )

    def shortage(self) -> str | None:
        """The error if there is too little text for one sequence, without its subject; None if there is enough."""
        return None if len(self) else "has no token that could be predicted; give more of it"

    def notes(self) -> list[str]:
        """Counts of what was truncated, dropped or padded; a line each."""
        return []

    @abstractmethod
    def scored_bytes(self, tokenizer: Tokenizer) -> int:
        """UTF-8 bytes of the text whose tokens are trained on in one pass over all sequences."""


class Windows(Sequences):
    """Windows of context + 1 ids, one every `stride` tokens: the first T are inputs, the last T are targets.

    With the default stride, the context, each token except the first of the corpus is a target exactly once; a short
    last window is padded with targets of -100. With another stride there are whole windows only, and tokens in
    overlapping windows are targets more than once.

    Args:
        corpus: The corpus.
        context: Length of a window, in tokens.
        stride: Tokens between the starts of windows.
    """

    def __init__(self, corpus: Corpus, context: int, stride: int | None = None) -> None:
        super().__init__(corpus, context)
        if stride is not None and stride < 1:
            raise UserError(
                f"stride {stride} of Windows is not a positive number; remove it for windows without overlap"
            )
        self.given_stride, self.stride = stride, stride or context
        scored = max(len(corpus) - 1, 0)
        self.count = -(-scored // context) if stride is None else max(scored - context, -1) // self.stride + 1

    def batch(self, numbers: np.ndarray) -> Batch:
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
        tokens = torch.from_numpy(rows)
        targets = tokens[:, 1:].clone()  # masking them must not change the inputs
        if not whole:
            self._mask_padding(targets, numbers)
        if self.corpus.loss_mask is not None:
            self._apply_loss_mask(targets.numpy(), numbers)
        return Batch(tokens[:, :-1].contiguous(), targets)

    def _mask_padding(self, targets: Tensor, numbers: np.ndarray) -> None:
        for row, number in zip(targets, numbers.tolist(), strict=True):
            scored = len(self.corpus) - 1 - number * self.stride if number != NOTHING else 0
            row[max(scored, 0) :] = IGNORED

    def _apply_loss_mask(self, targets: np.ndarray, numbers: np.ndarray) -> None:
        assert self.corpus.loss_mask is not None
        for row, number in zip(targets, numbers.tolist(), strict=True):
            if number != NOTHING:
                start = number * self.stride + 1
                scored = self.corpus.loss_mask[start : start + self.context]
                row[: len(scored)][scored == 0] = IGNORED

    def averaged(self, values: np.ndarray) -> np.ndarray:
        starts = np.arange(len(self), dtype=np.int64) * self.stride + 1
        ends = np.minimum(starts + self.context, len(self.corpus))  # the last window may be short
        return sums_over(self.corpus, values, starts, ends) / (ends - starts)

    def every_start(self) -> "Windows":
        if self.given_stride is not None:
            raise UserError(
                f"stride {self.given_stride} of Windows conflicts with a sampler that draws random starts; remove it"
            )
        return Windows(self.corpus, self.context, 1)

    def shortage(self) -> str | None:
        if len(self.corpus) > self.context:
            return None
        return (
            f"has {len(self.corpus)} tokens, a context of {self.context} needs {self.context + 1};"
            " give more text or a smaller data.context"
        )

    def scored_bytes(self, tokenizer: Tokenizer) -> int:
        if self.given_stride is None:
            return self.corpus.bytes - TextBytes(tokenizer).at(self.corpus, np.zeros(1, np.int64))
        count, starts = TextBytes(tokenizer), (row * self.stride + 1 for row in range(len(self)))
        return sum(count.between(self.corpus, start, start + self.context) for start in starts)


def document_stretches(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """Start and end of each document, for sequences of whole documents. (D,), (D,) int64.

    A token that is both bos and eos occurs once between two documents and belongs to both, so that every document
    begins with it, as a prompt does. Each token except the first of each document is a target.
    """
    offsets = np.array(corpus.offsets[:], dtype=np.int64)
    starts, bos = offsets[:-1].copy(), corpus.manifest.get("bos")
    if bos is not None and bos == corpus.manifest.get("eos"):
        starts[1:] = np.maximum(starts[1:] - 1, 0)
    return starts, offsets[1:]


def side_by_side(
    corpus: Corpus, starts: np.ndarray, sizes: np.ndarray, counts: np.ndarray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Packs spans of the corpus into sequences; each token's target is the next token of the corpus.

    Args:
        corpus: The corpus.
        starts: First input of each span. (P,)
        sizes: Number of its inputs. (P,)
        counts: Spans of each sequence, at least one, possibly empty. (B,)
        width: Length of a sequence; padding has targets of -100.

    Returns:
        Inputs, targets, and each token's span within its sequence; padding has the next number. (B, width)
    """
    one = np.zeros(1, np.int64)  # appended, so that the last token has a next one; also makes the dtype int64
    lasts = np.cumsum(counts) - 1
    firsts = lasts - counts + 1
    ends = np.add.reduceat(sizes, firsts)
    wide = sizes.copy()
    wide[lasts] += width - ends  # until it is cleared, padding holds what follows the last span
    read = np.concatenate([*corpus.ids.stretches(starts, starts + sizes + 1), one])
    shift = (np.cumsum(sizes + 1) - sizes - 1) - (np.cumsum(wide) - wide)
    index = np.minimum(np.arange(len(counts) * width) + np.repeat(shift, wide), len(read) - 2)
    inputs, targets = read[index], read[1:][index]
    if corpus.loss_mask is not None:
        scored = np.concatenate([*corpus.loss_mask.stretches(starts, starts + sizes + 1), one])
        np.copyto(targets, IGNORED, where=scored[1:][index] == 0)
    numbers = np.repeat(np.arange(len(sizes)) - np.repeat(firsts, counts), wide)
    shape = (len(counts), width)
    inputs, targets, numbers = inputs.reshape(shape), targets.reshape(shape), numbers.reshape(shape)
    if (ends < width).any():
        empty = np.arange(width) >= ends[:, None]
        np.copyto(inputs, 0, where=empty)
        np.copyto(targets, IGNORED, where=empty)
        np.copyto(numbers, counts[:, None], where=empty)
    return inputs, targets, numbers


def sums_over(corpus: Corpus, values: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Sums of a value per document over the tokens from each start to each end."""
    offsets = np.asarray(corpus.offsets)
    before = np.concatenate(([0.0], np.cumsum(values * np.diff(offsets))))

    def until(places: np.ndarray) -> np.ndarray:
        places = np.clip(places, 0, offsets[-1])
        document = np.clip(np.searchsorted(offsets, places, side="right") - 1, 0, len(values) - 1)
        return before[document] + values[document] * (places - offsets[document])

    return until(ends) - until(starts)


def at_places(column: Column, places: np.ndarray) -> np.ndarray:
    """A column's values at sorted positions, read in chunks."""
    values = [column[:0]]
    for start in range(0, len(column), _READ):
        first, last = np.searchsorted(places, (start, start + _READ))
        if first < last:
            values.append(column[start : start + _READ][places[first:last] - start])
    return np.concatenate(values)


class TextBytes:
    """Counts the UTF-8 bytes of the text of tokens that are trained on.

    Args:
        tokenizer: The corpus's tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, lengths = tokenizer, tokenizer.byte_lengths()
        self._lengths = None if lengths is None else np.array(lengths, np.int64)

    def between(self, corpus: Corpus, start: int, stop: int) -> int:
        """Bytes of the tokens from `start` to `stop`."""
        ids = np.asarray(corpus.ids[start:stop])
        if corpus.loss_mask is not None:
            ids = ids[corpus.loss_mask[start:stop] != 0]
        return self._joined(ids.tolist()) if self._lengths is None else int(self._lengths[ids].sum())

    def at(self, corpus: Corpus, places: np.ndarray) -> int:
        """Bytes of single tokens, at sorted positions."""
        places = places[places < len(corpus)]
        ids = at_places(corpus.ids, places)
        if corpus.loss_mask is not None:
            ids = ids[at_places(corpus.loss_mask, places) != 0]
        if self._lengths is not None:
            return int(self._lengths[ids].sum())
        kinds, counts = np.unique(ids, return_counts=True)
        return sum(self._joined([kind]) * count for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True))

    def _joined(self, ids: list[int]) -> int:
        return len(self.tokenizer.decode(ids).encode("utf-8", "surrogatepass"))
