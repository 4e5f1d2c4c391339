"""GPT-2's byte-level alphabet and pre-tokenizer: which bytes its characters are, where text may be cut;
and bytes to text as they come.

Knows: characters. Does not know: vocabularies, ids.
"""

import codecs
import re
from collections.abc import Iterator

# Neither side of this place is ever joined into one token by the byte-level pre-tokenizer: no pattern of it goes on
# from a character that is not a space into a space, so parts cut here are encoded as they are in the whole text.
CUT = re.compile(r"(?<=\S)(?=[ \n])")
ANYWHERE = re.compile("")
_PART = 1 << 14  # characters; small enough to spread one text over all cores


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


def cut(text: str, place: re.Pattern[str] = CUT) -> Iterator[str]:
    """Parts of a text that byte-level BPE encodes exactly as it does the whole; at least one, if an empty one.

    Args:
        text: Any.
        place: Where it may be cut; another tokenizer has other places (see `long_text`).
    """
    start = 0
    while len(text) - start > _PART:
        found = place.search(text, start + _PART)
        if found is None:
            break
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def byte_of_character() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for.

    Printable Latin-1 characters stand for themselves, the others for code points from 256 on, in order (GPT-2's table).
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {chr(256 + place): value for place, value in enumerate(others)}
