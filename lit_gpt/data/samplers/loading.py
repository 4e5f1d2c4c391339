"""Sequences, an order and what is changed at random, as a loader of whole batches.

Knows: rows, orders, augmentations, ranks. Does not know: where rows come from, how far training has come.
"""

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

_CHANGES = 0xA06  # keeps keys of augmentations apart from those of orders


class SampledSequences(Dataset[Batch]):
    """Sequences in the order of a sampler: indexed by the samples of a batch, it returns the batch.

    Workers hold copies of it; nothing that it gives depends on what was asked before.

    Args:
        sequences: What is drawn from.
        sampler: Which row stands at which slot.
        seed: Of the sampler.
        epoch_size: Slots in an epoch; by default one for each row.
        augment: What is changed in each batch, in turn.
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
        """A whole batch in one go: joining rows one by one costs more than reading them."""
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
        """A key for each row, by its slot alone. (B,) uint64."""
        if self.sampler.whole_batches:
            key = mixed(self.seed, slots.epoch, _CHANGES, augment, slots.places[0])
            return hashed(np.arange(rows, dtype=np.uint64), key)
        places = np.array(slots.places, dtype=np.uint64)
        return hashed(places, mixed(self.seed, slots.epoch, _CHANGES, augment))


class BatchLoader(DataLoader[Batch]):
    """A loader of whole batches; TokenData keeps its position, so the state that Lightning asks for is empty."""

    def __iter__(self) -> Any:
        """The batches.

        Raises:
            UserError: a process that reads ahead was killed.
        """
        inner = super().__iter__()
        return _Watched(inner) if self.num_workers else inner

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position is in TokenData's state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take."""


class _Watched:
    """The batches of processes that read ahead; tells in one line of one that was killed, as by a lack of memory."""

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
        except UserError as fault:  # of a process, which puts its traceback ahead
            raise UserError(str(fault).rpartition("UserError: ")[2].strip()) from None
        except (RuntimeError, OSError, EOFError):
            # A process that is gone shows itself as a connection that broke off, too.
            for worker in self._inner._workers:
                worker.join(0.2)
            ended = [worker for worker in self._inner._workers if worker.exitcode]
            if not ended:
                raise
            with suppress(RuntimeError):  # or it comes once more, in the middle of whatever is done then
                _error_if_any_worker_fails()
            raise UserError(lost_worker(ended[0].pid, ended[0].exitcode)) from None


def lost_worker(pid: Any, code: int | None = None) -> str:
    """What is said of a process that read ahead and ended."""
    how = "was killed" if code is None or code < 0 else f"ended with code {code}"
    why = f" (signal {signal.Signals(-code).name})" if code is not None and code < 0 else ""
    return (
        f"process {pid}, one of data.num_workers that read ahead, {how}{why}; where memory ran out, lower"
        " data.num_workers or data.batch_size; --resume goes on from the last checkpoint"
    )


def load(ordered: SampledSequences, batches: RankBatches, num_workers: int = 0) -> BatchLoader:
    """A loader of one rank's batches.

    Args:
        ordered: The rows in their order.
        batches: Which slots are a batch.
        num_workers: Processes that read ahead.
    """
    if num_workers:
        # Workers are forked and do not tokenize; unsaid, the tokenizers library warns about the fork.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return BatchLoader(
        ordered,
        batch_sampler=batches,  # type: ignore[arg-type]  # Slots, not lists
        collate_fn=_as_it_is,  # type: ignore[arg-type]  # of the whole batch
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        # Each new iterator draws a number; from the global generator it would shift dropout at an epoch's end, and a
        # run resumed there would differ.
        generator=torch.Generator().manual_seed(0),
    )


def _cut_down(batch: Batch, context: int) -> Batch:
    """The same tokens in more and shorter rows: (B, T) -> (B T / context, context)."""
    inputs, targets, segments, task = batch
    shorter = (-1, context)
    return Batch(
        inputs.reshape(shorter), targets.reshape(shorter), None if segments is None else segments.reshape(shorter), task
    )


def _as_it_is(batch: Batch) -> Batch:
    """The collate function of whole batches: there is nothing left to join."""
    return batch
