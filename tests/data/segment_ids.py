"""Spans to ids in the plainest way, so that formats are tested without the preparation's own encoder."""

from collections.abc import Iterable

from lit_gpt.data.chunks import Segment
from lit_gpt.data.formats.format import Format
from lit_gpt.data.tokenizers.bpe import BPE
from lit_gpt.data.tokenizers.byte_and_char import Byte
from lit_gpt.data.tokenizers.tokenizer import Tokenizer

CORPUS = ["the user asks and the assistant answers: im_start user im_end <|im_end|> assistant\n"] * 30


def tokenizers(special: list[str]) -> list[Tokenizer]:
    """One of bytes and one that learned from text, both with these special tokens."""
    byte, learned = Byte(special=special), BPE(vocab_size=320 + len(special), special=special)
    byte.train(CORPUS)
    learned.train(CORPUS)
    return [byte, learned]


def ids_of(segments: Iterable[Segment], tokenizer: Tokenizer) -> list[int]:
    """Each segment by itself, one after the other."""
    return [
        id
        for segment in segments
        for id in ([tokenizer.special_id(segment.text)] if segment.special else tokenizer.encode(segment.text))
    ]


def scored_text(segments: Iterable[Segment]) -> str:
    """What is learned, special tokens by their names."""
    return "".join(segment.text for segment in segments if segment.trained)


def text(segments: Iterable[Segment]) -> str:
    """All of it, special tokens by their names."""
    return "".join(segment.text for segment in segments)


def check_encodes(format: Format, segments: list[Segment]) -> None:
    """With each tokenizer the ids decode to the text, and as many are special as there are special segments."""
    assert {segment.text for segment in segments if segment.special} <= set(format.special_tokens)
    for tokenizer in tokenizers(format.special_tokens):
        ids = ids_of(segments, tokenizer)
        named = {tokenizer.special_id(name) for name in format.special_tokens}
        assert [tokenizer.token(id) for id in ids if id in named] == [
            segment.text for segment in segments if segment.special
        ]
        assert tokenizer.decode(ids) == text(segment for segment in segments if not segment.special)
