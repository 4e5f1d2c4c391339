"""Filters by length and language: what stays, what is refused."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_gpt.data.filters.filter import Length
from lit_gpt.data.filters.language import Language
from lit_gpt.errors import UserError

TEXTS = {
    "en": "The dog runs through the garden and barks at the cat, which does not care in the least.",
    "de": "Der Hund läuft durch den Garten und bellt die Katze an, die sich nicht darum kümmert.",
    "fr": "Le chien court dans le jardin et aboie après le chat, qui n'y fait pas du tout attention.",
    "zh": "那只狗跑过花园，对着猫叫，可是猫一点也不在乎，只是坐在墙上看着远处的山。",
    "ja": "犬は庭を走り抜けて猫に吠えますが、猫は少しも気にせず、塀の上で遠くの山を見ています。",
    "ru": "Собака бежит через сад и лает на кошку, которой до этого нет никакого дела.",
}


@given(st.text(max_size=12), st.integers(0, 6), st.integers(6, 12))
def test_length_counts_characters(text: str, least: int, most: int) -> None:
    assert Length(least, most).keeps(text) == (least <= len(text) <= most)
    assert Length(min_chars=least).keeps(text) == (len(text) >= least)
    assert Length(max_chars=most).keeps(text) == (len(text) <= most)


def test_length_says_why() -> None:
    assert Length(20).reason == "shorter than 20 characters"
    assert Length(max_chars=1000).reason == "longer than 1,000 characters"
    assert Length(20, 1000).reason == "shorter than 20 or longer than 1,000 characters"
    assert Length(20).configuration()["init_args"] == {"min_chars": 20, "max_chars": None}


def test_length_that_fits_nothing_or_everything_is_refused() -> None:
    with pytest.raises(UserError, match="min_chars nor max_chars"):
        Length()
    for least, most in ((-1, None), (5, 4), (None, 0)):
        with pytest.raises(UserError, match="min_chars.*max_chars"):
            Length(least, most)


class TestLanguage:
    """Needs the library that tells languages."""

    @pytest.fixture(autouse=True)
    def library(self) -> None:
        pytest.importorskip("pycld2")

    @pytest.mark.parametrize("code", TEXTS)
    def test_each_language_is_told_from_the_others(self, code: str) -> None:
        one = Language([code])
        assert [other for other, text in TEXTS.items() if one.keeps(text)] == [code]

    def test_several_languages_and_a_script(self) -> None:
        both = Language(["en", "zh"])
        assert both.reason == "not in en or zh"
        assert [code for code, text in TEXTS.items() if both.keeps(text)] == ["en", "zh"]
        traditional = "那隻狗跑過花園，對著貓叫，可是貓一點也不在乎，只是坐在牆上看著遠處的山。"
        assert Language(["zh"]).keeps(traditional)
        assert Language(["zh-Hant"]).keeps(traditional)
        assert not Language(["zh-Hant"]).keeps(TEXTS["zh"])

    def test_the_share_of_a_mixed_text(self) -> None:
        mixed = " ".join([TEXTS["en"]] * 3 + [TEXTS["ru"]])
        assert Language(["en"], share=0.4).keeps(mixed)
        assert not Language(["en"], share=0.99).keeps(mixed)
        assert Language(["en", "ru"], share=0.95).keeps(mixed)

    @pytest.mark.parametrize("text", ["", "a", "12 34 56", "\x00\ud800\ufffe", "!?"])
    def test_what_is_in_no_language_is_left_out(self, text: str) -> None:
        assert not Language(list(TEXTS)).keeps(text)

    @given(st.text(st.characters(), max_size=40))
    def test_any_text_is_judged(self, text: str) -> None:
        assert Language(["en"]).keeps(text) in (True, False)

    def test_damage_in_a_text_does_not_hide_its_language(self) -> None:
        assert Language(["en"]).keeps(TEXTS["en"].replace(" ", " \x00\x7f\ud800", 3))

    def test_the_beginning_of_a_book_is_enough(self) -> None:
        assert Language(["en"]).keeps(TEXTS["en"] * 300 + TEXTS["ru"] * 3_000)

    def test_what_cannot_be_is_refused(self) -> None:
        for only in ([], "en"):
            with pytest.raises(UserError, match="give a list of codes"):
                Language(only)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="no language 'english' is known; there are .*de"):
            Language(["english"])
        with pytest.raises(UserError, match="share is 0"):
            Language(["en"], share=0)


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycld2", None)
    with pytest.raises(UserError, match=r"pip install 'lit-gpt\[language\]'"):
        Language(["en"])
