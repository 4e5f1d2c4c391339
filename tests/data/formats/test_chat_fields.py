"""Fields of messages and records besides role and content: each is honored or refused, none is passed over."""

from typing import Any

import pytest
from own_templates import TEMPLATES, TOOLS, unmarked
from segment_ids import scored_text, text

from lit_gpt.data.formats.chat import Chat
from lit_gpt.data.formats.chat_templates import Llama3
from lit_gpt.data.formats.jinja_template import Jinja
from lit_gpt.errors import UserError

USER, ANSWER = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello!"}
MORE = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "Bye."}]


def jinja(name: str, marked: bool = False, **more: Any) -> Chat:
    source, special = TEMPLATES[name]
    made = Jinja(source if marked else unmarked(source), [one.rstrip("~") for one in special])
    made._token_variables = {"bos_token": "<s>", "eos_token": "</s>"}
    return Chat(template=made, **more)


@pytest.mark.parametrize("format", [Chat(), Chat(template=Llama3), jinja("thinks"), jinja("thinks", marked=True)])
def test_weight_0_is_read_and_not_trained_on(format: Chat) -> None:
    plain = [USER, ANSWER, *MORE]
    weighed = [USER, {**ANSWER, "weight": 0}, MORE[0], {**MORE[1], "weight": 1}]
    whole, part = (format.segments({"messages": one}, 0) for one in (plain, weighed))
    assert text(whole) == text(part)
    assert scored_text(whole).startswith("Hello!")
    assert scored_text(part) == scored_text(whole).removeprefix(f"Hello!{format.stops[0]}")
    with pytest.raises(UserError, match="each message of the assistant has weight 0"):
        format.segments({"messages": [USER, {**ANSWER, "weight": 0}]}, 0)


def test_weight_0_within_a_turn_of_several_messages() -> None:
    turns = [USER, ANSWER, {**ANSWER, "content": "How are you?", "weight": 0}, *MORE]
    assert scored_text(jinja("joins").segments({"messages": turns}, 0)) == "Hello!Bye.<|im_end|>"
    turns[1], turns[2] = {**turns[1], "weight": 0.0}, {**turns[2], "weight": 1}
    assert scored_text(jinja("joins").segments({"messages": turns}, 0)) == "\n\nHow are you?<|im_end|>Bye.<|im_end|>"


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ({**ANSWER, "weight": 0.5}, "message 2 of 'messages' has weight 0.5; give 0 (not trained on) or 1"),
        ({**ANSWER, "weight": True}, "has weight True"),
        ({**ANSWER, "reasoning_content": "hm"}, "message 2 has reasoning_content, which ChatML does not read"),
        ({**ANSWER, "thinking": "hm"}, "message 2 has reasoning_content, which ChatML does not read"),
        ({**ANSWER, "function_call": {"name": "f"}}, "message 2 has function_call, which ChatML does not read"),
        ({**ANSWER, "tool_calls": [{"name": "f"}]}, "message 2 has tool_calls, which ChatML does not read"),
        ({**ANSWER, "name": "Ann"}, "message 2 has name, which ChatML does not read"),
    ],
)  # fmt: skip
def test_a_field_without_a_place_is_refused(message: Any, says: str) -> None:
    with pytest.raises(UserError) as caught:
        Chat().segments({"messages": [USER, message]}, 0)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    empty = {key: value if key in ANSWER or key == "weight" else type(value)() for key, value in message.items()}
    if "weight" not in message:  # a field that is there and says nothing
        assert Chat().segments({"messages": [USER, empty]}, 0) == Chat().segments({"messages": [USER, ANSWER]}, 0)


def test_a_weight_of_a_question_is_refused() -> None:
    assert Chat().segments({"messages": [{**USER, "weight": 0}, ANSWER]}, 0)
    with pytest.raises(UserError, match="message 1 of 'messages' .user. has weight 1, but only the assistant's"):
        Chat().segments({"messages": [{**USER, "weight": 1}, ANSWER]}, 0)


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning"])
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("thinks", "<think>\nhm\n</think>\n\nHello!<|im_end|>"),
        ("channels", "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello!<|return|>"),  # noqa: E501
    ],
)  # fmt: skip
def test_thoughts_have_their_place_under_every_name(template: str, expected: str, name: str) -> None:
    for marked in (False, True):
        segments = jinja(template, marked).segments({"messages": [USER, {**ANSWER, name: "hm"}]}, 0)
        assert scored_text(segments) == expected


def test_thoughts_that_later_turns_leave_out_are_no_part_of_them() -> None:
    turns = [USER, {**ANSWER, "reasoning_content": "hm"}, *MORE]
    for name, expected in (
        ("thinks", "Hello!<|im_end|><think>\n\n</think>\n\nBye.<|im_end|>"),
        ("channels", "<|channel|>final<|message|>Hello!<|end|><|channel|>final<|message|>Bye.<|return|>"),
    ):
        for marked in (False, True):
            assert scored_text(jinja(name, marked).segments({"messages": turns}, 0)) == expected


def test_calls_and_speakers_have_their_place() -> None:
    call = {"name": "f", "arguments": '{"a": 1}'}
    turns = [USER, {"role": "assistant", "content": None, "function_call": call}]
    assert scored_text(jinja("joins").segments({"messages": turns}, 0)) == '<call>f {"a": 1}<|im_end|>'
    named = [{**USER, "name": "Ann"}, ANSWER]
    assert text(jinja("parts").segments({"messages": named}, 0)).startswith("<s><turn>user (Ann)\nHi.")
    # The result of a call repeats a name that the conversation has already.
    tools = [USER, {**ANSWER, "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]
    tools += [{"role": "tool", "content": "1", "name": "f"}, ANSWER]
    assert "Hello!" in scored_text(jinja("thinks").segments({"messages": tools}, 0))
    tools[2] = {**tools[2], "name": "g"}
    assert "message 2 has name, which" in refusal(jinja("dated"), {"messages": [*tools[:1], *tools[2:]]})


def refusal(format: Chat, record: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        format.segments(record, 0)
    return str(caught.value)


def test_the_system_prompt_of_a_record_goes_ahead() -> None:
    record = {"system": "Be brief.", "conversations": [{"from": "human", "value": "Hi."}, ANSWER]}
    expected = Chat().segments({"messages": [{"role": "system", "content": "Be brief."}, USER, ANSWER]}, 0)
    assert Chat().segments(record, 0) == expected
    assert text(Chat().question(record)).startswith("<|im_start|>system\nBe brief.")
    same = {"system": "Be brief.", "messages": [{"role": "system", "content": "Be brief."}, USER, ANSWER]}
    assert Chat().segments(same, 0) == expected
    assert "differ; remove one of them" in refusal(Chat(), {**same, "system": "Be long."})
    assert "field 'system' is not a text" in refusal(Chat(), {**same, "system": ["a"]})
    for nothing in (None, ""):
        assert Chat().segments({"system": nothing, "messages": [USER, ANSWER]}, 0) == Chat().segments(
            {"messages": [USER, ANSWER]}, 0
        )


def test_tools_and_documents_are_printed_or_refused() -> None:
    record = {"messages": [USER, ANSWER], "tools": TOOLS}
    assert "weather" in text(jinja("thinks").segments(record, 0))
    listed = '[{"name": "weather"}]'  # as ShareGPT's records have them
    assert '{"name": "weather"}\n' in text(jinja("thinks").segments({**record, "tools": listed}, 0))
    assert "has tools, which the chat template does not read" in refusal(jinja("reads"), record)
    assert "field 'tools' is a text but not JSON" in refusal(jinja("thinks"), {**record, "tools": "weather"})
    assert "field 'tools' is not a list of records" in refusal(jinja("thinks"), {**record, "tools": "[1]"})
    documents = {"messages": [USER, ANSWER], "documents": [{"title": "A", "text": "b"}]}
    assert text(jinja("reads").segments(documents, 0)).startswith("<results>\n1. A: b\n</results>\n### User:")
    assert "has documents, which ChatML does not read" in refusal(Chat(), documents)
    assert Chat().segments({**documents, "documents": "a.txt"}, 0) == Chat().segments({"messages": [USER, ANSWER]}, 0)
    # Without a place for them the question is asked all the same, as transformers asks it.
    assert "### Assistant:" in text(jinja("reads").question(record))


def test_a_field_that_is_null_is_not_there() -> None:
    turns = [{**one, "tool_calls": None, "name": None, "reasoning_content": None} for one in (USER, ANSWER)]
    for format in (Chat(), jinja("thinks"), jinja("trims"), jinja("parts")):
        assert format.segments({"messages": turns}, 0) == format.segments({"messages": [USER, ANSWER]}, 0)


def test_content_in_parts_reaches_templates_that_read_them() -> None:
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo!"}]
    turns = [{**USER, "content": parts}, {**ANSWER, "content": parts}]
    assert text(jinja("parts").segments({"messages": turns}, 0)) == (
        "<s><turn>user\nHel / lo!</turn>\n<turn>assistant\nHel / lo!</turn>\n"
    )
    assert scored_text(jinja("parts").segments({"messages": turns}, 0)) == "Hel / lo!</turn>"
    assert "Hello!<|im_end|>" in text(jinja("thinks").segments({"messages": turns}, 0))


def test_asking_needs_nothing_that_training_needs() -> None:
    """Empty answers of the past, weights, fields without a place: a question is laid out as it is."""
    turns = [USER, {"role": "assistant", "content": "", "weight": 0.5, "reasoning_content": "hm"}, MORE[0]]
    assert text(Chat().question({"messages": turns})).endswith("And?<|im_end|>\n<|im_start|>assistant\n")
    twice = "{% for m in messages %}[{{ m.role }}]{{ m.content + m.content }}{% endfor %}[assistant]"
    format = Chat(template=Jinja(twice, ["[user]", "[assistant]"]))
    assert text(format.question({"messages": [USER, ANSWER, MORE[0]]})).endswith("[user]And?And?[assistant]")
    assert format.stops == []
    refuses = "{{ raise_exception('a system prompt is needed') if messages[0].role != 'system' }}a"
    assert Chat(template=Jinja(refuses, ["[user]"])).stops == []
