"""Duplicates: the first stays, near ones are found as often as is said, and unrelated texts are left alone."""

import pickle
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_gpt.data.filters.duplicates import ExactDuplicates, NearDuplicates, bands, shingles
from lit_gpt.errors import UserError

WORDS = [first + second for first in "b d f g k l m n p r s t v z".split() for second in "a e i o u ay ow".split()]


def words(count: int, draw: random.Random) -> list[str]:
    return ["".join(draw.choices(WORDS, k=draw.randint(1, 3))) for _ in range(count)]


def jaccard(one: str, other: str, size: int = 5) -> float:
    """Shared stretches of words, counted plainly."""

    def stretches(text: str) -> set[tuple[str, ...]]:
        split = text.split()
        return {tuple(split[at : at + size]) for at in range(len(split) - size + 1)}

    return len(stretches(one) & stretches(other)) / len(stretches(one) | stretches(other))


@given(st.lists(st.text(max_size=3), max_size=30))
def test_of_equal_texts_the_first_stays(texts: list[str]) -> None:
    one = ExactDuplicates()
    one.start()
    assert [text for text in texts if one.keeps(text)] == list(dict.fromkeys(texts))
    one.start()
    assert all(one.keeps(text) for text in dict.fromkeys(texts))


def test_exact_duplicates_say_why_and_keep_no_text_in_what_decides() -> None:
    one = ExactDuplicates()
    one.keeps("a")
    assert one.reason == "exact duplicates"
    assert one.configuration()["init_args"] == {}


def test_exact_duplicates_are_only_those() -> None:
    one = ExactDuplicates()
    assert [one.keeps(text) for text in ("a b", "a  b", "A b", "a b ", "\ud800", "a b")] == [True] * 5 + [False]


def test_equal_texts_with_different_labels_are_no_duplicates() -> None:
    labels = [0, 1, 1, "1", True, 1.5, None, None, {"a": 1}, {"a": 2}]
    one = ExactDuplicates()
    kept = [one.keeps_document({"text": "a", "label": label}, "a") for label in labels]
    assert kept == [True, True, False, True, True, True, True, False, True, True]
    assert one.keeps_document("a", "a") and not one.keeps_document("a", "a")
    assert not one.keeps_document({"label": 0, "text": "a"}, "a")  # the order of fields means nothing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two, three!", {"one two", "two three"}),
        ("one", {"one"}),
        ("狗跑过花园。", {"狗 跑", "跑 过", "过 花", "花 园"}),
        ("GPT模型 ok", {"gpt 模", "模 型", "型 ok"}),
        ("!?-", {"! ?", "? -"}),
        ("", {""}),
    ],
)
def test_shingles_are_of_words_or_of_characters(text: str, expected: set[str]) -> None:
    assert shingles(text, 2) == expected


def test_the_fewest_bands_that_find_nine_of_ten() -> None:
    for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95):
        count = bands(threshold, 128)
        found = 1 - (1 - threshold ** (128 // count)) ** count
        assert found >= 0.9
        assert 128 % count == 0
    assert bands(0.8, 128) == 16
    assert bands(0.8, 1) == 1


class TestNearDuplicates:
    """Needs the library of MinHash."""

    @pytest.fixture(autouse=True)
    def library(self) -> None:
        pytest.importorskip("rensa")

    def test_planted_near_duplicates_go_and_unrelated_texts_stay(self) -> None:
        draw = random.Random(0)
        texts = [words(200, draw) for _ in range(300)]
        one = NearDuplicates()
        assert all(one.keeps(" ".join(text)) for text in texts)
        for text in texts[:100]:
            changed = list(text)
            changed[draw.randrange(200)] = "changed"
            assert not one.keeps(" ".join(changed).upper() + "!")
        assert all(one.keeps(" ".join(words(200, draw))) for _ in range(100))

    def test_as_many_are_found_as_is_said(self) -> None:
        """Chances by the binomial distribution of equal hashes, against the exact index of each pair."""
        draw, found = random.Random(1), {0.7: [], 0.8: [], 0.9: []}
        for number in range(450):
            level = (0.7, 0.8, 0.9)[number % 3]
            first = words(300, draw)
            # Two texts of n stretches with k in common have the index k / (2 n - k).
            shared = round(2 * 296 * level / (1 + level)) + 4
            second = first[:shared] + words(300 - shared, draw)
            texts = " ".join(first), " ".join(second)
            assert abs(jaccard(*texts) - level) < 0.005
            one = NearDuplicates(seed=number)
            assert one.keeps(texts[0])
            found[level].append(not one.keeps(texts[1]))
        shares = {level: sum(hits) / len(hits) for level, hits in found.items()}
        assert shares[0.7] <= 0.06
        assert 0.35 <= shares[0.8] <= 0.65
        assert shares[0.9] >= 0.98

    def test_chinese(self) -> None:
        first = "那只狗跑过花园，对着猫叫，可是猫一点也不在乎，只是坐在墙上看着远处的山，等着太阳下山以后再回家去睡觉。"
        second = (
            "昨天我们谈了很久新的法律，大家都觉得它写得太长，没有人能把它从头到尾读完，更不用说记住里面的每一条了。"
        )
        one = NearDuplicates(threshold=0.7, shingle=3)
        assert one.keeps(first)
        assert one.keeps(second)
        assert not one.keeps(first.replace("太阳", "月亮"))
        assert not one.keeps(first.replace("，", " ").replace("。", ""))

    def test_short_and_empty_texts(self) -> None:
        one = NearDuplicates()
        assert [one.keeps(text) for text in ("one two", "One, two.", "one three", "", "!!", "!!")] == [
            True, False, True, True, True, False
        ]  # fmt: skip

    def test_starting_forgets_and_a_copy_has_seen_nothing(self) -> None:
        one = NearDuplicates()
        assert one.keeps("a text of more than five words")
        assert pickle.loads(pickle.dumps(one)).keeps("a text of more than five words")
        assert not one.keeps("a text of more than five words")
        one.start()
        assert one.keeps("a text of more than five words")

    def test_other_processes_find_the_same(self) -> None:
        code = (
            "import random; from lit_gpt.data.filters.duplicates import NearDuplicates; d = random.Random(5);"
            "n = NearDuplicates(0.5, 2);"
            "print([n.keeps(' '.join(d.choices('abcdefg', k=8))) for _ in range(400)])"
        )
        runs = [
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": seed}, check=True
            ).stdout
            for seed in ("1", "2")
        ]
        assert runs[0] == runs[1]
        assert 0 < runs[0].count("False") < 400

    def test_configuration_is_the_arguments_alone(self) -> None:
        one = NearDuplicates(seed=3)
        one.keeps("a")
        expected = {"threshold": 0.8, "shingle": 5, "permutations": 128, "seed": 3}
        assert one.configuration()["init_args"] == expected
        assert one.reason == "near duplicates (0.8 of 5-word stretches in common)"

    def test_what_cannot_be_is_refused(self) -> None:
        for arguments in ({"threshold": 0.1}, {"threshold": 1.2}, {"shingle": 0}, {"permutations": 0}, {"seed": -1}):
            with pytest.raises(UserError, match=f"{next(iter(arguments))} is"):
                NearDuplicates(**arguments)


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(UserError, match=r"pip install 'lit-gpt\[dedup\]'"):
        NearDuplicates()
