"""Prompts: one document per sequence, padded.

B is the batch, T the width of a batch.
"""

from typing import Literal

import numpy as np
import torch

from lit_gpt.data.corpus.corpus import Corpus
from lit_gpt.data.samplers.samplers import NOTHING
from lit_gpt.data.sequences.datasets import Batch, Sequences, TextBytes, document_stretches, side_by_side
from lit_gpt.data.tokenizers.tokenizer import Tokenizer

_MULTIPLE = 64  # padded lengths: few shapes to compile, and fast for kernels


class Prompts(Sequences):
    """One document per sequence, padded on the right: for conversations, tasks, lines of text.

    A batch is padded to its longest sequence, rounded up to a multiple of 64, at most the context. Tokens outside the
    format's loss mask have targets of -100. A special token that is both bos and eos also begins each document.

    Args:
        corpus: The corpus.
        context: Maximum length, in tokens.
        too_long: Documents longer than the context: "drop" drops them, "cut" truncates them, and drops those without a
            token to train on in the rest. Both are counted and reported.
    """

    def __init__(self, corpus: Corpus, context: int, too_long: Literal["drop", "cut"] = "drop") -> None:
        super().__init__(corpus, context)
        starts, ends = document_stretches(corpus)
        self.documents, self.too_long = len(starts), too_long
        long, empty = ends - starts - 1 > context, ends - starts < 2
        kept = ~long & ~empty
        self._long, self._empty, self._pointless = int(long.sum()), int(empty.sum()), 0
        if too_long == "cut":
            for document in np.flatnonzero(long).tolist():
                start = int(starts[document])
                kept[document] = corpus.loss_mask is None or corpus.loss_mask[start + 1 : start + context + 1].any()
            self._pointless = int((long & ~kept).sum())
        self._documents = np.flatnonzero(kept)
        self._starts, self._ends = starts[kept], ends[kept]
        self._sizes = np.minimum(self._ends - self._starts - 1, context).astype(np.int32)
        self.count = len(self._starts)

    def batch(self, numbers: np.ndarray) -> Batch:
        there = numbers != NOTHING
        starts, sizes = np.zeros((2, len(numbers)), np.int64)
        starts[there], sizes[there] = self._starts[numbers[there]], self._sizes[numbers[there]]
        width = int(self._rounded(np.array(max(int(sizes.max(initial=0)), 1))))
        inputs, targets, _ = side_by_side(self.corpus, starts, sizes, np.ones(len(numbers), np.int64), width)
        return Batch(torch.from_numpy(inputs), torch.from_numpy(targets))

    def _rounded(self, lengths: np.ndarray) -> np.ndarray:
        return np.minimum(-(-lengths // _MULTIPLE) * _MULTIPLE, self.context)

    def lengths(self) -> np.ndarray:
        return self._sizes

    def widths(self) -> np.ndarray:
        return self._rounded(self._sizes)

    def averaged(self, values: np.ndarray) -> np.ndarray:
        return values[self._documents]

    def shortage(self) -> str | None:
        if len(self):
            return None
        if self._long:
            return (
                f"has no record that fits: {self._long:,} of {self.documents:,} are longer than {self.context} tokens;"
                " give a larger data.context, or data.sequences.too_long cut"
            )
        return super().shortage()

    def notes(self) -> list[str]:
        notes = []
        if dropped := self._long if self.too_long == "drop" else self._pointless:
            why = "" if self.too_long == "drop" else " and have nothing to train on in their beginning"
            of = f"{dropped:,} of {self.documents:,} records"
            notes.append(f"{of} are longer than {self.context} tokens{why}, dropped")
        if self.too_long == "cut" and (cut := self._long - self._pointless):
            of = f"{cut:,} of {self.documents:,} records"
            notes.append(f"{of} are longer than {self.context} tokens, cut at their end")
        if self._empty:
            notes.append(f"{self._empty:,} of {self.documents:,} records have nothing to predict, dropped")
        return notes

    def scored_bytes(self, tokenizer: Tokenizer) -> int:
        count = TextBytes(tokenizer)
        kept = int(np.asarray(self.corpus.document_bytes)[self._documents].sum())
        stops = self._starts + self._sizes + 1
        for row in np.flatnonzero(stops < self._ends).tolist():
            kept -= count.between(self.corpus, int(stops[row]), int(self._ends[row]))
        # The first token of a document is not a target. If there is a bos it is that, which has no text.
        firsts = self._starts if self.corpus.manifest.get("bos") is None else self._starts[:1]
        return kept - count.at(self.corpus, firsts)
