"""Fill in the middle: nothing is lost, the cuts are even, and what is drawn is the same everywhere."""

import pickle
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from segment_ids import check_encodes

from lit_gpt.data.chunks import Segment
from lit_gpt.data.formats.fill_in import FillInTheMiddle
from lit_gpt.errors import UserError

PREFIX, MIDDLE, SUFFIX = "<fim_prefix>", "<fim_middle>", "<fim_suffix>"


def parts(segments: list[Segment]) -> tuple[str, str, str, str]:
    """Sampler, and what stands before, within and after the gap; read from the special tokens alone."""
    if not segments or not segments[0].special:
        return "plain", "", "".join(segment.text for segment in segments), ""
    texts: dict[str, list[str]] = {}
    for segment in segments:
        if segment.special:
            last = texts.setdefault(segment.text, [])
        else:
            last.append(segment.text)
    names = [segment.text for segment in segments if segment.special]
    assert sorted(names) == sorted([PREFIX, MIDDLE, SUFFIX])
    assert all(segment.trained for segment in segments)
    if names[1] == SUFFIX and segments[1].special:  # at once behind the prefix's token: SPM, or PSM with nothing ahead
        return "suffix first", "", "".join(texts[MIDDLE]), "".join(texts[SUFFIX])
    return "prefix first", "".join(texts[PREFIX]), "".join(texts[MIDDLE]), "".join(texts[SUFFIX])


@given(st.text(max_size=60), st.integers(0, 10_000), st.floats(0, 1))
def test_no_character_is_lost_or_moved_within_its_part(content: str, number: int, spm_rate: float) -> None:
    _, before, middle, after = parts(FillInTheMiddle(rate=1, spm_rate=spm_rate).segments(content, number))
    assert before + middle + after == content


def test_rates_and_places_are_even() -> None:
    format = FillInTheMiddle(rate=0.5, spm_rate=0.25)
    content = "".join(chr(97 + place) for place in range(9))
    count = 20_000
    rows = [format.segments(content, number) for number in range(count)]
    orders = Counter(
        "plain" if len(segments) == 1 else "spm" if segments[1].text == SUFFIX else "psm" for segments in rows
    )
    # An empty prefix makes 1 - (9/10)^2 of the PSM rows look like SPM ones.
    looks_so = 0.25 + 0.75 * 0.19
    assert abs(orders["plain"] / count - 0.5) < 0.015
    assert abs(orders["spm"] / count - 0.5 * looks_so) < 0.015
    whole = FillInTheMiddle(rate=1, spm_rate=0)
    lengths = [len(parts(whole.segments(content, number))[2]) for number in range(count)]
    # Two places drawn of ten: the middle is |i - j| long.
    expected = sum(abs(i - j) for i in range(10) for j in range(10)) / 100
    assert abs(sum(lengths) / count - expected) < 0.06
    assert set(lengths) == set(range(10))


def test_rate_none_and_all() -> None:
    assert all(FillInTheMiddle(rate=0).segments("abc", number) == [Segment("abc")] for number in range(50))
    assert all(len(FillInTheMiddle(rate=1).segments("abc", number)) > 3 for number in range(50))


def test_suffix_first_has_the_layout_of_the_paper() -> None:
    format = FillInTheMiddle(rate=1, spm_rate=1)
    segments = next(segments for number in range(99) if len(segments := format.segments("abcdefgh", number)) == 6)
    assert [segment.text for segment in segments if segment.special] == [PREFIX, SUFFIX, MIDDLE]
    assert [segment.special for segment in segments] == [True, True, False, True, False, False]
    assert segments[4].text + segments[5].text + segments[2].text == "abcdefgh"
    check_encodes(format, segments)
    check_encodes(format, format.segments("text that says <fim_middle> itself", 1))


def test_only_seed_and_number_decide() -> None:
    def rows(seed: int) -> list[list[Segment]]:
        return [FillInTheMiddle(seed=seed).segments("a short text", number) for number in range(40)]

    assert rows(3) == rows(3)
    assert rows(3) != rows(4)
    assert pickle.loads(pickle.dumps(FillInTheMiddle(seed=3))).segments("a short text", 7) == rows(3)[7]
    code = (
        "from lit_gpt.data.formats.fill_in import FillInTheMiddle as F; import sys;"
        "print([F(seed=3).segments('a short text', n) for n in range(40)] , 'torch' in sys.modules)"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONHASHSEED": "7"})
    assert other.stdout.strip() == f"{rows(3)} False"


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="rate is 1.5"):
        FillInTheMiddle(rate=1.5)
    with pytest.raises(UserError, match="spm_rate is -1"):
        FillInTheMiddle(spm_rate=-1)
    with pytest.raises(UserError, match="three different names"):
        FillInTheMiddle(middle=PREFIX)
    with pytest.raises(UserError, match="data.source.field"):
        FillInTheMiddle().segments({"content": "x"}, 0)


def test_a_gap_in_a_record_is_asked_for_in_the_layout_of_training() -> None:
    format, text = FillInTheMiddle(rate=1, spm_rate=0), "one two three"
    before, after = (format.segments(text, 3)[place].text for place in (1, 3))
    asks = format.question({"before": before, "after": after})
    assert asks == format.segments(text, 3)[: len(asks)] and asks[-1] == Segment(format.middle, special=True)
    assert set(format.example) == {"before", "after"}
    with pytest.raises(UserError, match="no field 'after'"):
        format.question({"before": "a"})
