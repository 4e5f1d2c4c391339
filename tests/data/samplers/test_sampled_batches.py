"""Curriculum, growing context and batches by tokens; every token once an epoch, however it is dealt out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from corpora import Made
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data import (
    Batch,
    ByLength,
    ByScore,
    Curriculum,
    MaskTokens,
    Packed,
    Prompts,
    ReplaceTokens,
    Sampler,
    Sequences,
    Sequential,
    Shuffled,
    TokenBudget,
    Windows,
)
from lit_gpt.data.samplers.loading import SampledSequences, load
from lit_gpt.data.samplers.samplers import NOTHING, RankBatches, Slots
from lit_gpt.data.sequences.datasets import IGNORED
from lit_gpt.errors import UserError

Found = dict[tuple[int, int], tuple[bytes, bytes]]


def dealt(
    rows: Sequences,
    sampler: Sampler,
    batch_size: int,
    world: int,
    epoch: int = 0,
    slot: int = 0,
    workers: int = 0,
    until: int | None = None,
    augment: Any = (),
) -> Found:
    """Inputs and targets of each slot; what the ranks are given together, each by a loader of its own."""
    found: Found = {}
    for rank in range(world):
        sampler.open(rows)
        ordered = SampledSequences(rows, sampler, 5, augment=augment)
        per_rank = 1 if sampler.whole_batches else batch_size // world
        batches = RankBatches(ordered.epoch_size, per_rank, world, rank, (epoch, slot))
        batches.set_epoch(epoch)
        for slots, batch in zip(list(batches), load(ordered, batches, workers), strict=True):
            if until is not None and slots.places[0] >= until:
                break
            rows_of = np.split(np.arange(len(batch.inputs)), len(slots.places))
            for place, own in zip(slots.places, rows_of, strict=True):
                assert (epoch, place) not in found
                found[epoch, place] = batch.inputs[own].numpy().tobytes(), batch.targets[own].numpy().tobytes()
    return found


def targets_of(found: Found) -> list[int]:
    targets = np.frombuffer(b"".join(targets for _, targets in found.values()), np.int64)
    return np.sort(targets[targets != IGNORED]).tolist()


def lengths(count: int) -> list[int]:
    return (np.random.default_rng(1).lognormal(2.5, 0.8, count).astype(int) + 2).tolist()


@pytest.mark.filterwarnings("ignore:.*worker processes")
@pytest.mark.parametrize(
    ("cut", "sampler", "workers"),
    [
        (Windows, Shuffled, 0),
        (Windows, Shuffled, 2),
        (Packed, Shuffled, 0),
        (Packed, Curriculum, 0),
        (Prompts, lambda: TokenBudget(4096), 0),
        pytest.param(Packed, Shuffled, 2, marks=pytest.mark.slow),
        pytest.param(Packed, Curriculum, 2, marks=pytest.mark.slow),
        pytest.param(Prompts, lambda: TokenBudget(4096), 2, marks=pytest.mark.slow),
        pytest.param(Windows, Shuffled, 4, marks=pytest.mark.slow),
        pytest.param(Packed, Shuffled, 4, marks=pytest.mark.slow),
    ],
)
def test_each_token_of_ten_thousand_documents_once_an_epoch(
    cut: Callable[[Any, int], Sequences], sampler: Callable[[], Sampler], workers: int
) -> None:
    corpus = Made.of_documents(lengths(10_000))
    rows = cut(corpus, 512)
    firsts = {0} if cut is Windows else {int(first) for first in corpus.offsets[:-1]}
    wanted = [token for token in range(len(corpus)) if token not in firsts]
    one = dealt(rows, sampler(), 16, 1, epoch=1)
    assert targets_of(one) == wanted
    for world in (1, 2, 4) if workers else (2, 4):
        whole = dealt(rows, sampler(), 16, world, epoch=1, workers=workers)
        assert {key: value for key, value in whole.items() if key in one} == one
        assert targets_of(whole) == wanted
    # Begun on one rank and gone on with from the middle on two, then on four.
    stop, again = len(one) // 48 * 16, len(one) // 32 * 16
    parts = dealt(rows, sampler(), 16, 1, epoch=1, workers=workers, until=stop)
    parts |= dealt(rows, sampler(), 16, 2, epoch=1, slot=stop, workers=workers, until=again)
    parts |= dealt(rows, sampler(), 16, 4, epoch=1, slot=again, workers=workers)
    assert targets_of(parts) == wanted


@pytest.mark.parametrize("change", [MaskTokens, ReplaceTokens])
@pytest.mark.parametrize("sampler", [Shuffled, lambda: TokenBudget(512)])
def test_what_is_changed_depends_on_the_slot_alone(change: Any, sampler: Callable[[], Sampler]) -> None:
    from lit_gpt.data import Byte

    rows = Prompts(Made.of_documents([size % 50 + 2 for size in lengths(5)], separator=True), 64)
    augment = change(0.5)
    augment.open(Byte(pad="<pad>"))
    one = dealt(rows, sampler(), 4, 1, augment=[augment])
    for world, slot in ((2, 0), (4, 0), (1, 4), (2, 4)):
        other = dealt(rows, sampler(), 4, world, slot=slot, augment=[augment])
        assert {key: value for key, value in other.items() if key in one}.items() <= one.items()
    assert one != dealt(rows, sampler(), 4, 1)


@given(st.integers(1, 300), st.integers(1, 12), st.integers(1, 3), st.integers(0, 4))
@settings(deadline=None, max_examples=50)
def test_a_curriculum_goes_from_short_to_long_and_takes_each_row_once(
    count: int, stages: int, epochs: int, epoch: int
) -> None:
    rows = Prompts(Made.of_documents(lengths(count)), 1000)
    sampler = Curriculum(epochs=epochs, stages=stages)
    sampler.open(rows)
    numbers = sampler.numbers(3, Slots(epoch, range(len(rows))), len(rows), len(rows))
    assert sorted(numbers.tolist()) == list(range(len(rows)))
    if epoch < epochs:
        edges = np.arange(stages + 1) * len(rows) // stages
        bands = [rows.lengths()[numbers[a:b]] for a, b in zip(edges[:-1], edges[1:], strict=True) if a < b]
        assert all(easy.max() <= hard.min() for easy, hard in zip(bands[:-1], bands[1:], strict=True))
    else:
        shuffled = Shuffled().numbers(3, Slots(epoch, range(len(rows))), len(rows), len(rows))
        assert numbers.tolist() == shuffled.tolist()


@pytest.mark.parametrize("suffix", [".txt", ".npy"])
def test_scores_of_documents_order_rows(tmp_path: Path, suffix: str) -> None:
    corpus = Made.of_documents([9] * 12)
    scores = np.random.default_rng(0).permutation(12) / 2
    file = tmp_path / f"scores{suffix}"
    if suffix == ".npy":
        np.save(file, scores)
    else:
        file.write_text("".join(f"{score}\n" for score in scores))
    sampler = Curriculum(by=lambda: ByScore(str(file)), stages=12)
    rows = Prompts(corpus, 64)
    sampler.open(rows)
    assert sampler.numbers(1, Slots(0, range(12)), 12, 12).tolist() == np.argsort(scores).tolist()
    sampler.open(Windows(corpus, 4))  # of several documents: 9 tokens are two windows and a quarter


@pytest.mark.parametrize("cut", [Windows, Packed])
def test_a_row_is_as_hard_as_its_documents_are_in_the_mean(cut: Any) -> None:
    corpus = Made.of_documents([7, 3, 20, 1, 2, 9])
    values = np.random.default_rng(0).random(6)
    rows = cut(corpus, 4)
    means = rows.averaged(values)
    for number in range(len(rows)):
        targets = rows[number].targets
        scored = targets[targets != IGNORED].tolist()
        assert means[number] == pytest.approx(np.mean([values[corpus.document_of(target)] for target in scored]))


@pytest.mark.parametrize(
    ("content", "words"),
    [("1\n2\n", "holds 2 scores, the training text has 3"), ("1\nx\n3\n", r":2 of ByScore is not a number: 'x'")],
)
def test_scores_that_do_not_fit_are_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "s").write_text(content)
    with pytest.raises(UserError, match=words):
        Curriculum(by=ByScore(str(tmp_path / "s"))).open(Prompts(Made.of_documents([3, 4, 5]), 8))
    with pytest.raises(UserError, match="cannot be read"):
        Curriculum(by=ByScore(str(tmp_path / "none"))).open(Prompts(Made.of_documents([3, 4, 5]), 8))


@pytest.mark.parametrize("cut", [Windows, Packed])
def test_the_context_grows_and_nothing_is_left_out(cut: Any) -> None:
    rows = cut(Made.of_documents(lengths(60)), 64)
    sampler = Curriculum(by=None, start_context=8, grow_epochs=2)
    sampler.open(rows)
    ordered, plain = SampledSequences(rows, sampler, 5), SampledSequences(rows, Shuffled(), 5)
    seen = []
    for epoch in range(3):
        for start in range(0, len(rows), 4):
            slots = Slots(epoch, range(start, start + 4))
            batch, whole = ordered[slots], plain[slots]
            seen.append(batch.inputs.shape[1])
            assert batch.inputs.numel() == whole.inputs.numel()
            for one, other in zip(batch[:3], whole[:3], strict=True):
                assert one is other is None or torch.equal(one.flatten(), other.flatten())  # type: ignore[union-attr]
    assert seen == sorted(seen) and set(seen) == {8, 16, 32, 64}
    assert seen[-1] == 64 and seen[len(seen) // 3] == 32


def test_contexts_that_do_not_double_up_are_refused() -> None:
    with pytest.raises(UserError, match="start_context 48 of Curriculum.* give 50 or 25"):
        Curriculum(start_context=48).open(Windows(Made.of_documents([900]), 100))
    with pytest.raises(UserError, match="start_context.*Prompts"):
        Curriculum(start_context=32).open(Prompts(Made.of_documents([90]), 128))


@given(st.lists(st.integers(2, 300), min_size=1, max_size=200), st.integers(300, 2000), st.integers(0, 3))
@settings(deadline=None, max_examples=50)
def test_batches_hold_a_budget_of_tokens_in_few_shapes(sizes: list[int], tokens: int, epoch: int) -> None:
    rows = Prompts(Made.of_documents(sizes), 300)
    sampler = TokenBudget(tokens)
    sampler.open(rows)
    shapes, taken = set(), []
    for slot in range(sampler.slots(len(rows))):
        numbers = sampler.numbers(1, Slots(epoch, range(slot, slot + 1)), sampler.slots(len(rows)), len(rows))
        batch = rows.batch(numbers)
        rows_of, width = batch.inputs.shape
        assert rows_of * width <= tokens < (rows_of + 1) * width
        shapes.add((rows_of, width))
        taken += [number for number in numbers.tolist() if number != NOTHING]
    assert sorted(taken) == list(range(len(rows)))
    assert len(shapes) <= 5


def test_a_budget_of_less_than_a_row_is_refused() -> None:
    with pytest.raises(UserError, match="tokens 100 of TokenBudget is less than the longest sequence, padded to 128"):
        TokenBudget(100).open(Prompts(Made.of_documents([90]), 300))


def test_rows_of_one_length_take_a_budget_too() -> None:
    rows = Windows(Made.of_documents([101]), 10)
    sampler = TokenBudget(35)
    sampler.open(rows)
    assert sampler.slots(len(rows)) == 4
    found = dealt(rows, sampler, 1, 2)
    assert targets_of(found) == list(range(1, 101)) and {len(inputs) for inputs, _ in found.values()} == {3 * 10 * 8}


def test_other_epochs_have_other_batches() -> None:
    rows = Prompts(Made.of_documents(lengths(200)), 300)
    sampler = TokenBudget(1024)
    sampler.open(rows)
    size = sampler.slots(len(rows))
    first, second = (
        [set(sampler.numbers(1, Slots(epoch, range(slot, slot + 1)), size, len(rows)).tolist()) for slot in range(size)]
        for epoch in (0, 1)
    )
    assert first != second and not all(batch in second for batch in first)


def test_defaults_are_made_when_asked() -> None:
    assert isinstance(Curriculum().by, ByLength)
    batch = SampledSequences(Windows(Made.of_documents([50]), 8), Sequential())[Slots(0, range(2))]
    assert batch.inputs.shape == (2, 8)
    assert Batch(torch.zeros(1), torch.zeros(1)).segments is None
