"""Data augmentation of training batches: tokens masked or replaced at random.

What is changed in a sequence depends on its key alone, which is made of seed, epoch and sample index: the same for any
number of ranks and workers, and after a resume. B is the batch, T its width.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from lit_gpt.data.samplers.samplers import hashed
from lit_gpt.data.sequences.datasets import IGNORED, Batch
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError

_STEP = 0x9E3779B97F4A7C15  # odd: the columns of a row get distinct values


class Augment(ABC):
    """The base of all augmentations. A subclass writes `apply`."""

    #: Whether targets are recomputed from the inputs, which no other augmentation may have changed before.
    rewrites_targets = False

    def __call__(self) -> "Augment":
        """Returns self, so that an instance works as a factory."""
        return self

    def open(self, tokenizer: Tokenizer) -> None:  # noqa: B027  # nothing to look at is the common case
        """Reads what it needs of the tokenizer, before the first batch.

        Raises:
            UserError: this tokenizer will not do.
        """

    @abstractmethod
    def apply(self, batch: Batch, keys: np.ndarray) -> Batch:
        """The batch changed; its tensors may be written to.

        Args:
            batch: A training batch.
            keys: Random bits of each row. (B,) uint64.
        """

    def notes(self, sample: Batch) -> list[str]:
        """What is lost in some sample sequences; a line each."""
        return []


class _OfInputs(Augment):
    """Changes single input tokens, but no targets."""

    def __init__(self, rate: float) -> None:
        if not 0 <= rate <= 1:
            raise UserError(f"rate {rate} of {type(self).__name__} is not between 0 and 1; give one, such as 0.1")
        self.rate = rate
        self._ordinary = np.empty(0, np.int64)
        self._is_ordinary = np.empty(0, bool)

    def open(self, tokenizer: Tokenizer) -> None:
        self._ordinary = ordinary_ids(tokenizer)
        self._is_ordinary = np.zeros(tokenizer.vocab_size, bool)
        self._is_ordinary[self._ordinary] = True

    def apply(self, batch: Batch, keys: np.ndarray) -> Batch:
        inputs, targets = batch.inputs.numpy(), batch.targets.numpy()
        values = uniform(keys, inputs.shape[1])  # (B, T)
        # Nothing behind the last target is trained on.
        trained = np.arange(inputs.shape[1]) < trained_lengths(targets)[:, None]
        chosen = (values < self.rate) & trained & self._is_ordinary[inputs]
        inputs[chosen] = self._replacements(values[chosen])
        return batch

    @abstractmethod
    def _replacements(self, values: np.ndarray) -> np.ndarray | int:
        """Ids for the chosen tokens, whose values are uniform between 0 and rate."""


class MaskTokens(_OfInputs):
    """Replaces some input tokens by a mask token; targets, special tokens and padding stay.

    Args:
        rate: Probability for each token.
        token: Text of the special token that masks; by default the tokenizer's unk, else its pad.
    """

    def __init__(self, rate: float = 0.1, token: str | None = None) -> None:
        super().__init__(rate)
        self.token = token
        self._mask = 0

    def open(self, tokenizer: Tokenizer) -> None:
        super().open(tokenizer)
        mask = tokenizer.unk if tokenizer.unk is not None else tokenizer.pad
        if self.token is not None:
            mask = tokenizer.special_id(self.token)
        if mask is None:
            raise UserError(
                f"MaskTokens needs a mask, and {type(tokenizer).__name__} has neither unk nor pad; give it one, such"
                " as data.tokenizer.pad '<|pad|>', or data.tokenizer.special '[<|mask|>]' and that as its token"
            )
        self._mask = mask

    def _replacements(self, values: np.ndarray) -> int:
        return self._mask


class ReplaceTokens(_OfInputs):
    """Replaces some input tokens by ordinary tokens, drawn uniformly; targets, special tokens and padding stay.

    Args:
        rate: Probability for each token.
    """

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__(rate)

    def _replacements(self, values: np.ndarray) -> np.ndarray:
        drawn = values / self.rate * len(self._ordinary)
        return self._ordinary[np.minimum(drawn.astype(np.int64), len(self._ordinary) - 1)]


def check_order(augment: Sequence[Augment]) -> None:
    """Refuses an order in which targets would be recomputed from changed inputs.

    Raises:
        UserError: an augmentation that rewrites targets comes after one that changes inputs alone.
    """
    for first, then in pairwise(augment):
        if then.rewrites_targets and not first.rewrites_targets:
            name, other = type(then).__name__, type(first).__name__
            raise UserError(
                f"{name} after {other} in data.augment would train on what {other} put in; put {name} before it"
            )


def ordinary_ids(tokenizer: Tokenizer) -> np.ndarray:
    """Ids of text: neither special nor unused."""
    not_text = tokenizer.special_ids | tokenizer.unused_ids
    return np.array([id for id in range(tokenizer.vocab_size) if id not in not_text], np.int64)


def trained_lengths(targets: np.ndarray) -> np.ndarray:
    """Number of tokens up to the last target of each sequence. (B, T) -> (B,)."""
    trained = targets != IGNORED
    return np.where(trained.any(1), trained.shape[1] - trained[:, ::-1].argmax(1), 0)


def uniform(keys: np.ndarray, columns: int) -> np.ndarray:
    """Pseudorandom numbers in [0, 1) from the key of each sequence. (B,) -> (B, columns)."""
    values = keys[:, None] + np.arange(columns, dtype=np.uint64) * np.uint64(_STEP)
    return (hashed(values, _STEP) >> np.uint64(11)) * 2.0**-53
