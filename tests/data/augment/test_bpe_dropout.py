"""BPE dropout against the tokenizer itself, and against the tokenizers library's own dropout."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_gpt.data import BPE, Batch, BPEDropout, Byte, Corpus, Packed, Prompts, StandardLibrary, Windows, write_corpus
from lit_gpt.data.augment.bpe_dropout import Merges
from lit_gpt.data.sequences.datasets import IGNORED
from lit_gpt.errors import UserError


@pytest.fixture(scope="module")
def texts() -> list[str]:
    code = list(StandardLibrary(limit=60_000))
    return [*code, "Grüße aus Köln, 🙂 und 你好，世界 " * 40, "x", ""]


@pytest.fixture(scope="module")
def tokenizer(texts: list[str]) -> BPE:
    made = BPE(vocab_size=900, special=["<mask>"])
    made.train(texts)
    return made


@pytest.fixture(scope="module")
def corpus(texts: list[str], tokenizer: BPE, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_corpus(tmp_path_factory.mktemp("bpe") / "c", texts, tokenizer)


def merges(tokenizer: BPE) -> Merges:
    found = Merges.read(tokenizer.hub_files()["tokenizer.json"])
    assert found is not None
    return found


def opened(tokenizer: BPE, rate: float) -> BPEDropout:
    augment = BPEDropout(rate)
    augment.open(tokenizer)
    return augment


def test_without_dropping_words_get_the_tokenizers_own_ids(tokenizer: BPE, texts: list[str]) -> None:
    own = merges(tokenizer)
    for text in texts:
        spelled = []
        for word, _ in own.into_words.pre_tokenize_str(text):
            ids = [tokenizer._inner.token_to_id(character) for character in word]
            spelled += own.usual(ids)[-1]
        assert spelled == tokenizer.encode(text)


@pytest.mark.parametrize("cut", [Windows, Packed, Prompts])
def test_nothing_changes_at_rate_zero(cut: Any, corpus: Corpus, tokenizer: BPE) -> None:
    rows = cut(corpus, 64)
    before, after = (rows.batch(np.arange(len(rows))) for _ in range(2))
    after = opened(tokenizer, 0.0).apply(after, np.arange(len(rows), dtype=np.uint64))
    assert all(one is other is None or torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("cut", [Windows, Packed])
def test_sequences_decode_to_the_same_text_as_far_as_they_reach(
    cut: Any, rate: float, corpus: Corpus, tokenizer: BPE
) -> None:
    rows = cut(corpus, 64)
    before, after = (rows.batch(np.arange(len(rows))) for _ in range(2))
    augment = opened(tokenizer, rate)
    augment.apply(after, np.arange(len(rows), dtype=np.uint64))
    assert (before.inputs != after.inputs).any()
    for row in range(len(rows)):
        ends = []
        for batch in (before, after):
            scored = batch.targets[row] != IGNORED
            assert scored.any()
            segments = torch.zeros(64) if batch.segments is None else batch.segments[row]
            texts = []
            for segment in segments.unique():
                inside = segments == segment
                if scored[inside].any():
                    inputs, targets = batch.inputs[row][inside], batch.targets[row][inside & scored]
                    # What should be said is what is shown next.
                    assert torch.equal(inputs[1 : len(targets)], targets[:-1])
                    ids = [int(inputs[0]), *targets.tolist()]
                    texts.append(b"|" + b"".join(tokenizer.bytes_of(id) or b"<>" for id in ids))
            ends.append(b"".join(texts))
        assert ends[0].startswith(ends[1])
    assert augment.dropped > 0


def test_records_keep_what_is_only_read(corpus: Corpus, tokenizer: BPE) -> None:
    rows = Prompts(corpus, 4096, too_long="cut")
    number = int(np.argmax(rows.lengths()))
    before, after = rows.batch(np.array([number])), rows.batch(np.array([number]))
    for batch in (before, after):
        batch.targets[:, :100] = IGNORED
        batch.targets[:, 1000:] = IGNORED
    opened(tokenizer, 0.3).apply(after, np.array([5], np.uint64))

    def says(batch: Batch) -> tuple[str, str]:
        learned = batch.targets[0] != IGNORED
        first = int(learned.nonzero()[0])
        return (
            tokenizer.decode(batch.inputs[0, : first + 1].tolist()),
            tokenizer.decode(batch.targets[0][learned].tolist()),
        )

    assert says(before) == says(after) and not torch.equal(before.inputs, after.inputs)


def test_a_row_depends_on_its_key_alone(corpus: Corpus, tokenizer: BPE) -> None:
    rows = Windows(corpus, 64)
    augment = opened(tokenizer, 0.2)
    keys = np.arange(8, dtype=np.uint64) + np.uint64(3)
    whole = augment.apply(rows.batch(np.arange(8)), keys)
    part = opened(tokenizer, 0.2).apply(rows.batch(np.arange(2, 5)), keys[2:5])
    assert torch.equal(whole.inputs[2:5], part.inputs) and torch.equal(whole.targets[2:5], part.targets)
    other = augment.apply(rows.batch(np.arange(8)), keys + np.uint64(1))
    assert not torch.equal(whole.inputs, other.inputs)


def test_pieces_are_as_frequent_as_with_a_draw_for_each_merge(tokenizer: BPE) -> None:
    # As the paper has it: each step draws for every merge that could be made, and makes the best of those that stay.
    # (The tokenizers library draws again for what it left out whenever it meets a merge that is no longer there.)
    own, augment = merges(tokenizer), opened(tokenizer, 0.3)
    text, count = " return", 6000
    usual = np.array([0, *tokenizer.encode(text)])
    assert len(usual) == 2, "a word of one token, of several merges"
    draws, other_draws = random.Random(1), random.Random(2)

    def step_by_step() -> tuple[int, ...]:
        ids = [own.byte[value] for value in text.encode()]
        while True:
            left = [
                (own.rank[pair], at)
                for at, pair in enumerate(zip(ids, ids[1:], strict=False))
                if pair in own.rank and other_draws.random() >= 0.3
            ]
            if not left:
                return tuple(ids)
            (_, made), at = min(left)
            ids = [*ids[:at], made, *ids[at + 2 :]]

    theirs = Counter(step_by_step() for _ in range(count))
    mine = Counter(tuple(augment._spelled(usual, np.ones(2, bool), draws)[0][1:]) for _ in range(count))
    assert len(mine) > 5
    for spelled in {*theirs, *mine}:
        assert abs(theirs[spelled] - mine[spelled]) < 4.5 * (theirs[spelled] + mine[spelled]) ** 0.5 + 1, spelled


def test_other_tokenizers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="BPEDropout needs a tokenizer of byte-level BPE, not Byte"):
        BPEDropout().open(Byte())
    with pytest.raises(UserError, match="rate 1.0 of BPEDropout"):
        BPEDropout(1.0)


def test_what_falls_off_is_said(corpus: Corpus, tokenizer: BPE) -> None:
    rows = Windows(corpus, 64)
    sample = rows.batch(np.arange(8))
    copy = sample.inputs.clone()
    (note,) = opened(tokenizer, 0.2).notes(sample)
    assert torch.equal(sample.inputs, copy)
    assert note.startswith("BPEDropout at rate 0.2 drops about ") and "0.0%" not in note
