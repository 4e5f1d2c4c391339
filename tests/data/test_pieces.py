"""A text in pieces for a translator: joined it is the text, each piece fits, borders lie where they should."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_gpt.data.augment.pieces import Piece, pieces


def cut(text: str, most: int, apart: tuple[str, ...] = ()) -> list[Piece]:
    return list(pieces(text, lambda piece: len(piece) <= most, apart))


def sent(text: str, most: int, apart: tuple[str, ...] = ()) -> list[str]:
    return [piece.text for piece in cut(text, most, apart) if piece.translated]


_texts = st.text() | st.lists(
    st.sampled_from(
        ["A word. ", "Is it?", "\n", "\n\n", " \t\n \n", "。", "\u3000", "abcdefghij", "“Yes!” ", "|", " => "]
    )
).map("".join)


@given(_texts, st.integers(1, 40), st.lists(st.sampled_from(["\n", "|", " => ", "=>"]), unique=True))
def test_joined_they_are_the_text_and_each_fits(text: str, most: int, apart: list[str]) -> None:
    made = cut(text, most, tuple(apart))
    assert "".join(piece.text for piece in made) == text
    for piece in made:
        if piece.translated:
            assert 0 < len(piece.text) <= most and piece.text == piece.text.strip()
            assert not any(one in piece.text for one in apart) and not re.search(r"\n[^\S\n]*\n", piece.text)
        else:
            assert not piece.text.strip() or piece.text in apart
    # All of the text but white space and separators is translated.
    kept = "".join(piece.text for piece in made if not piece.translated)
    assert not kept.strip() or apart


def test_paragraphs_then_sentences_then_words_then_characters() -> None:
    text = "One two. Three!\n\n“Four five six?” Seven.\nEight nine\n \nTen\n"
    assert sent(text, 100) == ["One two. Three!", "“Four five six?” Seven.\nEight nine", "Ten"]
    assert sent(text, 25) == ["One two. Three!", "“Four five six?” Seven.", "Eight nine", "Ten"]
    assert sent(text, 18) == ["One two. Three!", "“Four five six?”", "Seven.\nEight nine", "Ten"]
    assert sent(text, 10) == ["One two.", "Three!", "“Four five", "six?”", "Seven.", "Eight nine", "Ten"]
    assert sent("abcdefgh ij", 4) == ["abcd", "efgh", "ij"]
    assert sent("一二三。四五六！七", 5) == ["一二三。", "四五六！七"]
    assert sent("a => b\nc", 100, (" => ",)) == ["a", "b\nc"]


@pytest.mark.parametrize("text", ["a" * 300_000, "a " * 150_000, " " * 300_000, "\n \n" * 100_000, ".\n" * 150_000])
def test_long_texts_are_cut_in_no_time(text: str) -> None:
    made = cut(text, 500)
    assert "".join(piece.text for piece in made) == text
