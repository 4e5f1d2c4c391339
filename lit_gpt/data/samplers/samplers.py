"""Samplers: the order of sequences as a pure function of (seed, epoch, slot); the batches of a rank.

A slot is a sample index: the place of a sample in an epoch, counted over all ranks. Slot s belongs to rank s mod world,
and batch b of a rank has the slots from b x batch_size x world + rank, step world. So the global order is the same for
any number of ranks and workers. Every batch of every rank has its full size: slots past the end of an epoch are empty
(all targets -100), or further crops if the sampler is endless.
"""

from collections.abc import Container, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch.utils.data

from lit_gpt.errors import not_implemented

if TYPE_CHECKING:
    from lit_gpt.data.sequences.datasets import Sequences

NOTHING = -1  # the sequence number of an empty slot
_BLOCK = 4096  # slots computed at once, to amortize the cost of numpy calls
_ROUNDS = 8


class Slots(NamedTuple):
    """One rank's batch: its slots in an epoch, `range(first, past the last, world)`.

    first: the first slot of any rank in this step; by default that of `places`. skipped: all targets are ignored.
    """

    epoch: int
    places: range
    first: int | None = None
    skipped: bool = False


class Sampler:
    """The base of all samplers. A subclass implements `block`."""

    #: Whether windows begin at every token, rather than every context.
    every_start = False
    #: Maximum tokens of a batch, if the sampler makes whole batches.
    tokens: int | None = None
    #: Whether slots past the end of an epoch hold samples too.
    endless = False
    #: Whether a slot holds a whole batch, of a size that the sampler chooses, rather than one sequence.
    whole_batches = False

    def __init__(self) -> None:
        self._key: tuple[int, ...] = ()
        self._blocks: dict[int, np.ndarray] = {}

    def __call__(self) -> "Sampler":
        """Returns self, so that an instance works as a factory."""
        return self

    def open(self, sequences: "Sequences") -> None:
        """Prepares for these sequences, if the sampler depends on them."""
        self._key = ()

    def slots(self, rows: int) -> int:
        """Number of slots in an epoch."""
        return rows

    def context_at(self, epoch: int, slot: int) -> int | None:
        """Length to which sequences are split at a slot; None for the whole context."""
        return None

    def block(self, seed: int, epoch: int, slots: np.ndarray, count: int) -> np.ndarray:
        """Sequence numbers, below count, for consecutive slots (uint64) of one epoch."""
        raise not_implemented(self, "block")

    def numbers(self, seed: int, slots: Slots, epoch_size: int, count: int) -> np.ndarray:
        """Sequence numbers of one batch, int64; NOTHING for empty slots.

        Args:
            seed: Seed of the sampler.
            slots: The batch.
            epoch_size: Slots in an epoch.
            count: Number of sequences.
        """
        places = slots.places
        key = (seed, slots.epoch, epoch_size, count)
        if key != self._key:
            self._key, self._blocks = key, {}
        first, last = places[0] // _BLOCK, places[-1] // _BLOCK
        blocks = [self._block_of(number) for number in range(first, last + 1)]
        whole = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        offset = first * _BLOCK
        return whole[places.start - offset : places[-1] + 1 - offset : places.step]

    def _block_of(self, number: int) -> np.ndarray:
        if number not in self._blocks:
            seed, epoch, epoch_size, count = self._key
            slots = np.arange(number * _BLOCK, (number + 1) * _BLOCK, dtype=np.uint64)
            inside = _BLOCK if self.endless else min(max(epoch_size - number * _BLOCK, 0), _BLOCK)
            numbers = np.full(_BLOCK, NOTHING, dtype=np.int64)
            numbers[:inside] = self.block(seed, epoch, slots[:inside], count)
            # A batch reaches over its neighbors only; blocks further back are not asked for again.
            self._blocks = {known: kept for known, kept in self._blocks.items() if known >= number - 8}
            self._blocks[number] = numbers
        return self._blocks[number]


class Sequential(Sampler):
    """Sequences in the order of the text, the same in every epoch."""

    def block(self, seed: int, epoch: int, slots: np.ndarray, count: int) -> np.ndarray:
        return slots.astype(np.int64)


class Shuffled(Sampler):
    """Each sequence once an epoch, in a new random order each epoch.

    A keyed permutation (a Feistel network with cycle walking; Black and Rogaway 2002, "Ciphers with arbitrary finite
    domains"): needs no list of all sequences, so memory does not grow with their number.
    """

    def block(self, seed: int, epoch: int, slots: np.ndarray, count: int) -> np.ndarray:
        return permuted(slots, count, mixed(seed, epoch)).astype(np.int64)


class RandomCrops(Sampler):
    """Windows at random starts, drawn with replacement, as in nanoGPT; an epoch has as many as cover the text."""

    every_start = True
    endless = True

    def block(self, seed: int, epoch: int, slots: np.ndarray, count: int) -> np.ndarray:
        # The remainder of 64 random bits: for a text of 10^12 tokens the bias is below 10^-7.
        return (hashed(slots, mixed(seed, epoch, 1)) % np.uint64(count)).astype(np.int64)


class RankBatches(torch.utils.data.Sampler[Slots]):
    """The batches of one rank, epoch by epoch.

    The length is that of a whole epoch, also if the first one begins in the middle.

    Args:
        epoch_size: Slots in an epoch.
        batch_size: Slots in a batch of one rank.
        world: Number of ranks.
        rank: Index of this rank.
        start: Epoch and slot at which to begin.
        frozen: Repeat the same epoch (to overfit some batches).
        skip: Numbers of batches to skip; the first batch of the first epoch is number 1.
        per_epoch: Batches in an epoch for these numbers, if the trainer takes fewer than there are.
    """

    def __init__(
        self,
        epoch_size: int,
        batch_size: int,
        world: int = 1,
        rank: int = 0,
        start: tuple[int, int] = (0, 0),
        frozen: bool = False,
        skip: Container[int] = (),
        per_epoch: int | None = None,
    ) -> None:
        self.epoch_size, self.batch_size, self.world, self.rank = epoch_size, batch_size, world, rank
        self.start, self.frozen = start, frozen
        self.skip, self.per_epoch = skip, len(self) if per_epoch is None else per_epoch
        self._epoch: int | None = None

    @property
    def sampler(self) -> "RankBatches":
        """Returns self: Lightning calls its `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return -(-self.epoch_size // (self.batch_size * self.world))

    def __iter__(self) -> Iterator[Slots]:
        started, slot = self.start
        epoch = started if self._epoch is None else self._epoch
        first = slot if epoch == started else 0
        size = self.batch_size * self.world
        for at in range(first, self.epoch_size, size):
            places = range(at + self.rank, at + size, self.world)
            skipped = epoch * self.per_epoch + at // size + 1 in self.skip
            yield Slots(0 if self.frozen else epoch, places, at, skipped)


def permuted(places: np.ndarray, count: int, key: int) -> np.ndarray:
    """Maps indices (uint64, below count) by a keyed permutation of range(count)."""
    # rows x columns is at least count and little more, so that cycle walking is short.
    rows = max(int(np.ceil(np.sqrt(count))), 1)
    columns = -(-count // rows)
    keys = [mixed(key, number) for number in range(_ROUNDS)]
    result = places.astype(np.uint64)
    walking = np.arange(len(result))
    while len(walking):
        row, column = np.divmod(result[walking], np.uint64(columns))
        for number, round_key in enumerate(keys):
            if number % 2 == 0:
                row = (row + hashed(column, round_key) % np.uint64(rows)) % np.uint64(rows)
            else:
                column = (column + hashed(row, round_key) % np.uint64(columns)) % np.uint64(columns)
        result[walking] = row * np.uint64(columns) + column
        walking = walking[result[walking] >= count]
    return result


@lru_cache(4096)
def mixed(*numbers: int) -> int:
    """A 64-bit key from several numbers."""
    key = 0
    for number in numbers:
        key = int(hashed(np.array([number & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64), key)[0])
    return key


def hashed(values: np.ndarray, key: int) -> np.ndarray:
    """64 random-looking bits per value: the finalizer of splitmix64 (Steele, Lea, Flood 2014), twice for the key."""
    for offset in (key, 0x9E3779B97F4A7C15):
        values = values + np.uint64(offset)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        values = values ^ (values >> np.uint64(31))
    return values
