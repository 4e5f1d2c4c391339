"""Messages of a conversation: reads OpenAI's and ShareGPT's records and checks their fields."""

import json
from collections.abc import Callable
from typing import Any

from lit_gpt.data.formats.records import field_of
from lit_gpt.errors import UserError

Message = dict[str, Any]  # role, usually content (a text, or a list of parts), and other fields that a template reads

#: Roles of ShareGPT's records.
_SHARE_GPT = {"human": "user", "gpt": "assistant", "bot": "assistant", "function_response": "tool"}
_OTHER_FIELD = {"messages": "conversations", "conversations": "messages"}
#: Fields of a message for the assistant's reasoning; the first is filled from the others.
REASONING = ("reasoning_content", "thinking", "reasoning")
_CALLS = ("tool_calls", "function_call")
#: Fields of a record that a template may print, besides its messages.
_OTHER_FIELDS = ("tools", "documents", "functions")


def messages_of(record: dict[str, Any], field: str, training: bool = False, parts: bool = False) -> list[Message]:
    """The messages of a record with role and content; the record's field "system" becomes the first message.

    Args:
        record: The record.
        field: Field of the list; "conversations" where a record lacks "messages", and vice versa.
        training: Refuse messages that cannot be trained on: an empty answer, a weight other than 0 and 1.
        parts: Keep content that is a list of parts; otherwise their texts are joined.

    Raises:
        UserError: There is no message, or one is malformed.
    """
    other = _OTHER_FIELD.get(field)
    messages = field_of(record, other if other in record and field not in record else field)
    if not isinstance(messages, list):
        raise UserError(
            f"field {field!r} is not a list of messages; give the name of the field that is (data.format.field)"
        )
    messages = checked(messages, field, training, parts)
    system = record.get("system")
    if system is None or system == "":
        return messages
    if not isinstance(system, str):
        raise UserError("field 'system' is not a text; give the system prompt as a text, or remove the field")
    if messages[0]["role"] != "system":
        return [{"role": "system", "content": system}, *messages]
    if messages[0].get("content") != system:
        raise UserError(f"field 'system' and the system message of {field!r} differ; remove one of them")
    return messages


def checked(messages: list[Any], field: str = "messages", training: bool = False, parts: bool = False) -> list[Message]:
    """Messages as templates expect them; see `messages_of`."""
    if not messages:
        raise UserError(f"field {field!r} is an empty list; there is no conversation")
    return [
        _message(message, f"message {number} of {field!r}", training, parts)
        for number, message in enumerate(messages, start=1)
    ]


def other_fields(record: dict[str, Any]) -> dict[str, Any]:
    """Fields of a record besides the messages that a template may print: tools, documents.

    Raises:
        UserError: The tools are not a list of records.
    """
    fields: dict[str, Any] = {}
    for name in _OTHER_FIELDS:
        value = record.get(name)
        if isinstance(value, str) and name != "documents":  # JSON in ShareGPT's records and in tables
            try:
                value = json.loads(value) if value.strip() else None
            except ValueError:
                raise UserError(f"field {name!r} is a text but not JSON; give a list of records") from None
        listed = isinstance(value, list) and all(isinstance(item, dict) for item in value)
        if value and not listed and name != "documents":
            raise UserError(f"field {name!r} is not a list of records; give one record for each, or remove the field")
        if value and listed:
            fields[name] = value
    return fields


def trained_on(message: Message) -> bool:
    """Whether the loss covers a message: the assistant's, unless its weight is 0."""
    return bool(message["role"] == "assistant" and message.get("weight") != 0)


def check_fields(
    messages: list[Message],
    others: dict[str, Any],
    reads: Callable[[str], bool],
    text: Callable[[list[Message]], str],
    template: str,
) -> None:
    """Refuses fields that the template would drop.

    Args:
        messages: The conversation.
        others: Fields of the record, as of `other_fields`.
        reads: Whether the template reads a field of this name.
        text: Renders messages by the template.
        template: The template's name, for the error.

    Raises:
        UserError: The template does not read a field.
    """
    advice = f"which {template} does not read; remove the field, or give a data.format.template that reads it"
    for name in others:
        if not reads(name):
            raise UserError(f"the record has {name}, {advice}")
    called: set[str] = set()
    for number, message in enumerate(messages, start=1):
        called |= set(_called(message))
        dropped = [name for name in _CALLS if message.get(name) and not reads(name)]
        if any(message.get(name) for name in REASONING) and not any(map(reads, REASONING)):
            dropped = [REASONING[0]]
        # The result of a call repeats the function's name.
        named = message.get("name") and not (message["role"] in ("tool", "function") and message["name"] in called)
        if named and not dropped:  # a template that reads a function's name need not read a speaker's: compare texts
            nameless = {key: value for key, value in message.items() if key != "name"}
            if not reads("name") or text(messages) == text([*messages[: number - 1], nameless, *messages[number:]]):
                dropped = ["name"]
        if dropped:
            raise UserError(f"message {number} has {dropped[0]}, {advice}")


def _called(message: Message) -> list[str]:
    """Names of the functions that a message calls."""
    calls = message.get("tool_calls")
    calls = [*calls] if isinstance(calls, list) else []
    functions = [call.get("function", call) for call in calls if isinstance(call, dict)]
    functions.append(message.get("function_call"))
    return [
        function["name"]
        for function in functions
        if isinstance(function, dict) and isinstance(function.get("name"), str)
    ]


def _message(message: Any, name: str, training: bool, parts: bool) -> Message:
    if not isinstance(message, dict):
        raise UserError(f'{name} is not a record; write {{"role": "user", "content": "..."}}')
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if not isinstance(role, str) or not role:
        raise UserError(f'{name} has no role; give it a "role" such as user or assistant')
    if "from" in message and "role" not in message:
        role = _SHARE_GPT.get(role, role)
    calls = any(message.get(key) for key in _CALLS)
    reasons = role == "assistant" and any(message.get(key) for key in REASONING)
    text = _text_of_parts(content, name) if isinstance(content, list) else content
    if text is not None and not isinstance(text, str) or text is None and not (calls or reasons):
        raise UserError(f'{name} ({role}) has no text; give it a "content" that is one')
    if training and role == "assistant" and not (text or "").strip() and not (calls or reasons):
        raise UserError(f"{name} ({role}) is empty; there is no answer to train on")
    if training:
        _check_weight(message.get("weight"), role, name)
    # A null field counts as missing, as in transformers: tables fill missing fields with null.
    rest = {
        key: value
        for key, value in message.items()
        if key not in ("role", "from", "content", "value") and value is not None
    }
    reasoning = next((message[key] for key in REASONING if message.get(key) is not None), None)
    if reasoning is not None:
        rest = {"thinking": reasoning, **rest, "reasoning_content": reasoning}
    fields = {} if text is None else {"content": content if parts else text}
    return {"role": role, **fields, **rest}


def _check_weight(weight: Any, role: str, name: str) -> None:
    if weight is None:
        return
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight not in (0, 1):
        raise UserError(f"{name} has weight {weight!r}; give 0 (not trained on) or 1")
    if weight and role != "assistant":
        raise UserError(f"{name} ({role}) has weight 1, but only the assistant's answers are trained on; remove it")


def _text_of_parts(parts: list[Any], name: str) -> str:
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type", "text") != "text" or not isinstance(part.get("text"), str):
            raise UserError(
                f"{name} holds something other than text, which a text model cannot read; remove the record"
            )
        texts.append(part["text"])
    return "".join(texts)
