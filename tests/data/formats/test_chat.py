"""Conversations: layout of the built-in templates, what is learned, what is refused, and that nothing can be forged."""

import inspect
import itertools
import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from segment_ids import check_encodes, ids_of, scored_text, text, tokenizers

from lit_gpt.config.registry import import_components
from lit_gpt.data.chunks import Segment
from lit_gpt.data.filters.filter import Filter
from lit_gpt.data.formats.chat import Chat
from lit_gpt.data.formats.chat_templates import ChatML, Gemma, Llama3, Markers, Phi3, Template, split
from lit_gpt.data.formats.format import Format
from lit_gpt.data.tokenizers.byte_and_char import Byte
from lit_gpt.errors import UserError

TURNS = [
    {"role": "user", "content": "Hi."},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": " And now? "},
    {"role": "assistant", "content": "Now bye."},
]
WITH_SYSTEM = [{"role": "system", "content": "Be brief."}, *TURNS]
BUILT_IN = [ChatML, Llama3, Gemma, Phi3]


def test_chatml_is_laid_out_as_its_authors_have_it() -> None:
    segments = Chat().segments({"messages": WITH_SYSTEM}, 0)
    assert text(segments) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\n And now? <|im_end|>\n"
        "<|im_start|>assistant\nNow bye.<|im_end|>\n"
    )
    assert scored_text(segments) == "Hello!<|im_end|>Now bye.<|im_end|>"


def test_the_other_layouts() -> None:
    def row(template: type[Template], messages: list[dict[str, str]] = TURNS[:2]) -> str:
        return text(Chat(template=template).segments({"messages": messages}, 0))

    assert row(Llama3) == (
        "<|start_header_id|>user<|end_header_id|>\n\nHi.<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
    )
    assert row(Gemma) == "<start_of_turn>user\nHi.<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n"
    assert row(Phi3) == "<|user|>\nHi.<|end|>\n<|assistant|>\nHello!<|end|>\n"
    assert "\n\nAnd now?<|eot_id|>" in row(Llama3, TURNS)


@pytest.mark.parametrize("template", BUILT_IN)
def test_answers_and_what_ends_them_are_learned_and_nothing_else(template: type[Template]) -> None:
    format = Chat(template=template)
    segments = format.segments({"messages": TURNS}, 0)
    end = format.stops[0]
    assert scored_text(segments) == f"Hello!{end}Now bye.{end}"
    check_encodes(format, segments)
    assert pickle.loads(pickle.dumps(format)).segments({"messages": TURNS}, 0) == segments


@pytest.mark.parametrize("template", BUILT_IN)
def test_user_text_that_spells_a_special_token_is_ordinary_text(template: type[Template]) -> None:
    format = Chat(template=template)
    for name in format.special_tokens:
        forged = [{"role": "user", "content": f"a{name}b"}, {"role": "assistant", "content": f"{name}yes"}]
        honest = [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "yes"}]
        segments, expected = (format.segments({"messages": one}, 0) for one in (forged, honest))
        assert [segment for segment in segments if segment.special] == [
            segment for segment in expected if segment.special
        ]
        check_encodes(format, segments)


def test_the_prompt_of_an_answer_is_a_beginning_of_the_whole() -> None:
    for template in BUILT_IN:
        format = Chat(template=template)
        whole = text(format.segments({"messages": TURNS}, 0))
        assert whole.startswith(asked := text(format.question({"messages": TURNS[:3]})))
        assert whole[len(asked) :].startswith("Now bye.")
        assert format.question({"messages": TURNS}) == format.question({"messages": TURNS[:3]})
        assert not any(segment.trained for segment in format.question({"messages": TURNS[:1]}))


def test_an_answer_ends_where_the_marker_after_it_begins() -> None:
    plain = Chat(template=lambda: Markers("{role}: ", "\n\n", special=[]))
    assert (plain.stops, plain.stop_texts) == ([], ["\n\n"])
    assert all(
        (Chat(template=one).stops, Chat(template=one).stop_texts) == (Chat(template=one).stops[:1], [])
        for one in BUILT_IN
    )
    with pytest.raises(UserError, match="has only an answer"):
        plain.question({"messages": TURNS[1:2]})


def test_the_records_of_share_gpt() -> None:
    turns = [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello!"}]
    assert Chat().segments({"conversations": turns}, 0) == Chat().segments({"messages": TURNS[:2]}, 0)
    assert Chat("talk").segments({"talk": turns}, 0) == Chat().segments({"messages": TURNS[:2]}, 0)


def test_content_in_parts_is_joined_where_it_is_text() -> None:
    parts = [{"type": "text", "text": "He"}, {"type": "text", "text": "llo!"}]
    turns = [TURNS[0], {"role": "assistant", "content": parts}]
    assert Chat().segments({"messages": turns}, 0) == Chat().segments({"messages": TURNS[:2]}, 0)
    with pytest.raises(UserError, match="message 1 of 'messages' holds something other than text"):
        Chat().segments({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, 0)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"text": "a"}, "there is no field 'messages'; there are 'text'"),
        ({"messages": "Hi."}, "field 'messages' is not a list of messages"),
        ({"messages": []}, "field 'messages' is an empty list"),
        ({"messages": ["Hi."]}, "message 1 of 'messages' is not a record"),
        ({"messages": [{"content": "Hi."}]}, "has no role"),
        ({"messages": [{"role": "user"}]}, "message 1 of 'messages' (user) has no text"),
        ({"messages": [{"role": "user", "content": 5}]}, "has no text"),
        ({"messages": [TURNS[0], {"role": "assistant", "content": " "}]}, "message 2 of 'messages' (assistant)"),
        ({"messages": TURNS[:1]}, "no message of the assistant"),
        ({"messages": [{"role": "wizard", "content": "a"}, TURNS[1]]}, "has role 'wizard'; ChatML knows system"),
        ({"messages": [{**TURNS[1], "tool_calls": [{}]}]}, "message 1 has tool_calls, which ChatML does not read"),
        ({"messages": TURNS, "tools": [{}]}, "the record has tools, which ChatML does not read"),
        ("Hi.", "Chat lays out records with fields, not plain text"),
    ],
)  # fmt: skip
def test_what_is_no_conversation_is_told_in_one_line(record: Any, says: str) -> None:
    with pytest.raises(UserError) as told:
        Chat().segments(record, 0)
    assert says in str(told.value)
    assert "\n" not in str(told.value)


def test_gemma_has_no_turn_of_the_system() -> None:
    with pytest.raises(UserError, match="Gemma knows user, assistant"):
        Chat(template=Gemma).segments({"messages": WITH_SYSTEM}, 0)


def test_markers_of_ones_own() -> None:
    own = Markers("<|im_start|>{role}\n", "<|im_end|>\n", ["<|im_start|>", "<|im_end|>"])
    assert Chat(template=own).segments({"messages": TURNS}, 0) == Chat().segments({"messages": TURNS}, 0)
    plain = Chat(template=Markers("{role}: ", "\n", []))
    assert scored_text(plain.segments({"messages": TURNS}, 0)) == "Hello!\nNow bye.\n"
    assert plain.special_tokens == plain.stops == []
    with pytest.raises(UserError, match="an answer would have no end"):
        Markers("{role}: ", "")


def test_markers_take_the_special_tokens_that_the_tokenizer_has() -> None:
    tokenizer = tokenizers(["<|im_start|>", "<|im_end|>", "<other>"])[0]
    format = Chat(template=Markers("<|im_start|>{role}\n", "<|im_end|>\n")).for_tokenizer(tokenizer)
    assert format.special_tokens == ["<|im_start|>", "<|im_end|>"]
    assert format.segments({"messages": TURNS}, 0) == Chat().segments({"messages": TURNS}, 0)


def test_an_eos_that_is_put_around_the_document_is_not_put_in_it() -> None:
    tokenizer = Byte(eos="<|im_end|>", bos="<|im_start|>", special=["<|im_start|>"])
    format = Chat().for_tokenizer(tokenizer)
    segments = format.segments({"messages": TURNS}, 0)
    assert segments[0] == Segment("user\nHi.", trained=False)  # this tokenizer's bos is what ChatML begins with
    assert segments[-1] == Segment("Now bye.")
    unanswered = format.segments({"messages": TURNS[:3]}, 0)
    assert unanswered[-2:] == [Segment("<|im_end|>", True, False), Segment("\n", trained=False)]


def test_configuration_names_the_template() -> None:
    chat = Chat(template=Markers("{role}: ", "\n", [])).configuration()
    assert chat["init_args"]["field"] == "messages"
    assert chat["init_args"]["template"]["init_args"] == {"before": "{role}: ", "after": "\n", "special": []}
    assert Chat().configuration()["init_args"]["template"] == {
        "class_path": "lit_gpt.data.ChatML", "init_args": {}
    }  # fmt: skip
    assert Chat().configuration() != Chat(template=Llama3).configuration()


@given(st.lists(st.text("<|im_endstar>\n ", max_size=30), min_size=1, max_size=4))
def test_no_message_brings_in_a_special_token(messages: list[str]) -> None:
    turns = [
        {"role": "user" if number % 2 else "assistant", "content": f"{one}x"} for number, one in enumerate(messages)
    ]
    format = Chat()
    segments = format.segments({"messages": turns}, 0)
    assert sum(segment.special for segment in segments) == 2 * len(turns)
    tokenizer = Byte(special=format.special_tokens)
    tokenizer.train([])
    assert sum(id >= 256 for id in ids_of(segments, tokenizer)) - sum(
        id >= 256 for segment in segments if not segment.special for id in tokenizer.encode(segment.text)
    ) == 2 * len(turns)
    assert scored_text(segments) == "".join(f"{t['content']}<|im_end|>" for t in turns if t["role"] == "assistant")


def test_split_takes_the_longest_name() -> None:
    assert [segment.text for segment in split("a<b><b>>c", ["<b>", "<b>>"])] == ["a", "<b>", "<b>>", "c"]
    assert split("", ["<b>"]) == []
    assert split("a", []) == [Segment("a")]


@pytest.mark.parametrize("base", [Format, Filter, Template])
def test_siblings_agree_on_shared_arguments_and_say_what_each_does(base: type) -> None:
    """Changing the class on the command line keeps same-named arguments."""
    classes = [cls for cls in subclasses(base) if "__init__" in vars(cls)]
    assert len(classes) >= 2
    for one, other in itertools.combinations(classes, 2):
        mine, theirs = (inspect.signature(cls.__init__).parameters for cls in (one, other))
        for name in (mine.keys() & theirs.keys()) - {"self"}:
            a, b = mine[name], theirs[name]
            assert (a.default, a.annotation) == (b.default, b.annotation), (one, other, name)
    for cls in classes:
        for name in list(inspect.signature(cls.__init__).parameters)[1:]:
            assert f"    {name}: " in (cls.__doc__ or ""), f"{cls.__name__} does not document {name}"


def subclasses(base: type) -> list[type]:
    """All classes of this package below a base."""
    import_components()
    below = [cls for child in base.__subclasses__() for cls in (child, *subclasses(child))]
    return [cls for cls in below if cls.__module__.startswith("lit_gpt.")]


def test_forms_need_no_torch() -> None:
    names = "Chat, ChatML, FillInTheMiddle, Jinja, Seq2Seq, Length, NearDuplicates, Language"
    code = f"import sys; from lit_gpt.data import {names}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
