"""Which text is for training, which for validation, which for testing.

Knows: documents and fractions. Does not know: tokens, files.
"""

import hashlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Literal, NamedTuple

from lit_gpt.data.chunks import Chunk, bytes_of, text_of
from lit_gpt.errors import UserError

SplitBy = Literal["position", "document", "hash"]
TRAIN, VAL, TEST = "train", "val", "test"
# Below this many documents, whole ones meet a fraction too badly.
_MANY = 20
HASHED = 1 << 20  # characters of a document, from its beginning, by which its hash is made


class Part(NamedTuple):
    """A chunk, or a part of one, that goes to one split; whether a document of that split begins and ends with it."""

    split: str
    chunk: Chunk
    opens: bool
    closes: bool


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


def split_passages(
    chunks: Iterable[Chunk],
    shares: Fractions,
    by: SplitBy | None,
    characters: int,
    count: int,
    divisible: bool = True,
) -> Iterator[Part]:
    """Gives every part of the text to one split.

    Args:
        chunks: The text.
        shares: Fractions for validation and test.
        by: "position": the first part of all characters is for training, the next for validation, the last for
            testing; a document that lies across a border is cut. "document": whole documents, taken for each split
            evenly through the text. "hash": whole documents, each by a hash of its own text (of its first million
            characters), so that it stays where it is when others come or go. None: by document from 20 documents
            on, else by position.
        characters: Characters in all documents.
        count: Number of documents.
        divisible: Documents may be cut; otherwise one that lies across a border belongs where it begins.
    """
    by = resolve(by, count)
    if by == "position" and divisible:
        yield from _at_borders(chunks, shares, characters)
        return
    ways: dict[str, type[_Chooser]] = {"position": _ByPosition, "document": _ByDocument, "hash": _ByHash}
    choose = ways[by](shares, characters)
    split = TRAIN
    for chunk in _begun(chunks) if by == "hash" else chunks:
        if chunk.begins:
            split = choose.split(chunk)
        choose.taken(split, chunk)
        yield Part(split, chunk, chunk.begins, chunk.ends)


def resolve(by: SplitBy | None, count: int) -> SplitBy:
    """The way of splitting that is meant where none is said."""
    return by or ("document" if count >= _MANY else "position")


def _borders(shares: Fractions, characters: int) -> list[tuple[str, int]]:
    # Decimal fractions as they are written: 1 - 0.1 - 0.1 must not fall below 0.8 by a bit.
    val, test = Fraction(str(shares.val)), Fraction(str(shares.test))
    return [(TRAIN, int(characters * (1 - val - test))), (VAL, int(characters * (1 - test))), (TEST, characters)]


def _at_borders(chunks: Iterable[Chunk], shares: Fractions, characters: int) -> Iterator[Part]:
    borders = _borders(shares, characters)
    at = 0
    last: str | None = None
    for chunk in chunks:
        text = chunk.content
        assert isinstance(text, str)
        if not text and last is not None:  # a stretch that only ends its document, in the split where its text ended
            yield Part(last, chunk, chunk.begins, chunk.ends)
        start = at
        for split, border in borders:
            stop = min(border, start + len(text)) if split != TEST else start + len(text)
            if at < stop:
                begins, ends = chunk.begins and at == start, chunk.ends and stop == start + len(text)
                part = chunk._replace(content=text[at - start : stop - start], begins=begins, ends=ends)
                yield Part(split, part, begins or split != last, ends or (stop == border and split != TEST))
                at, last = stop, split


def _begun(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Passages of which each document's first holds all that is hashed, wherever a file was cut as it was read."""
    first: Chunk | None = None
    parts, held = list[str](), 0
    for chunk in chunks:
        if chunk.begins and not chunk.ends:
            first, parts, held = chunk, [], 0
        if first is None:
            yield chunk
            continue
        assert isinstance(chunk.content, str)
        parts.append(chunk.content)
        held += len(chunk.content)
        if chunk.ends or held >= HASHED:
            yield first._replace(content="".join(parts), ends=chunk.ends)
            first = None


class _Chooser:
    """Chooses the split of each document where it begins, and is told of all that goes there."""

    def __init__(self, shares: Fractions, characters: int) -> None:
        self.shares = shares

    def split(self, chunk: Chunk) -> str:
        raise NotImplementedError

    def taken(self, split: str, chunk: Chunk) -> None:
        pass


class _ByPosition(_Chooser):
    """By the place where a document begins."""

    def __init__(self, shares: Fractions, characters: int) -> None:
        self.borders, self.at = _borders(shares, characters), 0
        self.last = next(split for split, border in self.borders if border == characters)

    def split(self, chunk: Chunk) -> str:
        # A record whose fields are all empty has no characters, so that it may begin where the text ends.
        return next((split for split, border in self.borders if self.at < border), self.last)

    def taken(self, split: str, chunk: Chunk) -> None:
        self.at += len(text_of(chunk.content))


class _ByDocument(_Chooser):
    """The split that has got least of its share so far."""

    def __init__(self, shares: Fractions, characters: int) -> None:
        wanted = {TRAIN: 1 - shares.val - shares.test, VAL: shares.val, TEST: shares.test}
        self.wanted = {split: share for split, share in wanted.items() if share}  # the others get nothing, ever
        self.got, self.total = dict.fromkeys(self.wanted, 0), 0

    def split(self, chunk: Chunk) -> str:
        # By what was taken before, never by the document's own length: else one split would get the short ones.
        return max(self.wanted, key=lambda name: self.wanted[name] * self.total - self.got[name])

    def taken(self, split: str, chunk: Chunk) -> None:
        length = len(text_of(chunk.content))
        self.total += length
        self.got[split] += length


class _ByHash(_Chooser):
    """A number from 0 to 1 that a document's text alone decides."""

    def split(self, chunk: Chunk) -> str:
        content = chunk.content[:HASHED] if isinstance(chunk.content, str) else chunk.content
        digest = hashlib.blake2b(bytes_of(content), digest_size=8).digest()
        place = int.from_bytes(digest, "little") / 2**64
        if place < self.shares.val:
            return VAL
        return TEST if place < self.shares.val + self.shares.test else TRAIN
