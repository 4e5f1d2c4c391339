"""What TokenData tells people: texts that are too short, tokens that are dropped or truncated, a batch as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lit_gpt.data.corpus.recipe import TRAIN
from lit_gpt.data.progress import say
from lit_gpt.data.sequences.showing import sampled, shown
from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from lit_gpt.data.module import TokenData


def check_lengths(data: "TokenData", training: bool) -> None:
    """Checks that each text is long enough for its sequences.

    Args:
        data: The data.
        training: Whether the training text is used.

    Raises:
        UserError: A text is too short; names it and what would do.
    """
    for split in data.text.splits():
        if split == TRAIN and not training:
            continue
        sequences = data.sequences(split)
        shortage = sequences.shortage() if split == TRAIN or not len(sequences) else None
        if len(data.corpus(split)) < 2:
            shortage = "has fewer than 2 tokens, so nothing can be predicted; give more of it, or a larger fraction"
        if shortage:
            raise UserError(f"the {'training text' if split == TRAIN else f'text {split!r}'} {shortage}")


def report(data: "TokenData") -> None:
    """Prints what was dropped or truncated by preparation, sequences and augmentations, a line each."""
    prepared = data.text.prepared
    for line in prepared.dropped():
        say(f"dropped: {line}")
    for line in prepared.notes():
        say(f"text: {line}")
    for line in notes(data):
        say(line)


def notes(data: "TokenData") -> Iterator[str]:
    """Counts of what sequences and augmentations truncate, drop or pad, a line each."""
    for split in data.text.splits():
        for line in data.sequences(split).notes():
            yield line if split == TRAIN else f"{split}: {line}"
    batches = data.training_samples()
    sample = sampled(batches.sequences)
    for augment in batches.augment:
        yield from augment.notes(sample)


def describe_batch(data: "TokenData", count: int = 2) -> str:
    """The first sequences of the first training batch, decoded, with targets and segments, as the net sees them.

    Args:
        data: The data.
        count: How many sequences.
    """
    batch = data.training_samples().first(count)
    return "\n".join(line for row in range(min(count, len(batch.inputs))) for line in shown(data.tokenizer, batch, row))
