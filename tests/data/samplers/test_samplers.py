"""Orders and ranks: the same global sequence however it is dealt out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data import RandomCrops, Sampler, Sequential, Shuffled
from lit_gpt.data.samplers.samplers import NOTHING, RankBatches, Slots, permuted

ORDERS = st.sampled_from([Shuffled, RandomCrops, Sequential])


def sequence(sampler: Sampler, batches: list[list[Slots]], seed: int, size: int, count: int) -> list[int]:
    """Window numbers in the order of slots; `batches` has one list of batches per rank."""
    found: dict[tuple[int, int], int] = {}
    for one in batches:
        for slots in one:
            for place, number in zip(slots.places, sampler.numbers(seed, slots, size, count).tolist(), strict=True):
                assert (slots.epoch, place) not in found, "a slot was dealt out twice"
                found[slots.epoch, place] = number
    return [number for _, number in sorted(found.items())]


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
@settings(max_examples=60, deadline=None)
def test_permuted_is_a_permutation(count: int, key: int) -> None:
    assert sorted(permuted(np.arange(count, dtype=np.uint64), count, key).tolist()) == list(range(count))


def test_permuted_needs_no_list_of_all() -> None:
    places = np.arange(10**12, 10**12 + 5000, dtype=np.uint64)
    assert len(set(permuted(places, 2 * 10**12, 1).tolist())) == 5000


def test_every_window_is_about_equally_often_first() -> None:
    count, epochs = 7, 1400
    first = [int(permuted(np.zeros(1, np.uint64), count, key)[0]) for key in range(epochs)]
    tally = np.bincount(first, minlength=count)
    # Chi square with 6 degrees of freedom: above 22.5 once in a thousand.
    assert ((tally - epochs / count) ** 2 / (epochs / count)).sum() < 22.5


@given(ORDERS, st.integers(1, 400), st.integers(1, 5), st.integers(0, 3), st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_any_number_of_ranks_sees_the_same_sequence(
    sampler: type[Sampler], size: int, batch_size: int, epoch: int, seed: int
) -> None:
    sequences = []
    for world in (1, 2, 4):
        ranks = [RankBatches(size, batch_size * 4 // world, world, rank) for rank in range(world)]
        for rank in ranks:
            rank.set_epoch(epoch)
        dealt = [list(rank) for rank in ranks]
        assert {len(batches) for batches in dealt} == {len(ranks[0])}
        assert {len(slots.places) for batches in dealt for slots in batches} == {batch_size * 4 // world}
        sequences.append(sequence(sampler(), dealt, seed, size, size))
    assert sequences[0] == sequences[1] == sequences[2]
    if sampler is not RandomCrops:
        assert sorted(number for number in sequences[0] if number != NOTHING) == list(range(size))


@given(ORDERS, st.integers(2, 300), st.integers(1, 4), st.data())
@settings(max_examples=60, deadline=None)
def test_an_epoch_goes_on_from_any_slot_with_any_number_of_ranks(
    sampler: type[Sampler], size: int, batch_size: int, data: st.DataObject
) -> None:
    whole = sequence(sampler(), [list(RankBatches(size, 1))], 3, size, size)
    slot = data.draw(st.integers(0, size - 1))
    world = data.draw(st.sampled_from([1, 2, 4]))
    rest = [list(RankBatches(size, batch_size, world, rank, start=(0, slot))) for rank in range(world)]
    assert sequence(sampler(), rest, 3, size, size)[: size - slot] == whole[slot:]


@pytest.mark.parametrize("sampler", [Shuffled, RandomCrops])
def test_seeds_and_epochs_give_other_orders_and_repeat(sampler: type[Sampler]) -> None:
    def numbers(seed: int, epoch: int) -> list[int]:
        return sampler().numbers(seed, Slots(epoch, range(100)), 100, 1000 if sampler is RandomCrops else 100).tolist()

    assert numbers(1, 0) == numbers(1, 0)
    assert len({tuple(numbers(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_blocks_join_and_do_not_depend_on_what_was_asked_before() -> None:
    size = 10_000
    sampler = Shuffled()
    across = sampler.numbers(5, Slots(0, range(4000, 9000, 3)), size, size)
    sampler.numbers(5, Slots(2, range(12)), size, size)
    whole = Shuffled().numbers(5, Slots(0, range(size)), size, size)
    assert across.tolist() == whole[4000:9000:3].tolist()
    assert sampler.numbers(5, Slots(0, range(4000, 9000, 3)), size, size).tolist() == across.tolist()


def test_crops_begin_everywhere_alike() -> None:
    starts = RandomCrops().numbers(1, Slots(0, range(100_000)), 10, 50)
    tally = np.bincount(starts, minlength=50)
    assert ((tally - 2000) ** 2 / 2000).sum() < 86  # chi square with 49 degrees of freedom, once in a thousand


def test_overfitting_takes_the_same_epoch_again() -> None:
    batches = RankBatches(10, 2, frozen=True)
    batches.set_epoch(3)
    assert {slots.epoch for slots in batches} == {0}
