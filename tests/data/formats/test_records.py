"""Instructions, labeled texts, pairs: what stands in the row, and that only the answer is learned."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from segment_ids import check_encodes, scored_text, text

from lit_gpt.data import Csv
from lit_gpt.data.chunks import Segment
from lit_gpt.data.formats.format import Format, PlainText, joined
from lit_gpt.data.formats.records import END, Instruction, Labeled, Seq2Seq, filled
from lit_gpt.data.tokenizers.byte_and_char import Byte
from lit_gpt.errors import UserError

TASK = {"instruction": "Add.", "input": "2 and 3", "output": "5"}


def test_instruction_is_alpacas_and_trains_on_answers_only() -> None:
    format = Instruction()
    segments = format.segments(TASK, 0)
    assert text(segments).endswith("### Instruction:\nAdd.\n\n### Input:\n2 and 3\n\n### Response:\n5")
    assert scored_text(segments) == "5"
    check_encodes(format, segments)


@pytest.mark.parametrize(
    "record", [{**TASK, "input": ""}, {**TASK, "input": None}, {"instruction": "Add.", "output": "5"}]
)
def test_a_task_without_context_gets_the_wording_for_it(record: dict[str, Any]) -> None:
    segments = Instruction().segments(record, 0)
    assert "Input" not in text(segments)
    assert text(segments).endswith("### Instruction:\nAdd.\n\n### Response:\n5")


def test_own_fields_and_own_wording() -> None:
    format = Instruction("q", "about", "a", wording="{about} | {prompt} | {level} {{x}}:", wording_alone="{prompt}:")
    record = {"q": "Why?", "a": "So.", "about": "rain", "level": 3}
    assert format.segments(record, 0) == [Segment("rain | Why? | 3 {x}:", trained=False), Segment("So.")]
    assert format.segments({**record, "about": " "}, 0)[0].text == "Why?:"


def test_a_wording_with_a_gap_for_the_context_needs_one_without() -> None:
    with pytest.raises(UserError, match="wording_alone"):
        Instruction(wording="{context} {prompt}")


@given(st.dictionaries(st.sampled_from(["instruction", "input", "output"]), st.text(min_size=1), min_size=3))
def test_what_a_record_says_is_never_taken_for_a_gap(record: dict[str, str]) -> None:
    marked = {key: f"{value}x{{prompt}}{{{{" for key, value in record.items()}
    segments = Instruction().segments(marked, 0)
    assert marked["instruction"] in segments[0].text
    assert segments[1] == Segment(marked["output"])


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"instruction": "Add."}, "there is no field 'output'; there are 'instruction'; data.format names"),
        ({**TASK, "output": "  "}, "field 'output' is empty; there is no answer to train on"),
        ({**TASK, "output": None}, "field 'output' is null"),
        ({**TASK, "output": ["5"]}, "field 'output' is a list, not a text"),
        ({**TASK, "output": 5}, "field 'output' is the number 5, not a text"),
        ({**TASK, "instruction": ""}, "field 'instruction' is empty"),
        ("only text", "Instruction lays out records with fields, not plain text"),
    ],
)
def test_a_record_that_is_none_is_told_in_one_line(record: Any, says: str) -> None:
    with pytest.raises(UserError) as told:
        Instruction().segments(record, 0)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_a_gap_without_a_field_names_the_fields() -> None:
    with pytest.raises(UserError, match=r"placeholder \{txt\}; there are text, label"):
        Labeled(wording="{txt}").segments({"text": "a", "label": "b"}, 0)
    with pytest.raises(UserError, match="a list, which does not fit"):
        filled("{a}", {"a": []}, "wording")


@pytest.mark.parametrize(("label", "spelled"), [(1, "good"), (True, "good"), (0, "bad"), ("good", "good")])
def test_labels_are_spelled_by_their_names(label: Any, spelled: str) -> None:
    format = Labeled(names=["bad", "good"])
    segments = format.segments({"text": "I liked it.", "label": label}, 0)
    assert segments == [Segment("I liked it.\nLabel:", trained=False), Segment(f" {spelled}")]
    check_encodes(format, segments)


def test_numbers_that_a_csv_spells_have_names_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nfine,1\npoor,0\n")
    format = Labeled(names=["bad", "good"])
    answers = [format.segments(record, 0)[-1].text for record in Csv(str(tmp_path / "a.csv"), None)]
    assert answers == [" good", " bad"]
    assert Labeled(names=["1", "0"]).segments({"text": "a", "label": "1"}, 0)[-1].text == " 1"  # a name goes first
    for label in ("2", "-1", "01", "1.0", "²"):
        with pytest.raises(UserError, match="not among data.format.names"):
            format.segments({"text": "a", "label": label}, 0)


def test_labels_without_names_and_in_other_fields() -> None:
    assert Labeled().segments({"text": "a", "label": 3}, 0)[1].text == " 3"
    format = Labeled("review", "stars", wording="{text}\nStars:")
    assert text(format.segments({"review": "a", "stars": "five"}, 0)) == "a\nStars: five"


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (2, "has names for 0 to 1"), (-1, "has names for 0 to 1"), ("goood", "not among data.format.names"),
        (0.5, "a label is a text or a whole number"), ("", "is empty"), (None, "is null"),
    ],
)  # fmt: skip
def test_a_label_that_is_none_is_refused(label: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Labeled(names=["bad", "good"]).segments({"text": "a", "label": label}, 0)


def test_names_have_to_be_names() -> None:
    for names in ([], ["a", ""]):
        with pytest.raises(UserError, match="one name for each label"):
            Labeled(names=names)


def test_source_and_target_are_on_lines_or_around_a_token() -> None:
    record = {"source": "ein Hund", "target": "a dog"}
    assert Seq2Seq().segments(record, 0) == [Segment("ein Hund\n", trained=False), Segment("a dog")]
    format = Seq2Seq(separator_token="<sep>")
    segments = format.segments(record, 0)
    assert segments == [Segment("ein Hund", trained=False), Segment("<sep>", True, False), Segment("a dog")]
    check_encodes(format, segments)
    check_encodes(format, format.segments({"source": "say <sep> twice", "target": "<sep>"}, 0))
    assert text(Seq2Seq(separator=" = ").segments(record, 0)) == "ein Hund = a dog"


def test_one_separator_and_none_that_is_empty() -> None:
    with pytest.raises(UserError, match="`separator` and `separator_token`"):
        Seq2Seq(separator="|", separator_token="<sep>")
    for empty in ({"separator": ""}, {"separator_token": ""}):
        with pytest.raises(UserError, match="empty separator"):
            Seq2Seq(**empty)
    with pytest.raises(UserError, match="there is no target"):
        Seq2Seq().segments({"source": "a", "target": ""}, 0)


@pytest.mark.parametrize("format", [Instruction(), Labeled(names=["a"]), Seq2Seq(separator_token="<s>"), PlainText()])
def test_forms_travel_to_other_processes_and_say_what_they_are(format: Format) -> None:
    again = pickle.loads(pickle.dumps(format))
    assert again.configuration() == format.configuration()
    assert again.configuration()["class_path"].endswith(type(format).__name__)


def test_neighbors_that_are_alike_are_joined() -> None:
    a, b, c = Segment("a", trained=False), Segment("b", trained=False), Segment("c")
    assert joined([a, b, Segment(""), c, Segment("c", special=True), c]) == [
        Segment("ab", trained=False), c, Segment("c", special=True), c
    ]  # fmt: skip


FIELDS = [
    (Instruction(), ("instruction", "input"), "output"),
    (Instruction("q", "c", "a", "{c}|{q}|", "{q}|"), ("q", "c"), "a"),
    (Labeled(), ("text",), "label"),
    (Seq2Seq(), ("source",), "target"),
    (Seq2Seq(separator_token="<sep>"), ("source",), "target"),
]
_said = st.text(min_size=1).filter(lambda said: said.strip())


@given(st.data())
@pytest.mark.parametrize(("format", "asked", "answer"), FIELDS)
def test_a_question_is_all_that_stands_ahead_of_the_answer(
    format: Format, asked: tuple[str, ...], answer: str, data: st.DataObject
) -> None:
    record = {name: data.draw(_said) for name in (*asked, answer)}
    segments = format.segments(record, 0)
    without = {name: record[name] for name in asked}
    assert (
        format.question(without) == format.question(record) == [segment for segment in segments if not segment.trained]
    )
    assert set(format.example or {}) == set(asked)
    with pytest.raises(UserError, match=f"no field '{asked[0]}'"):
        format.question({answer: "b"})


@pytest.mark.parametrize("format", [format for format, _, _ in FIELDS])
def test_an_answer_has_an_end_whatever_the_tokenizer(format: Format) -> None:
    record = {"instruction": "a", "q": "a", "text": "a", "source": "a", "label": "b", "target": "b"}
    record |= {"output": "b", "a": "b"}
    ended = format.for_tokenizer(Byte())
    assert ended.stops == [END] and END in ended.special_tokens
    assert ended.segments(record, 0) == [*format.segments(record, 0), Segment(END, special=True)]
    check_encodes(ended, ended.segments(record, 0))
    # eos ends a document anyway, so nothing is put ahead of it.
    own = ended.for_tokenizer(Byte(eos="</s>"))
    assert own.stops == [] and END not in own.special_tokens and own.segments(record, 0) == format.segments(record, 0)
    assert format.configuration() == ended.configuration()
