"""A long text in pieces that a translator takes, and whole again.

Knows: paragraphs, sentences, words. Does not know: languages, translators.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

Fits = Callable[[str], bool]

_PARAGRAPHS = re.compile(r"\n(?:[^\S\n]*\n)+")
_SENTENCE = re.compile(r"[.!?…]+[\"'”’»)\]]*\s+|[。！？]+[”’」』）]*\s*|\n")
_WORD = re.compile(r"\s+")


class Piece(NamedTuple):
    """A stretch of a text. translated: whether it is sent to the translator; white space and separators are not."""

    text: str
    translated: bool


def pieces(text: str, fits: Fits, apart: Sequence[str] = ()) -> Iterator[Piece]:
    """A text as paragraphs, those that are too long as sentences, as many in a piece as fit; joined they are the text.

    What is still too long is cut between words, and a word that is too long within it. No piece begins or ends with
    white space.

    Args:
        text: Any.
        fits: Whether a piece can be taken; of two that begin alike the shorter fits too.
        apart: Texts that are in no piece, such as what stands between source and target in a translator's prompt.
    """
    borders = "|".join([_PARAGRAPHS.pattern, *(re.escape(one) for one in sorted(apart, key=len, reverse=True))])
    for number, part in enumerate(re.split(f"({borders})", text)):
        if number % 2:
            yield Piece(part, False)
        else:
            yield from _paragraph(part, fits)


def _paragraph(text: str, fits: Fits) -> Iterator[Piece]:
    def takes(part: str) -> bool:
        core = part.strip()
        return not core or fits(core)

    for part in _fitting(text, takes, (_sentences, _words, _halves)):
        core = part.strip()
        start = part.find(core) if core else len(part)
        around = (Piece(part[:start], False), Piece(core, True), Piece(part[start + len(core) :], False))
        yield from (piece for piece in around if piece.text)


def _fitting(text: str, fits: Fits, ways: Sequence[Callable[[str], list[str]]]) -> Iterator[str]:
    """The text in parts that fit, cut in the first of the ways that brings it about."""
    if fits(text) or len(text) < 2:
        yield text
        return
    held = ""
    for unit in ways[0](text):
        if held and not fits(held + unit):
            yield from _fitting(held, fits, ways[1:] or ways)
            held = ""
        held += unit
    yield from _fitting(held, fits, ways[1:] or ways)


def _sentences(text: str) -> list[str]:
    return _after(text, _SENTENCE)


def _words(text: str) -> list[str]:
    return _after(text, _WORD)


def _halves(text: str) -> list[str]:
    return [text[: len(text) // 2], text[len(text) // 2 :]]


def _after(text: str, border: re.Pattern[str]) -> list[str]:
    """The text cut after each border."""
    places = [0, *(found.end() for found in border.finditer(text)), len(text)]
    return [text[start:end] for start, end in zip(places, places[1:], strict=False) if end > start]
