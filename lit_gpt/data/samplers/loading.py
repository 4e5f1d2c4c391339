"""DataLoader of whole batches: sequences in a sampler's order, with augmentations."""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.signal_handling import _error_if_any_worker_fails

from lit_gpt.data.augment.augment import Augment
from lit_gpt.data.samplers.samplers import NOTHING, RankBatches, Sampler, Slots, hashed, mixed
from lit_gpt.data.sequences.datasets import Batch, Sequences
from lit_gpt.errors import UserError

_CHANGES = 0xA06  # separates keys of augmentations from those of samplers


class SampledSequences(Dataset[Batch]):
    """A dataset that maps slots of an epoch to their batch, by a sampler.

    Stateless: workers hold copies, and a batch does not depend on earlier ones.

    Args:
        sequences: The sequences.
        sampler: The order.
        seed: Seed of the sampler.
        epoch_size: Slots in an epoch; by default one per sequence.
        augment: Augmentations of each batch, applied in turn.
    """

    def __init__(
        self,
        sequences: Sequences,
        sampler: Sampler,
        seed: int = 0,
        epoch_size: int | None = None,
        augment: Sequence[Augment] = (),
    ) -> None:
        self.sequences, self.sampler, self.seed, self.augment = sequences, sampler, seed, augment
        self.epoch_size = sampler.slots(len(sequences)) if epoch_size is None else epoch_size

    def __len__(self) -> int:
        return self.epoch_size

    def per_batch(self, batch_size: int) -> int:
        """Samples in a batch of one process: one where the sampler makes whole batches."""
        return 1 if self.sampler.whole_batches else batch_size

    def first(self, count: int) -> Batch:
        """The first training batch, or as many of its sequences."""
        return self[Slots(0, range(self.per_batch(count)))]

    def __getitem__(self, slots: Slots) -> Batch:
        return self.__getitems__(slots)

    def __getitems__(self, slots: Slots) -> Batch:
        """A whole batch at once: collating sequences one by one costs more than reading them."""
        numbers = self.sampler.numbers(self.seed, slots, self.epoch_size, len(self.sequences))
        if slots.skipped:
            numbers = np.full_like(numbers, NOTHING)
        batch = self.sequences.batch(numbers)
        for number, augment in enumerate(self.augment):
            batch = augment.apply(batch, self._keys(slots, len(batch.inputs), number))
        first = slots.places[0] if slots.first is None else slots.first
        context = self.sampler.context_at(slots.epoch, first)
        return batch if context in (None, self.sequences.context) else _cut_down(batch, context)

    def _keys(self, slots: Slots, rows: int, augment: int) -> np.ndarray:
        """A random key for each sequence, which depends on its slot only. (B,) uint64."""
        if self.sampler.whole_batches:
            key = mixed(self.seed, slots.epoch, _CHANGES, augment, slots.places[0])
            return hashed(np.arange(rows, dtype=np.uint64), key)
        places = np.array(slots.places, dtype=np.uint64)
        return hashed(places, mixed(self.seed, slots.epoch, _CHANGES, augment))


class BatchLoader(DataLoader[Batch]):
    """A loader of whole batches; TokenData keeps the position, so the state for Lightning is empty."""

    def __iter__(self) -> Any:
        """The batches.

        Raises:
            UserError: A worker was killed.
        """
        inner = super().__iter__()
        return _Watched(inner) if self.num_workers else inner

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class _Watched:
    """Batches of workers; a worker that was killed, for example out of memory, is an error in one line."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __iter__(self) -> "_Watched":
        return self

    def __len__(self) -> int:
        return len(self._inner)

    def __next__(self) -> Batch:
        try:
            batch: Batch = next(self._inner)
            return batch
        except UserError as error:  # of a worker, after its traceback
            raise UserError(str(error).rpartition("UserError: ")[2].strip()) from None
        except (RuntimeError, OSError, EOFError):
            # A dead worker may also show as a broken connection.
            for worker in self._inner._workers:
                worker.join(0.2)
            ended = [worker for worker in self._inner._workers if worker.exitcode]
            if not ended:
                raise
            with suppress(RuntimeError):  # or torch raises it again later, at any point
                _error_if_any_worker_fails()
            raise UserError(lost_worker(ended[0].pid, ended[0].exitcode)) from None


def lost_worker(pid: Any, code: int | None = None) -> str:
    """The error for a worker that ended."""
    how = "was killed" if code is None or code < 0 else f"ended with code {code}"
    why = f" (signal {signal.Signals(-code).name})" if code is not None and code < 0 else ""
    return (
        f"process {pid}, one of data.num_workers that read ahead, {how}{why}; where memory ran out, lower"
        " data.num_workers or data.batch_size; --resume goes on from the last checkpoint"
    )


def load(ordered: SampledSequences, batches: RankBatches, num_workers: int = 0) -> BatchLoader:
    """A loader of one rank's batches.

    Args:
        ordered: The dataset.
        batches: The batch sampler.
        num_workers: Worker processes.
    """
    if num_workers:
        # Workers are forked and do not tokenize; otherwise the tokenizers library warns about the fork.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return BatchLoader(
        ordered,
        batch_sampler=batches,  # type: ignore[arg-type]  # Slots, not lists
        collate_fn=_as_it_is,  # type: ignore[arg-type]  # gets a whole batch
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        # Each new iterator draws a number; from the global generator it would change dropout after an epoch's end, so
        # that a run resumed there would differ.
        generator=torch.Generator().manual_seed(0),
    )


def _cut_down(batch: Batch, context: int) -> Batch:
    """The same tokens in shorter sequences: (B, T) -> (B T / context, context)."""
    inputs, targets, segments, task = batch
    shorter = (-1, context)
    return Batch(
        inputs.reshape(shorter), targets.reshape(shorter), None if segments is None else segments.reshape(shorter), task
    )


def _as_it_is(batch: Batch) -> Batch:
    """The collate function of whole batches."""
    return batch
