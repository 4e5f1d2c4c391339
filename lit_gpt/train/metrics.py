"""Figures of merit over a whole split: sums are kept on the device and reduced over ranks once, at the end.

Knows scores of tokens; knows neither net nor tokenizer. All sums are float64 (where the device has it) or integers, so
that the order of the batches and the number of ranks do not show.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_gpt.nn.loss import IGNORE
from lit_gpt.train.objectives import TokenScores


class _Ratio(Metric):
    """One sum over another.

    Args:
        wide: Type of the sum of losses.
    """

    full_state_update = False
    above: Tensor
    below: Tensor

    def __init__(self, wide: torch.dtype = torch.float64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("above", torch.zeros((), dtype=wide), dist_reduce_fx="sum")
        self.add_state("below", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: TokenScores) -> None:
        """Add a batch."""
        self.above += scores.nats.sum(dtype=self.above.dtype)
        self.below += (scores.targets != IGNORE).sum()

    def compute(self) -> Tensor:
        """The ratio over all that was added, on all ranks; nan where nothing was."""
        return self.above / self.below


class TokenLoss(_Ratio):
    """Mean cross-entropy in nats per scored token."""


class Perplexity(_Ratio):
    """exp of the mean cross-entropy per scored token."""

    def compute(self) -> Tensor:
        """exp(nats / tokens)."""
        return (self.above / self.below).exp()


class TokenAccuracy(_Ratio):
    """Share of scored tokens whose most likely prediction is right."""

    def update(self, scores: TokenScores) -> None:
        """Add a batch."""
        scored = scores.targets != IGNORE
        self.above += (scores.correct & scored).sum()
        self.below += scored.sum()


class BitsPerByte(_Ratio):
    """Cross-entropy in bits per UTF-8 byte of the text: comparable over tokenizers.

    nats / (ln 2 x bytes); tokens of no bytes, the special ones, are left out of both sums.

    Args:
        byte_lengths: UTF-8 bytes of each token id, 0 for special tokens; (V,).
        text_bytes: Bytes of the whole text, where a tokenizer that is not lossless makes the sum over tokens wrong.
    """

    lengths: Tensor

    def __init__(self, byte_lengths: list[int], text_bytes: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.text_bytes = text_bytes
        self.register_buffer("lengths", torch.tensor(byte_lengths), persistent=False)

    def update(self, scores: TokenScores) -> None:
        """Add a batch."""
        scored = scores.targets != IGNORE
        lengths = self.lengths[scores.targets.clamp(min=0)] * scored
        self.above += (scores.nats * (lengths > 0)).sum(dtype=self.above.dtype)
        self.below += lengths.sum()

    def compute(self) -> Tensor:
        """nats / (ln 2 x bytes)."""
        count = self.below if self.text_bytes is None else self.text_bytes
        return self.above / math.log(2.0) / count
