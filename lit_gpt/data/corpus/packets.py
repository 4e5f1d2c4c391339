"""The text on its way to those that encode it: parts of splits, cut where it changes nothing, in packets of one size.

Knows: what decides each packet (the text, the splits, the tokenizer), and nothing else, so that packets are the same
however many processes encode them and however often the work was stopped. Does not know: processes, files.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lit_gpt.data.chunks import Chunk, text_of
from lit_gpt.data.corpus.encoding import Piece
from lit_gpt.data.corpus.engines import Packet
from lit_gpt.data.corpus.splits import Part
from lit_gpt.data.tokenizers.tokenizer import Tokenizer

PACKET = 1 << 22  # characters of a packet, at least
_WEIGHT = 64  # characters that a piece counts for besides its own: many short ones take memory too
_FORMAT = 2  # of a shard
FORCED = 1 << 18  # characters without a place to cut after which a text is cut all the same


class Pieces:
    """Parts of splits as pieces to encode.

    Args:
        tokenizer: Says where a text may be cut and which special tokens stand around it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.forced = 0  # places where a text was cut that has no good one
        self._ended: set[str] = set()  # splits whose last piece ended with `eos`

    def of(self, parts: Iterable[Part]) -> Iterator[Piece]:
        """The pieces of parts, in their order."""
        number = -1
        for part in self._cut(parts):
            chunk = part.chunk
            number += chunk.begins
            yield Piece(
                part.split,
                chunk.content,
                max(number, 0),
                part.opens,
                chunk.begins,
                chunk.ends,
                chunk.begins and self._leads(part.split),
                chunk.tag,
                chunk.where,
            )
            if chunk.ends:
                self._ended.add(part.split)
            else:
                self._ended.discard(part.split)

    def _leads(self, split: str) -> bool:
        # A separator that is both bos and eos stands once between two documents.
        return self.tokenizer.bos != self.tokenizer.eos or split not in self._ended

    def _cut(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Parts that end where the tokenizer joins nothing over; the rest of each goes ahead of the next."""
        place, held, opens, begins = self.tokenizer.split_points, "", False, False
        for part in parts:
            if part.closes and not held:
                yield part
                continue
            text = part.chunk.content
            assert isinstance(text, str)
            if not held:
                opens, begins = part.opens, part.chunk.begins
            held += text
            at = len(held) if part.closes else self._place(held, place)
            if at:
                ends = part.closes and part.chunk.ends
                chunk = part.chunk._replace(content=held[:at], begins=begins, ends=ends)
                yield Part(part.split, chunk, opens, part.closes)
                held, opens, begins = held[at:], False, False

    def _place(self, text: str, place: re.Pattern[str] | None) -> int:
        """The last good place to cut a text, 0 if it is better held."""
        if place is None:
            return 0  # nothing is proven for this tokenizer: a document is held whole
        reach, start = 256, len(text)
        while start > 1:  # from the end back to the beginning, in steps that grow
            start = max(len(text) - reach, 1)
            places = [found.start() for found in place.finditer(text, start)]
            if places:
                return places[-1]
            reach *= 16
        if len(text) < FORCED:
            return 0
        self.forced += 1
        return len(text)


def packets(pieces: Iterable[Piece], folder: Path) -> Iterator[Packet]:
    """Pieces, some million characters together, each packet with the name of its shard."""
    waiting: list[Piece] = []
    characters = number = 0
    for piece in pieces:
        waiting.append(piece)
        characters += len(text_of(piece.content))
        if characters + _WEIGHT * len(waiting) >= PACKET:
            yield Packet(waiting, characters, shard_at(folder, number))
            waiting, characters, number = [], 0, number + 1
    if waiting:
        yield Packet(waiting, characters, shard_at(folder, number))


def shard_at(folder: Path, number: int) -> Path:
    """The file of a packet's shard."""
    return folder / f"{number:08}.shard"


def shards_in(working: Path, identity: dict[str, Any]) -> Path:
    """Where the shards of a recipe wait. Of another recipe, or of packets cut otherwise, they never lie there: not even
    where a process of work that was killed comes to its end later."""
    decides = json.dumps([_FORMAT, identity, PACKET, _WEIGHT, FORCED], sort_keys=True)
    return working / f"shards-{hashlib.sha256(decides.encode()).hexdigest()[:16]}"


def drawn(parts: Iterable[Part], characters: int, most: int | None) -> Iterator[str]:
    """Texts of parts, evenly through them, up to some number of characters.

    Args:
        parts: Of one split.
        characters: How many there are in all.
        most: How many are wanted; None for all.
    """
    share = 1.0 if most is None else min(most / max(characters, 1), 1.0)
    read = taken = 0
    for part in parts:
        text = text_of(part.chunk.content)
        if taken <= share * read:
            yield text
            taken += len(text)
        read += len(text)


def as_parts(split: str, chunks: Iterable[Chunk]) -> Iterator[Part]:
    """A text that is a split whole."""
    return (Part(split, chunk, chunk.begins, chunk.ends) for chunk in chunks)
