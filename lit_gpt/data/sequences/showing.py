"""Prints a batch as text: inputs, targets, segments."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from lit_gpt.data.sequences.datasets import IGNORED, Batch, Sequences
from lit_gpt.data.tokenizers.display import decode_with_special, display_token
from lit_gpt.data.tokenizers.tokenizer import Tokenizer

_FIRST, _LAST = 24, 8  # positions of a sequence that are printed one by one


def sampled(rows: Sequences, count: int = 32) -> Batch:
    """A batch of evenly spaced sequences, as those of Packed begin with the longest documents."""
    return rows.batch(np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(np.int64))


def shown(tokenizer: Tokenizer, batch: Batch, row: int) -> Iterator[str]:
    """Lines that show one sequence: its text, its targets, then each input with its target, without the middle."""
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
    """Text that is trained on, with counts of ignored tokens between."""
    for scored, group in groupby(targets, lambda target: target != IGNORED):
        run = list(group)
        yield repr(decode_with_special(tokenizer, run)) if scored else f"({len(run)} not scored)"


def _segments(segments: list[int], targets: list[int]) -> Iterator[str]:
    """Number of tokens of each segment; the last one may be padding."""
    place = 0
    for number, group in groupby(segments):
        length = len(list(group))
        empty = all(target == IGNORED for target in targets[place : place + length])
        place += length
        yield f"{number}: {length}{' not scored' if empty else ''}"
