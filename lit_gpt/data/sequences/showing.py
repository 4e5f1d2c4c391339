"""A batch as text for people's eyes.

Knows: batches, tokenizers. Does not know: where a batch comes from.
"""

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from lit_gpt.data.sequences.datasets import IGNORED, Batch, Sequences
from lit_gpt.data.tokenizers.display import decode_with_special, display_token
from lit_gpt.data.tokenizers.tokenizer import Tokenizer

_FIRST, _LAST = 24, 8  # places of a row that are shown one by one


def sampled(rows: Sequences, count: int = 32) -> Batch:
    """Rows from all over, to say what will be changed in them.

    Evenly through them: those of Packed begin with the longest documents, those of a Mixture with one source's.
    """
    return rows.batch(np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(np.int64))


def shown(tokenizer: Tokenizer, batch: Batch, row: int) -> Iterator[str]:
    """Lines that show one row: its text, what is scored, then inputs with their targets, the middle left out."""
    inputs, targets = batch.inputs[row].tolist(), batch.targets[row].tolist()
    segments = None if batch.segments is None else batch.segments[row].tolist()
    scored = sum(target != IGNORED for target in targets)
    yield f"row {row}: {len(inputs)} tokens, {scored} scored"
    yield f"  inputs   {decode_with_special(tokenizer, inputs)!r}"
    yield f"  targets  {' '.join(_targets(tokenizer, targets))}"
    yield f"  segments {'one' if segments is None else ', '.join(_segments(segments, targets))}"
    yield "  place      id  input -> target"
    for place, (id, target) in enumerate(zip(inputs, targets, strict=True)):
        if _FIRST <= place < len(inputs) - _LAST:
            if place == _FIRST:
                yield "    ..."
            continue
        shown = "not scored" if target == IGNORED else display_token(tokenizer, target)
        yield f"  {place:5} {id:7}  {display_token(tokenizer, id)} -> {shown}"


def _targets(tokenizer: Tokenizer, targets: list[int]) -> Iterator[str]:
    """Text of what is scored, with counts of what is not between it."""
    for scored, group in groupby(targets, lambda target: target != IGNORED):
        run = list(group)
        yield repr(decode_with_special(tokenizer, run)) if scored else f"({len(run)} not scored)"


def _segments(segments: list[int], targets: list[int]) -> Iterator[str]:
    """How many tokens each segment has; the last one may be empty places."""
    place = 0
    for number, group in groupby(segments):
        length = len(list(group))
        empty = all(target == IGNORED for target in targets[place : place + length])
        place += length
        yield f"{number}: {length}{' not scored' if empty else ''}"
