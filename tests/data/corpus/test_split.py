"""Splits: nothing lost, nothing twice, fractions met."""

import random
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_gpt.data import Byte
from lit_gpt.data.chunks import Chunk
from lit_gpt.data.corpus.encode import Cutter
from lit_gpt.data.corpus.encoder import Encoder, TokenArrays
from lit_gpt.data.corpus.recipe import Fractions, SplitBy
from lit_gpt.data.corpus.split import split_chunks
from lit_gpt.data.formats.format import PlainText
from lit_gpt.errors import UserError

DOCUMENTS = st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=40)
WAYS = ["position", "document", "hash", None]
SHARES = st.sampled_from([(0.1, 0.0), (0.1, 0.1), (0.25, 0.5), (0.0, 0.3), (0.0, 0.0)])


def text(part: Chunk) -> str:
    assert isinstance(part.content, str)
    return part.content


def split(
    documents: list[str], shares: tuple[float, float], by: SplitBy | None, most: int = 10**9, divisible: bool = True
) -> list[Chunk]:
    """The parts of documents that come in chunks of at most so many characters."""
    chunks = []
    for document in documents:
        cuts = [document[at : at + most] for at in range(0, len(document), most)]
        chunks += [Chunk(cut, at == 0, at == len(cuts) - 1) for at, cut in enumerate(cuts)]
    size = sum(map(len, documents))
    return list(split_chunks(chunks, Fractions(*shares), by, size, len(documents), divisible))


@given(DOCUMENTS, SHARES, st.sampled_from(WAYS), st.integers(1, 40), st.booleans())
def test_every_character_is_in_one_split(
    documents: list[str], shares: tuple[float, float], by: SplitBy | None, most: int, divisible: bool
) -> None:
    parts = split(documents, shares, by, most, divisible)
    assert "".join(map(text, parts)) == "".join(documents)
    assert sum(part.begins for part in parts) == sum(part.ends for part in parts) == len(documents)
    assert sum(part.opens for part in parts) == sum(part.closes for part in parts) >= len(documents)
    inside: str | None = None
    for part in parts:  # what opens is closed before another split is written
        assert part.opens == (inside is None) and inside in (None, part.split)
        inside = None if part.closes else part.split
    if by in ("document", "hash") or not divisible:
        assert sum(part.opens for part in parts) == len(documents)


@given(DOCUMENTS, SHARES, st.sampled_from(WAYS), st.integers(1, 40), st.sampled_from(["", " "]))
def test_a_last_stretch_without_text_still_ends_its_document(
    documents: list[str], shares: tuple[float, float], by: SplitBy | None, most: int, place: str
) -> None:
    """As the stretches of a long file come where a document ends with a block of it."""
    tokenizer = Byte(bos="<bos>", eos="<eos>")
    tokenizer.split_points = re.compile(place)
    found = []
    for empty in (False, True):
        chunks = []
        for document in documents:
            cuts = [document[at : at + most] for at in range(0, len(document), most)] + [""] * empty
            chunks += [Chunk(cut, at == 0, at == len(cuts) - 1) for at, cut in enumerate(cuts)]
        parts = split_chunks(chunks, Fractions(*shares), by, sum(map(len, documents)), len(documents))
        encoded = Encoder(tokenizer, PlainText()).encode(list(Cutter(tokenizer).cut(parts)))
        found.append({split: (one.ids.tolist(), _by_opening(one)) for split, one in encoded.items()})
    assert found[0] == found[1]


def _by_opening(one: TokenArrays) -> list[int]:
    """Tokens of each document."""
    return [sum(some) for some in np.split(one.lengths, np.flatnonzero(one.opens))[1:]]


@given(DOCUMENTS, SHARES, st.sampled_from(["document", "hash"]), st.integers(1, 40))
def test_how_a_document_is_read_does_not_move_it(
    documents: list[str], shares: tuple[float, float], by: SplitBy, most: int
) -> None:
    whole = [part.split for part in split(documents, shares, by)]
    assert [part.split for part in split(documents, shares, by, most) if part.opens] == whole
    if by == "hash":  # whatever stands beside it
        alone = [split([document], shares, by)[0].split for document in documents]
        assert alone == whole


@pytest.mark.parametrize("most", [100_000, 1 << 20, 1_500_000])
def test_a_long_document_has_the_split_of_its_beginning(most: int) -> None:
    documents = [f"{number} " * 1_200_000 for number in range(8)]
    parts = split(documents, (0.4, 0.0), "hash", most)
    assert [part.split for part in parts if part.opens] == [part.split for part in split(documents, (0.4, 0.0), "hash")]
    assert max(len(text(part)) for part in parts) < (1 << 20) + most
    assert "".join(map(text, parts)) == "".join(documents)


def test_hashes_meet_the_fractions() -> None:
    parts = split([f"document {number}" for number in range(5000)], (0.1, 0.2), "hash")
    counts = Counter(part.split for part in parts)
    assert abs(counts["val"] / 5000 - 0.1) < 0.02 and abs(counts["test"] / 5000 - 0.2) < 0.02


@given(DOCUMENTS, SHARES)
def test_positions_meet_the_fractions_to_the_character(documents: list[str], shares: tuple[float, float]) -> None:
    size = sum(map(len, documents))
    taken: Counter[str] = Counter()
    for part in split(documents, shares, "position"):
        taken[part.split] += len(text(part))
    assert abs(taken["val"] - shares[0] * size) <= 1 and abs(taken["test"] - shares[1] * size) <= 1
    assert [*taken] == [name for name in ("train", "val", "test") if taken[name]]


@given(DOCUMENTS, SHARES)
def test_whole_documents_meet_the_fractions_to_a_document_or_two(
    documents: list[str], shares: tuple[float, float]
) -> None:
    taken: Counter[str] = Counter()
    for part in split(documents, shares, "document"):
        taken[part.split] += len(text(part))
    longest = max(map(len, documents))
    for name, share in zip(("val", "test"), shares, strict=True):
        assert abs(taken[name] - share * sum(map(len, documents))) <= 2 * longest


def test_short_documents_are_no_more_for_validation_than_long_ones() -> None:
    chance = random.Random(1)
    lengths = [chance.choice([10, 1000]) for _ in range(4000)]
    parts = split(["x" * length for length in lengths], (0.1, 0.0), "document")
    held = [len(text(part)) for part in parts if part.split == "val"]
    assert abs(sum(held) / sum(lengths) - 0.1) < 0.002
    assert abs(held.count(1000) / len(held) - 0.5) < 0.1


@pytest.mark.parametrize("shares", [(0.1, 0.1), (0.1, 0.0), (0.0, 0.1), (0.0, 0.0)])
@pytest.mark.parametrize("by", ["position", "document", "hash"])
def test_records_without_characters_go_to_a_split_that_there_is(shares: tuple[float, float], by: SplitBy) -> None:
    empty = {"question": "", "answer": ""}
    records = [empty, *({"question": "what", "answer": "that"} for _ in range(20)), empty]
    chunks = [Chunk(record) for record in records]
    parts = list(split_chunks(chunks, Fractions(*shares), by, 20 * 9, len(records), divisible=False))
    there = {"train", *(name for name, share in zip(("val", "test"), shares, strict=True) if share)}
    assert len(parts) == len(records) and {part.split for part in parts} <= there


def test_one_text_is_split_as_its_benchmark_is() -> None:
    parts = split(["x" * 1_115_394], (0.1, 0.0), None)  # the size of tinyshakespeare
    assert [(part.split, len(text(part))) for part in parts] == [("train", 1_003_854), ("val", 111_540)]
    assert [(part.begins, part.ends) for part in parts] == [(True, False), (False, True)]


@pytest.mark.parametrize("shares", [(-0.1, 0.0), (1.0, 0.0), (0.0, 1.5), (0.5, 0.5), (float("nan"), 0.0)])
def test_fractions_out_of_range_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="_fraction"):
        Fractions(*shares).check()
