"""Counts of a text against those of the whole, told by hand."""

from collections.abc import Iterator

import numpy as np
import pytest
from all_tokenizers import TEXTS, trained

from lit_gpt.data import BPE, Byte, Source, Tokenizer, WordPiece
from lit_gpt.data.chunks import Chunk
from lit_gpt.data.tokenizers.fertility import count
from lit_gpt.errors import UserError


class Stretches(Source):
    """Texts that come a few characters at a time."""

    def __init__(self, texts: list[str], size: int) -> None:
        self.texts, self.size = texts, size

    def chunks(self) -> Iterator[Chunk]:
        for text in self.texts:
            ends = range(self.size, len(text) + self.size, self.size)
            for end in ends:
                yield Chunk(text[end - self.size : end], end == self.size, end >= len(text))


@pytest.mark.parametrize("tokenizer", [trained(BPE(vocab_size=300)), trained(WordPiece(vocab_size=200)), Byte()])
def test_a_text_in_stretches_counts_as_the_whole(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = count(tokenizer, Stretches(TEXTS, 10_000))
    monkeypatch.setattr("lit_gpt.data.tokenizers.fertility._PIECE", 50)
    monkeypatch.setattr("lit_gpt.data.tokenizers.fertility._TAIL", 40)
    steps: list[int] = []
    parts = count(tokenizer, Stretches(TEXTS, 7), steps.append)
    assert len(steps) > 3 * len(TEXTS) and sum(steps) == whole.characters
    assert (parts.bytes, parts.characters, parts.words) == (whole.bytes, whole.characters, whole.words)
    assert np.array_equal(parts.frequencies, whole.frequencies)
    ids = [id for text in TEXTS for id in tokenizer.encode(text)]
    assert whole.frequencies.tolist() == np.bincount(ids, minlength=tokenizer.vocab_size).tolist()
    assert whole.bytes == sum(len(text.encode()) for text in TEXTS) and whole.tokens == len(ids)


@pytest.mark.parametrize(
    ("text", "words"), [("it's 3.5 naïve", 5), ("道可道，非常道。", 6), ("カタカナ", 4), ("한국어 말", 2), (" _-\n", 0)]
)
def test_words(text: str, words: int) -> None:
    assert count(Byte(), Stretches([text], 100)).words == words


def test_a_record_is_no_text() -> None:
    class Records(Source):
        def chunks(self) -> Iterator[Chunk]:
            yield Chunk({"text": "a"}, where="a.jsonl:1")

    with pytest.raises(UserError, match="a.jsonl:1 is a record, not a text"):
        count(Byte(), Records())
