"""Validation metrics: loss, perplexity, token accuracy and bits per byte over a whole split.

Sums are kept on the device and reduced over ranks once, at the end. They are float64 (where the device has it) or
integers, so that the order of the batches and the number of ranks do not matter.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_gpt.nn.loss import IGNORE
from lit_gpt.train.objectives import TokenScores


class _Ratio(Metric):
    """Quotient of two sums, that of the losses in dtype `wide`; nan for an empty split."""

    full_state_update = False
    above: Tensor
    below: Tensor

    def __init__(self, wide: torch.dtype = torch.float64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("above", torch.zeros((), dtype=wide), dist_reduce_fx="sum")
        self.add_state("below", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: TokenScores) -> None:
        self.above += scores.nats.sum(dtype=self.above.dtype)
        self.below += (scores.targets != IGNORE).sum()

    def compute(self) -> Tensor:
        return self.above / self.below


class TokenLoss(_Ratio):
    """Mean cross-entropy in nats per target that is not masked."""


class Perplexity(_Ratio):
    """exp of the mean cross-entropy."""

    def compute(self) -> Tensor:
        return (self.above / self.below).exp()


class TokenAccuracy(_Ratio):
    """Fraction of targets that are the most likely token."""

    def update(self, scores: TokenScores) -> None:
        scored = scores.targets != IGNORE
        self.above += (scores.correct & scored).sum()
        self.below += scored.sum()


class BitsPerByte(_Ratio):
    """Cross-entropy in bits per UTF-8 byte of the text, comparable between tokenizers: nats / (ln 2 x bytes).

    Special tokens, which have no bytes, are in neither sum.

    Args:
        byte_lengths: UTF-8 bytes of each token id, 0 for special tokens; (V,).
        text_bytes: Bytes of the whole text, for a tokenizer that is not lossless; else the sum over tokens.
    """

    lengths: Tensor

    def __init__(self, byte_lengths: list[int], text_bytes: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.text_bytes = text_bytes
        self.register_buffer("lengths", torch.tensor(byte_lengths), persistent=False)

    def update(self, scores: TokenScores) -> None:
        scored = scores.targets != IGNORE
        lengths = self.lengths[scores.targets.clamp(min=0)] * scored
        self.above += (scores.nats * (lengths > 0)).sum(dtype=self.above.dtype)
        self.below += lengths.sum()

    def compute(self) -> Tensor:
        count = self.below if self.text_bytes is None else self.text_bytes
        return self.above / math.log(2.0) / count
