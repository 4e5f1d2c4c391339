"""Batched encoding with the tokenizers library: texts to arrays of ids, in parallel parts and bounded memory."""

import re
from array import array
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from lit_gpt.data.tokenizers.safe_splits import split_text

_TURN = 1 << 18  # characters; what the library makes of them (ids, offsets, tokens' texts) takes some 50 MB


def encode_in_batches(
    inner: Any, texts: list[str], split_points: re.Pattern[str] | None, continuation: Any = None
) -> list[np.ndarray]:
    """Ids of each text, int64.

    Args:
        inner: The library's tokenizer.
        texts: The texts.
        split_points: Where they can be split; None for nowhere.
        continuation: The tokenizer of all parts of a text but the first; by default the same.
    """
    arrays: list[list[np.ndarray]] = [[] for _ in texts]
    for turn in _turns(texts, split_points):
        first = [one for one in turn if one.first or continuation is None]
        _encode(inner, first, arrays)
        if len(first) < len(turn):
            _encode(continuation, [one for one in turn if not one.first], arrays)
    return [np.concatenate(text_arrays).astype(np.int64) for text_arrays in arrays]


class _Part(NamedTuple):
    number: int  # of its text
    first: bool
    text: str


def _encode(inner: Any, parts: list[_Part], arrays: list[list[np.ndarray]]) -> None:
    encoded = inner.encode_batch_fast([part.text for part in parts], add_special_tokens=False)
    for part, one in zip(parts, encoded, strict=True):
        # `array` reads a list of numbers three times as fast as numpy does
        arrays[part.number].append(np.frombuffer(array("I", one.ids), dtype=np.uint32))


def _turns(texts: list[str], split_points: re.Pattern[str] | None) -> Iterator[list[_Part]]:
    turn: list[_Part] = []
    size = 0
    for number, text in enumerate(texts):
        for order, part in enumerate([text] if split_points is None else split_text(text, split_points)):
            turn.append(_Part(number, order == 0, part))
            size += len(part)
            if size >= _TURN:
                yield turn
                turn, size = [], 0
    if turn:
        yield turn
