"""What is changed at random in training batches: tokens masked or replaced.

Knows: batches, which ids are special. Does not know: text, orders. What is changed in a row depends on the row's key
alone, which is made of seed, epoch and slot: the same for any number of ranks and workers, and after a resume.
B is the batch, T its width.
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

    #: Targets are made anew of the inputs, which nothing may have changed before.
    rewrites_targets = False

    def __call__(self) -> "Augment":
        """Itself, so that a made object may stand where a class to be made is expected."""
        return self

    def open(self, tokenizer: Tokenizer) -> None:  # noqa: B027  # nothing to look at is the common case
        """Looks at the tokenizer before the first batch.

        Raises:
            UserError: with this one it cannot be done.
        """

    @abstractmethod
    def apply(self, batch: Batch, keys: np.ndarray) -> Batch:
        """The batch changed; its tensors may be written to.

        Args:
            batch: A training batch.
            keys: Random bits of each row. (B,) uint64.
        """

    def notes(self, sample: Batch) -> list[str]:
        """What is lost by it, as counted in some rows; a line each."""
        return []


class _OfInputs(Augment):
    """Changes single input tokens; targets stay what they were."""

    def __init__(self, rate: float) -> None:
        if not 0 <= rate <= 1:
            raise UserError(f"rate {rate} of {type(self).__name__} is no share; give one from 0 to 1, such as 0.1")
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
        # What stands behind the last target says nothing to anything that is learned, as empty places do.
        counts = np.arange(inputs.shape[1]) < learned_lengths(targets)[:, None]
        chosen = (values < self.rate) & counts & self._is_ordinary[inputs]
        inputs[chosen] = self._instead(values[chosen])
        return batch

    @abstractmethod
    def _instead(self, values: np.ndarray) -> np.ndarray | int:
        """Ids for chosen places, of which each has a value evenly between 0 and rate."""


class MaskTokens(_OfInputs):
    """Shows the net a mask in place of some tokens, which it has to do without; what it should say stays.

    Special tokens and empty places are left as they are.

    Args:
        rate: Share of the tokens.
        token: Name of the special token that masks; by default the tokenizer's unk, else its pad.
    """

    def __init__(self, rate: float = 0.1, token: str | None = None) -> None:
        super().__init__(rate)
        self.token = token
        self._mask = 0

    def open(self, tokenizer: Tokenizer) -> None:
        super().open(tokenizer)
        found = tokenizer.unk if tokenizer.unk is not None else tokenizer.pad
        if self.token is not None:
            found = tokenizer.special_id(self.token)
        if found is None:
            raise UserError(
                f"MaskTokens needs a mask, and {type(tokenizer).__name__} has neither unk nor pad; give it one, such"
                " as data.tokenizer.pad '<|pad|>', or data.tokenizer.special '[<|mask|>]' and that as its token"
            )
        self._mask = found

    def _instead(self, values: np.ndarray) -> int:
        return self._mask


class ReplaceTokens(_OfInputs):
    """Shows the net other tokens in place of some, drawn evenly from all that are not special; targets stay.

    Special tokens and empty places are left as they are.

    Args:
        rate: Share of the tokens.
    """

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__(rate)

    def _instead(self, values: np.ndarray) -> np.ndarray:
        drawn = values / self.rate * len(self._ordinary)
        return self._ordinary[np.minimum(drawn.astype(np.int64), len(self._ordinary) - 1)]


def check_turns(augment: Sequence[Augment]) -> None:
    """Refuses augmentations in an order in which the net would be taught what it is shown instead of the text.

    Raises:
        UserError: what makes targets of inputs comes after what changes inputs.
    """
    for first, then in pairwise(augment):
        if then.rewrites_targets and not first.rewrites_targets:
            name, other = type(then).__name__, type(first).__name__
            raise UserError(
                f"{name} after {other} in data.augment would teach what {other} put in; put {name} before it"
            )


def ordinary_ids(tokenizer: Tokenizer) -> np.ndarray:
    """Ids that stand for text."""
    not_text = tokenizer.special_ids | tokenizer.unused_ids
    return np.array([id for id in range(tokenizer.vocab_size) if id not in not_text], np.int64)


def learned_lengths(targets: np.ndarray) -> np.ndarray:
    """Places up to the last target of each row. (B, T) -> (B,)."""
    scored = targets != IGNORED
    return np.where(scored.any(1), scored.shape[1] - scored[:, ::-1].argmax(1), 0)


def uniform(keys: np.ndarray, columns: int) -> np.ndarray:
    """Random-looking numbers from 0 to below 1 for each row's key. (B,) -> (B, columns)."""
    values = keys[:, None] + np.arange(columns, dtype=np.uint64) * np.uint64(_STEP)
    return (hashed(values, _STEP) >> np.uint64(11)) * 2.0**-53
