"""Conversations as rows: which turns there are, and that the assistant's answers are what is learnt.

Knows: records of messages, in the two spellings that are about. Does not know: how a template lays a turn out (see
chat_templates), ids, files.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lit_gpt.data.documents import Content, Span
from lit_gpt.data.forms.chat_templates import ChatML, Message, Template
from lit_gpt.data.forms.form import Form, joined
from lit_gpt.data.forms.records import field_of, record_of
from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

#: Who speaks, as ShareGPT's records call them.
_SHARE_GPT = {"human": "user", "gpt": "assistant", "bot": "assistant", "function_response": "tool"}
_OTHER_FIELD = {"messages": "conversations", "conversations": "messages"}

NewTemplate = Callable[[], Template]


class Chat(Form):
    """A conversation of several turns; the assistant's answers are learnt, with the token that ends each.

    A message is {"role": ..., "content": ...}, or ShareGPT's {"from": ..., "value": ...}. Texts of the record are only
    ever text: a message that spells a special token of the template is encoded as the characters that it is.

    Args:
        field: Field of the record that holds the list of messages; "conversations" where a record lacks "messages".
        template: How the turns are laid out; it has to be the one of a model that is trained on.
    """

    def __init__(self, field: str = "messages", template: NewTemplate = ChatML) -> None:
        self.field = field
        self._template = template()
        self._around: tuple[str | None, str | None] = (None, None)

    @property
    def template(self) -> Template:
        """How the turns are laid out."""
        return self._template

    @property
    def special_tokens(self) -> list[str]:
        """Those of the template."""
        return self._template.special_tokens

    @property
    def stops(self) -> list[str]:
        return self._template.stops

    @property
    def stop_texts(self) -> list[str]:
        return self._template.stop_texts

    @property
    def example(self) -> dict[str, Any]:
        return {self.field: [{"role": "user", "content": "..."}]}

    def for_tokenizer(self, tokenizer: "Tokenizer") -> "Form":
        """With the tokenizer's own template where none was given; what is put around a document is not doubled."""
        made = Chat(self.field, self._template.for_tokenizer(tokenizer))
        names = tokenizer.roles
        made._around = (names.get("bos"), names.get("eos"))
        return made

    def configuration(self) -> dict[str, Any]:
        """Class and arguments, those of the template among them."""
        made = super().configuration()
        made["init_args"]["template"] = self._template.configuration()
        return made

    def spans(self, content: Content, number: int) -> list[Span]:
        """The conversation, laid out by the template."""
        record = record_of(content, self)
        messages = messages_of(record, self.field)
        answers = [number for number, one in enumerate(messages) if one["role"] == "assistant"]
        if not answers:
            raise UserError(f"field {self.field!r} has no message of the assistant, so there is no answer to learn")
        return self._stripped(joined(self._template.spans(messages, _others(record))))

    def question(self, content: Content) -> list[Span]:
        """A conversation up to where the assistant's last answer begins, whether or not it is there."""
        record = record_of(content, self)
        messages = messages_of(record, self.field)
        if messages[-1]["role"] == "assistant":
            messages = messages[:-1]
        if not messages:
            raise UserError(f"field {self.field!r} has an answer alone; give the messages ahead of it")
        return self._stripped(joined(self._template.spans(messages, _others(record), ask=True)), ends=False)

    def _stripped(self, spans: list[Span], ends: bool = True) -> list[Span]:
        """Without a bos ahead and an eos at the end, which the preparation puts there itself."""
        bos, eos = self._around
        if bos is not None and spans and spans[0].special and spans[0].text == bos:
            spans = spans[1:]
        if ends and eos is not None:
            last = max((at for at, span in enumerate(spans) if span.special), default=-1)
            after = spans[last + 1 :]
            if (
                last > 0
                and spans[last].text == eos
                and spans[last].scored
                and not "".join(s.text for s in after).strip()
            ):
                spans = spans[:last]
        return spans


def _others(record: dict[str, Any]) -> dict[str, Any]:
    """Fields besides the messages that a template may know."""
    return {"tools": record["tools"]} if record.get("tools") else {}


def messages_of(record: dict[str, Any], field: str) -> list[Message]:
    """The messages of a record, each with its role and content.

    Raises:
        UserError: there are none, or one is not as a message has to be.
    """
    other = _OTHER_FIELD.get(field)
    messages = field_of(record, other if other in record and field not in record else field)
    if not isinstance(messages, list):
        raise UserError(f"field {field!r} is no list of messages; give the name of the field that is (data.form.field)")
    return checked(messages, field)


def checked(messages: list[Any], field: str = "messages") -> list[Message]:
    """Messages in the one spelling that templates know.

    Raises:
        UserError: there are none, or one is not as a message has to be.
    """
    if not messages:
        raise UserError(f"field {field!r} is an empty list; there is no conversation")
    return [_message(one, f"message {number} of {field!r}") for number, one in enumerate(messages, start=1)]


def _message(message: Any, name: str) -> Message:
    if not isinstance(message, dict):
        raise UserError(f'{name} is no record; write {{"role": "user", "content": "..."}}')
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if not isinstance(role, str) or not role:
        raise UserError(f'{name} does not say whose it is; give it a "role" such as user or assistant')
    if "from" in message and "role" not in message:
        role = _SHARE_GPT.get(role, role)
    if isinstance(content, list):
        content = _text_of_parts(content, name)
    if content is None and message.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise UserError(f'{name} ({role}) has no text; give it a "content" that is one')
    if role == "assistant" and not content.strip() and not message.get("tool_calls"):
        raise UserError(f"{name} ({role}) is empty; there is no answer to learn")
    rest = {key: value for key, value in message.items() if key not in ("role", "from", "content", "value")}
    return {"role": role, "content": content, **rest}


def _text_of_parts(parts: list[Any], name: str) -> str:
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type", "text") != "text" or not isinstance(part.get("text"), str):
            raise UserError(f"{name} holds something other than text, which a text model cannot learn; leave it out")
        texts.append(part["text"])
    return "".join(texts)
