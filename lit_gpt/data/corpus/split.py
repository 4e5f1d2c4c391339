"""Stage 2 of preparation, split: which text is for training, for validation and for testing."""

import hashlib
from collections.abc import Iterable, Iterator
from fractions import Fraction

from lit_gpt.data.chunks import Chunk, bytes_of, text_of
from lit_gpt.data.corpus.recipe import HASHED, TEST, TRAIN, VAL, Fractions, Recipe, SplitBy, resolve
from lit_gpt.data.corpus.scan import Scan, kept


def split(recipe: Recipe, scans: dict[str, Scan]) -> Iterator[Chunk]:
    """All text of a recipe, each chunk with its split: the main text first, then splits with a source of their own."""
    yield from split_main(recipe, scans[""])
    for name, source in recipe.own_sources().items():
        for chunk in kept(source, scans[name], recipe.format.divisible):
            yield chunk.to_split(name)


def split_main(recipe: Recipe, scan: Scan) -> Iterator[Chunk]:
    """The main text, each chunk with its split."""
    divisible = recipe.format.divisible
    chunks = kept(recipe.source, scan, divisible)
    return split_chunks(chunks, recipe.shares, recipe.split_by, scan.characters, scan.documents, divisible)


def split_chunks(
    chunks: Iterable[Chunk], shares: Fractions, by: SplitBy | None, characters: int, count: int, divisible: bool = True
) -> Iterator[Chunk]:
    """Gives every part of a text to one split.

    Args:
        chunks: The text.
        shares: Fractions for validation and test.
        by: "position": the first part of all characters is for training, the next for validation, the last for
            testing; a document that lies across a border is cut. "document": whole documents, taken for each split
            evenly through the text. "hash": whole documents, each by a hash of its own text (of its first million
            characters), so that it stays where it is when others come or go. None: see `resolve`.
        characters: Characters in all documents.
        count: Number of documents.
        divisible: Documents may be cut; otherwise one that lies across a border belongs where it begins.
    """
    by = resolve(by, count)
    if by == "position" and divisible:
        yield from _cut_at_borders(chunks, shares, characters)
        return
    ways: dict[str, type[_Chooser]] = {"position": _ByPosition, "document": _ByDocument, "hash": _ByHash}
    chooser, name = ways[by](shares, characters), TRAIN
    for chunk in _with_hashed_start(chunks) if by == "hash" else chunks:
        if chunk.begins:
            name = chooser.split(chunk)
        chooser.add(name, len(text_of(chunk.content)))
        yield chunk.to_split(name)


def _borders(shares: Fractions, characters: int) -> list[tuple[str, int]]:
    # Decimal fractions as they are written: 1 - 0.1 - 0.1 must not fall below 0.8 by a bit.
    val, test = Fraction(str(shares.val)), Fraction(str(shares.test))
    return [(TRAIN, int(characters * (1 - val - test))), (VAL, int(characters * (1 - test))), (TEST, characters)]


def _cut_at_borders(chunks: Iterable[Chunk], shares: Fractions, characters: int) -> Iterator[Chunk]:
    borders = _borders(shares, characters)
    at = 0
    last: str | None = None
    for chunk in chunks:
        text = chunk.content
        assert isinstance(text, str)
        if not text and last is not None:  # a chunk that only ends its document, in the split where its text ended
            yield chunk.to_split(last)
        start = at
        for name, border in borders:
            stop = min(border, start + len(text)) if name != TEST else start + len(text)
            if at < stop:
                begins, ends = chunk.begins and at == start, chunk.ends and stop == start + len(text)
                opens, closes = begins or name != last, ends or (stop == border and name != TEST)
                part = text[at - start : stop - start]
                yield chunk._replace(content=part, begins=begins, ends=ends, split=name, opens=opens, closes=closes)
                at, last = stop, name


def _with_hashed_start(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Chunks of which each document's first holds all that is hashed, wherever a file was cut as it was read."""
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
    """Chooses the split of each document where it begins; `add` counts the characters that go there."""

    def __init__(self, shares: Fractions, characters: int) -> None:
        self.shares = shares

    def split(self, chunk: Chunk) -> str:
        raise NotImplementedError

    def add(self, name: str, characters: int) -> None:
        pass


class _ByPosition(_Chooser):
    """By the position at which a document begins."""

    def __init__(self, shares: Fractions, characters: int) -> None:
        self.borders, self.at = _borders(shares, characters), 0
        self.last = next(name for name, border in self.borders if border == characters)

    def split(self, chunk: Chunk) -> str:
        # A record whose fields are all empty has no characters, so that it may begin where the text ends.
        return next((name for name, border in self.borders if self.at < border), self.last)

    def add(self, name: str, characters: int) -> None:
        self.at += characters


class _ByDocument(_Chooser):
    """The split that is furthest behind its share."""

    def __init__(self, shares: Fractions, characters: int) -> None:
        wanted = {TRAIN: 1 - shares.val - shares.test, VAL: shares.val, TEST: shares.test}
        self.wanted = {name: share for name, share in wanted.items() if share}  # the others get nothing, ever
        self.taken, self.total = dict.fromkeys(self.wanted, 0), 0

    def split(self, chunk: Chunk) -> str:
        # By what was taken before, never by the document's own length: else one split would get the short ones.
        return max(self.wanted, key=lambda name: self.wanted[name] * self.total - self.taken[name])

    def add(self, name: str, characters: int) -> None:
        self.total += characters
        self.taken[name] += characters


class _ByHash(_Chooser):
    """By a number from 0 to 1 that a document's text alone decides."""

    def split(self, chunk: Chunk) -> str:
        content = chunk.content[:HASHED] if isinstance(chunk.content, str) else chunk.content
        digest = hashlib.blake2b(bytes_of(content), digest_size=8).digest()
        number = int.from_bytes(digest, "little") / 2**64
        if number < self.shares.val:
            return VAL
        return TEST if number < self.shares.val + self.shares.test else TRAIN
