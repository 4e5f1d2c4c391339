"""Compression and fertility of a tokenizer: tokens for the bytes, characters and words of a text, and frequencies."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lit_gpt.data.sources.source import Source
from lit_gpt.data.tokenizers.patterns import ANYWHERE, BEFORE_A_SPACE_LINE_OR_MARK
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError

_PIECE = 1 << 20  # characters that are counted at once
_TAIL = 1 << 16  # characters at their end among which a split point is searched
# Chinese and Japanese are written without spaces: each character counts as a word, as is usual for fertility.
_ALONE = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")


@dataclass
class Counts:
    """UTF-8 bytes, characters and words of a text, and the frequency of each id (vocab_size,)."""

    bytes: int
    characters: int
    words: int
    frequencies: np.ndarray

    @property
    def tokens(self) -> int:
        return int(self.frequencies.sum())


def count(tokenizer: Tokenizer, source: Source, advance: Callable[[int], None] = lambda amount: None) -> Counts:
    """Counts of a source of plain text, read as a stream; `advance` is called with characters that are done.

    Raises:
        UserError: a document is a record, or the tokenizer cannot encode a character.
    """
    counts = Counts(0, 0, 0, np.zeros(tokenizer.vocab_size, dtype=np.int64))
    for piece, where in _pieces(tokenizer, source):
        try:
            (ids,) = tokenizer.encode_arrays([piece])
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        counts.frequencies += np.bincount(ids, minlength=tokenizer.vocab_size)
        counts.bytes += len(piece.encode())
        counts.characters += len(piece)
        counts.words += sum(1 for _ in _WORD.finditer(piece))
        advance(len(piece))
    return counts


def _pieces(tokenizer: Tokenizer, source: Source) -> Iterator[tuple[str, str]]:
    """Documents and their origin; long ones in parts that are encoded as in the whole, where they can be split."""
    # Bytes and characters can be split anywhere, words cannot.
    split_points = BEFORE_A_SPACE_LINE_OR_MARK if tokenizer.split_points is ANYWHERE else tokenizer.split_points
    held = ""
    for chunk in source.chunks():
        if not isinstance(chunk.content, str):
            raise UserError(f"{chunk.where} is a record, not a text; give files of plain text")
        held += chunk.content
        if chunk.ends:
            yield held, chunk.where
            held = ""
        elif split_points is not None and len(held) > _PIECE:
            *_, last = [0, *(match.start() for match in split_points.finditer(held, len(held) - _TAIL))]
            if last:
                yield held[:last], chunk.where
                held = held[last:]
