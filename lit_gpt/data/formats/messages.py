"""Messages of a conversation: the two common spellings, what each field says, which of them are trained on.

Knows records of messages as plain data. Does not know how a template lays them out.
"""

import json
from collections.abc import Callable
from typing import Any

from lit_gpt.data.formats.records import field_of
from lit_gpt.errors import UserError

Message = dict[str, Any]  # a role, mostly a content (a text, or a list of parts), and what else a template may read

#: Who speaks, as ShareGPT's records call them.
_SHARE_GPT = {"human": "user", "gpt": "assistant", "bot": "assistant", "function_response": "tool"}
_OTHER_FIELD = {"messages": "conversations", "conversations": "messages"}
#: Names under which a message holds what the assistant thought; the first is filled from the others.
REASONING = ("reasoning_content", "thinking", "reasoning")
_CALLS = ("tool_calls", "function_call")
#: Fields of a record that a template may print, besides its messages.
_AROUND = ("tools", "documents", "functions")


def messages_of(record: dict[str, Any], field: str, training: bool = False, parts: bool = False) -> list[Message]:
    """The messages of a record, each with its role and content, a system prompt in a field of its own ahead of them.

    Args:
        record: The record.
        field: Its field with the list; "conversations" where a record lacks "messages", and the other way round.
        training: Refuse what cannot be trained on: an empty answer, a weight other than 0 and 1.
        parts: Leave content that is a list of parts as it is; else their texts are joined.

    Raises:
        UserError: There are none, or one is malformed.
    """
    other = _OTHER_FIELD.get(field)
    messages = field_of(record, other if other in record and field not in record else field)
    if not isinstance(messages, list):
        raise UserError(
            f"field {field!r} is no list of messages; give the name of the field that is (data.format.field)"
        )
    made = checked(messages, field, training, parts)
    system = record.get("system")
    if system is None or system == "":
        return made
    if not isinstance(system, str):
        raise UserError("field 'system' is no text; give the system prompt as a text, or leave the field out")
    if made[0]["role"] != "system":
        return [{"role": "system", "content": system}, *made]
    if made[0].get("content") != system:
        raise UserError(f"field 'system' and the system message of {field!r} differ; leave one of them out")
    return made


def checked(messages: list[Any], field: str = "messages", training: bool = False, parts: bool = False) -> list[Message]:
    """Messages in the one spelling that templates know; see `messages_of`."""
    if not messages:
        raise UserError(f"field {field!r} is an empty list; there is no conversation")
    return [
        _message(one, f"message {number} of {field!r}", training, parts) for number, one in enumerate(messages, start=1)
    ]


def other_fields(record: dict[str, Any]) -> dict[str, Any]:
    """Fields of a record besides the messages that a template may print: tools, documents.

    Raises:
        UserError: The tools are no list of records.
    """
    found: dict[str, Any] = {}
    for name in _AROUND:
        value = record.get(name)
        if isinstance(value, str) and name != "documents":  # as ShareGPT's records and tables have them
            try:
                value = json.loads(value) if value.strip() else None
            except ValueError:
                raise UserError(f"field {name!r} is a text that is no JSON; give a list of records") from None
        listed = isinstance(value, list) and all(isinstance(one, dict) for one in value)
        if value and not listed and name != "documents":
            raise UserError(f"field {name!r} is no list of records; give one record for each, or leave it out")
        if value and listed:
            found[name] = value
    return found


def trained_on(message: Message) -> bool:
    """Whether a message is an answer to train on: the assistant's, unless its weight is 0."""
    return bool(message["role"] == "assistant" and message.get("weight") != 0)


def check_fields(
    messages: list[Message],
    others: dict[str, Any],
    has_place: Callable[[str], bool],
    text: Callable[[list[Message]], str],
    who: str,
) -> None:
    """Refuses fields that say something which would not be in the text.

    Args:
        messages: The conversation.
        others: Fields of the record, as of `other_fields`.
        has_place: Whether the template reads a field of this name.
        text: Messages as the template renders them.
        who: The template's name, for the error.

    Raises:
        UserError: A field has no place in the template.
    """
    advice = "leave the field out, or give a data.format.template that reads it"
    for name in others:
        if not has_place(name):
            raise UserError(f"{who} has no place for {name}; {advice}")
    called: set[str] = set()
    for number, message in enumerate(messages, start=1):
        called |= set(_called(message))
        if any(message.get(name) for name in REASONING) and not any(map(has_place, REASONING)):
            raise UserError(f"message {number} has {REASONING[0]}, for which {who} has no place; {advice}")
        for name in _CALLS:
            if message.get(name) and not has_place(name):
                raise UserError(f"message {number} has {name}, for which {who} has no place; {advice}")
        # The result of a call repeats the name of what was called.
        named = message.get("name") and not (message["role"] in ("tool", "function") and message["name"] in called)
        if named and not (has_place("name") and text(messages) != text(_nameless(messages, number))):
            raise UserError(f"message {number} has name, for which {who} has no place; {advice}")


def _nameless(messages: list[Message], number: int) -> list[Message]:
    """The messages, one of them without its name: what a call's name is read by says nothing of a speaker's."""
    others = {key: value for key, value in messages[number - 1].items() if key != "name"}
    return [*messages[: number - 1], others, *messages[number:]]


def _called(message: Message) -> list[str]:
    """Names of the functions that a message calls."""
    calls = message.get("tool_calls")
    calls = [*calls] if isinstance(calls, list) else []
    named = [one.get("function", one) for one in calls if isinstance(one, dict)] + [message.get("function_call")]
    return [one["name"] for one in named if isinstance(one, dict) and isinstance(one.get("name"), str)]


def _message(message: Any, name: str, training: bool, parts: bool) -> Message:
    if not isinstance(message, dict):
        raise UserError(f'{name} is no record; write {{"role": "user", "content": "..."}}')
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if not isinstance(role, str) or not role:
        raise UserError(f'{name} does not say whose it is; give it a "role" such as user or assistant')
    if "from" in message and "role" not in message:
        role = _SHARE_GPT.get(role, role)
    calls = any(message.get(one) for one in _CALLS)
    thinks = role == "assistant" and any(message.get(one) for one in REASONING)
    text = _text_of_parts(content, name) if isinstance(content, list) else content
    if text is not None and not isinstance(text, str) or text is None and not (calls or thinks):
        raise UserError(f'{name} ({role}) has no text; give it a "content" that is one')
    if training and role == "assistant" and not (text or "").strip() and not (calls or thinks):
        raise UserError(f"{name} ({role}) is empty; there is no answer to train on")
    if training:
        _check_weight(message.get("weight"), role, name)
    # A null field is one that is not there, as transformers has it: tables fill fields that a message lacks with null.
    rest = {
        key: value
        for key, value in message.items()
        if key not in ("role", "from", "content", "value") and value is not None
    }
    thoughts = next((message[key] for key in REASONING if message.get(key) is not None), None)
    if thoughts is not None:
        rest = {"thinking": thoughts, **rest, "reasoning_content": thoughts}
    given = {} if text is None else {"content": content if parts else text}
    return {"role": role, **given, **rest}


def _check_weight(weight: Any, role: str, name: str) -> None:
    if weight is None:
        return
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight not in (0, 1):
        raise UserError(f"{name} has weight {weight!r}; give 0 (not trained on) or 1")
    if weight and role != "assistant":
        raise UserError(f"{name} ({role}) has weight 1, but only the assistant's answers are trained on; leave it out")


def _text_of_parts(parts: list[Any], name: str) -> str:
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type", "text") != "text" or not isinstance(part.get("text"), str):
            raise UserError(
                f"{name} holds something other than text, which a text model cannot read; leave the record out"
            )
        texts.append(part["text"])
    return "".join(texts)
