"""GPT-2's byte-level alphabet: which bytes its characters are; text in parts; and bytes to text as they come.

Knows: characters. Does not know: vocabularies, ids.
"""

import codecs
import re
from collections.abc import Iterator

_PART = 1 << 14  # characters; small enough to spread one text over all cores
_LONG = 1 << 11  # characters without a change between letters, spaces and marks that make a word too long
_RUN = re.compile(rf"\w{{{_LONG}}}|\s{{{_LONG}}}|[^\w\s]{{{_LONG}}}")


class TokenStream:
    """Turns ids into text one at a time; a character whose bytes are spread over several ids comes whole."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def step(self, id: int) -> str:
        """The text that is complete with this id; often one token, sometimes empty."""
        return self._decoder.decode(self._pieces[id])

    def flush(self) -> str:
        """What is left at the end: empty, or U+FFFD for a character that was never finished."""
        return self._decoder.decode(b"", final=True)


def is_long(text: str) -> bool:
    """Whether `cut` would make parts of a text."""
    return len(text) > _PART


def cut(text: str, place: re.Pattern[str]) -> Iterator[str]:
    """Parts of a text; at least one, if an empty one.

    Args:
        text: Any.
        place: Where it may be cut, as `Tokenizer.place` says it.
    """
    start = 0
    while len(text) - start > _PART:
        found = place.search(text, start + _PART)
        if found is None:
            break
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def without_long_words(text: str) -> Iterator[str]:
    """Parts of a text to learn from: what is one word for thousands of characters is cut, at places of no meaning.

    The library joins pairs in a time that grows with the square of a word's length: a word of 80,000 letters took 9 s,
    one of 4 million would take hours.
    """
    start = 0
    for at in range(_LONG, len(text), _LONG):
        if _RUN.match(text, at):
            yield text[start:at]
            start = at
    yield text[start:]


def byte_of_character() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves, the others for code points from 256 on, in order (GPT-2's table).
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {chr(256 + place): value for place, value in enumerate(others)}
