"""Splits: nothing lost, nothing twice, fractions met."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_gpt.data.splits import Fractions, split_documents
from lit_gpt.errors import UserError

DOCUMENTS = st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=40)
SHARES = st.sampled_from([(0.1, 0.0), (0.1, 0.1), (0.25, 0.5), (0.0, 0.3), (0.0, 0.0)])


@given(DOCUMENTS, SHARES, st.sampled_from(["position", "document", None]))
def test_every_character_is_in_one_split(documents: list[str], shares: tuple[float, float], by) -> None:  # type: ignore[no-untyped-def]
    size = sum(map(len, documents))
    pieces = list(split_documents(documents, Fractions(*shares), by, size, len(documents)))
    assert "".join(piece.text for piece in pieces) == "".join(documents)
    assert sum(piece.begins for piece in pieces) == sum(piece.ends for piece in pieces) == len(documents)
    if by == "document":
        assert [piece.text for piece in pieces] == documents


@given(DOCUMENTS, SHARES)
def test_positions_meet_the_fractions_to_the_character(documents: list[str], shares: tuple[float, float]) -> None:
    size = sum(map(len, documents))
    taken: Counter[str] = Counter()
    for piece in split_documents(documents, Fractions(*shares), "position", size, len(documents)):
        taken[piece.split] += len(piece.text)
    assert abs(taken["val"] - shares[0] * size) <= 1 and abs(taken["test"] - shares[1] * size) <= 1
    assert [*taken] == [name for name in ("train", "val", "test") if taken[name]]


@given(DOCUMENTS, SHARES)
def test_whole_documents_meet_the_fractions_to_a_document_or_two(
    documents: list[str], shares: tuple[float, float]
) -> None:
    taken: Counter[str] = Counter()
    for piece in split_documents(documents, Fractions(*shares), "document", 0, len(documents)):
        taken[piece.split] += len(piece.text)
    longest = max(map(len, documents))
    for name, share in zip(("val", "test"), shares, strict=True):
        assert abs(taken[name] - share * sum(map(len, documents))) <= 2 * longest


def test_short_documents_are_no_more_for_validation_than_long_ones() -> None:
    chance = random.Random(1)
    lengths = [chance.choice([10, 1000]) for _ in range(4000)]
    pieces = split_documents(["x" * length for length in lengths], Fractions(0.1, 0.0), "document", 0, len(lengths))
    held = [len(piece.text) for piece in pieces if piece.split == "val"]
    assert abs(sum(held) / sum(lengths) - 0.1) < 0.002
    assert abs(held.count(1000) / len(held) - 0.5) < 0.1


def test_one_text_is_split_as_its_benchmark_is() -> None:
    text = "x" * 1_115_394  # the size of tinyshakespeare
    pieces = list(split_documents([text], Fractions(0.1, 0.0), None, len(text), 1))
    assert [(piece.split, len(piece.text)) for piece in pieces] == [("train", 1_003_854), ("val", 111_540)]
    assert [(piece.begins, piece.ends) for piece in pieces] == [(True, False), (False, True)]


@pytest.mark.parametrize("shares", [(-0.1, 0.0), (1.0, 0.0), (0.0, 1.5), (0.5, 0.5), (float("nan"), 0.0)])
def test_fractions_out_of_range_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="_fraction"):
        Fractions(*shares).check()
