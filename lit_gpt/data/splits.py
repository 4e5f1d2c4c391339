"""Which text is for training, which for validation, which for testing.

Knows: documents and fractions. Does not know: tokens, files.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Literal, NamedTuple

from lit_gpt.errors import UserError

SplitBy = Literal["position", "document"]
TRAIN, VAL, TEST = "train", "val", "test"
# Below this many documents, whole ones meet a fraction too badly.
_MANY = 20


class Piece(NamedTuple):
    """Text for one split, and whether its document begins and ends with it."""

    split: str
    text: str
    begins: bool
    ends: bool


class Fractions(NamedTuple):
    """Shares of the text; what is left is for training."""

    val: float
    test: float

    def check(self) -> None:
        """Refuses shares that leave nothing to train on."""
        for name, value in (("val_fraction", self.val), ("test_fraction", self.test)):
            if not 0 <= value < 1:
                raise UserError(
                    f"{name} {value} is out of range; give a share of the text from 0 to below 1, such as 0.1"
                )
        if self.val + self.test >= 1:
            raise UserError(
                f"val_fraction {self.val} and test_fraction {self.test} leave nothing to train on;"
                " make their sum less than 1"
            )


def split_documents(
    documents: Iterable[str], shares: Fractions, by: SplitBy | None, characters: int, count: int
) -> Iterator[Piece]:
    """Gives every part of the text to one split.

    Args:
        documents: The text.
        shares: Fractions for validation and test.
        by: "position": the first part of all characters is for training, the next for validation, the last for
            testing; a document that lies across a border is cut. "document": whole documents, taken for each split
            evenly through the text. None: by document from 20 documents on, else by position.
        characters: Characters in all documents.
        count: Number of documents.
    """
    if resolve(by, count) == "position":
        yield from _by_position(documents, shares, characters)
    else:
        yield from _by_document(documents, shares)


def resolve(by: SplitBy | None, count: int) -> SplitBy:
    """The way of splitting that is meant where none is said."""
    return by or ("document" if count >= _MANY else "position")


def _by_position(documents: Iterable[str], shares: Fractions, characters: int) -> Iterator[Piece]:
    # Decimal fractions as they are written: 1 - 0.1 - 0.1 must not fall below 0.8 by a bit.
    val, test = Fraction(str(shares.val)), Fraction(str(shares.test))
    ends = [(TRAIN, int(characters * (1 - val - test))), (VAL, int(characters * (1 - test))), (TEST, characters)]
    at = 0
    for text in documents:
        start = at
        for split, border in ends:
            stop = min(border, start + len(text)) if split != TEST else start + len(text)
            if at < stop:
                yield Piece(split, text[at - start : stop - start], at == start, stop == start + len(text))
                at = stop


def _by_document(documents: Iterable[str], shares: Fractions) -> Iterator[Piece]:
    wanted = {TRAIN: 1 - shares.val - shares.test, VAL: shares.val, TEST: shares.test}
    taken = dict.fromkeys(wanted, 0)
    total = 0
    for text in documents:
        # By what was taken before, never by the document's own length: else one split would get the short ones.
        split = max(wanted, key=lambda name: wanted[name] * total - taken[name])
        total += len(text)
        taken[split] += len(text)
        yield Piece(split, text, True, True)
