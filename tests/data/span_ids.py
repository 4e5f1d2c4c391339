"""Spans to ids in the plainest way, so that formats are tested without the preparation's own encoder."""

from collections.abc import Iterable

from lit_gpt.data.chunks import Span
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


def ids_of(spans: Iterable[Span], tokenizer: Tokenizer) -> list[int]:
    """Each span by itself, one after the other."""
    return [
        id
        for span in spans
        for id in ([tokenizer.special_id(span.text)] if span.special else tokenizer.encode(span.text))
    ]


def scored_text(spans: Iterable[Span]) -> str:
    """What is learned, special tokens by their names."""
    return "".join(span.text for span in spans if span.scored)


def text(spans: Iterable[Span]) -> str:
    """All of it, special tokens by their names."""
    return "".join(span.text for span in spans)


def check_encodes(format: Format, spans: list[Span]) -> None:
    """With each tokenizer the ids decode to the text, and as many are special as there are special spans."""
    assert {span.text for span in spans if span.special} <= set(format.special_tokens)
    for tokenizer in tokenizers(format.special_tokens):
        ids = ids_of(spans, tokenizer)
        named = {tokenizer.special_id(name) for name in format.special_tokens}
        assert [tokenizer.token(id) for id in ids if id in named] == [span.text for span in spans if span.special]
        assert tokenizer.decode(ids) == text(span for span in spans if not span.special)
