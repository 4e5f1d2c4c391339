"""Conversations as rows: which turns there are, and that the assistant's answers are what is trained on.

Knows: records of messages. Does not know: how a template lays a turn out (see chat_templates), ids, files.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lit_gpt.data.chunks import Content, Segment
from lit_gpt.data.formats.chat_templates import ChatML, Template
from lit_gpt.data.formats.format import Format, joined
from lit_gpt.data.formats.messages import Message, around, check_fields, messages_of, trained_on
from lit_gpt.data.formats.records import record_of
from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

NewTemplate = Callable[[], Template]


class Chat(Format):
    """A conversation of several turns; the assistant's answers are learned, with the token that ends each.

    A message is {"role": ..., "content": ...}, or ShareGPT's {"from": ..., "value": ...}. Texts of the record are only
    ever text: a message that spells a special token of the template is encoded as the characters that it is. A message
    with weight 0 is read and not trained on.

    Args:
        field: Field of the record that holds the list of messages; "conversations" where a record lacks "messages".
        template: How the turns are laid out; it has to be the one of a model that is trained on.
        template_variables: Values of variables that a Jinja template reads, such as {enable_thinking: false}; tools and
            documents here are those of records that have none. strftime_now is the date that such a template prints.
    """

    def __init__(
        self,
        field: str = "messages",
        template: NewTemplate = ChatML,
        template_variables: dict[str, Any] | None = None,
    ) -> None:
        self.field = field
        self.template_variables = template_variables
        self._template = template().with_variables(template_variables or {})
        self._around: tuple[str | None, str | None] = (None, None)
        self._whole = self._template.whole_text

    @property
    def template(self) -> Template:
        """How the turns are laid out."""
        return self._template

    @property
    def framed(self) -> bool:
        return self._template.framed

    @property
    def whole_text(self) -> bool:
        return self._whole

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
    def notes(self) -> list[str]:
        return self._template.notes

    @property
    def example(self) -> dict[str, Any]:
        return {self.field: [{"role": "user", "content": "..."}]}

    def for_tokenizer(self, tokenizer: "Tokenizer") -> "Format":
        """With the tokenizer's own template where none was given; what is put around a document is not doubled."""
        made = Chat(self.field, self._template.for_tokenizer(tokenizer), self.template_variables)
        names = tokenizer.roles
        made._around = (names.get("bos"), names.get("eos")) if made.framed else (None, None)
        made._whole = made._template.whole_text or tokenizer.encodes_whole_texts
        return made

    def with_variables(self, given: dict[str, Any]) -> "Chat":
        """The same format with further template variables, which take precedence over its own.

        Raises:
            UserError: The template does not read one of them.
        """
        made = Chat(self.field, self._template, {**(self.template_variables or {}), **given})
        made._around, made._whole = self._around, self._whole
        return made

    def configuration(self) -> dict[str, Any]:
        """Class and arguments, those of the template among them."""
        made = super().configuration()
        made["init_args"]["template"] = self._template.configuration()
        if not self.template_variables:  # an argument that earlier versions lacked
            del made["init_args"]["template_variables"]
        return made

    def segments(self, content: Content, number: int) -> list[Segment]:
        """The conversation, laid out by the template."""
        record, template = record_of(content, self), self._template
        messages = messages_of(record, self.field, training=True, parts=template.reads_parts)
        if not any(message["role"] == "assistant" for message in messages):
            raise UserError(f"field {self.field!r} has no message of the assistant, so there is no answer to learn")
        if not any(map(trained_on, messages)):
            raise UserError(f"field {self.field!r} has no answer to learn: each message of the assistant has weight 0")
        others = around(record)

        def text(messages: list[Message]) -> str:
            return "".join(segment.text for segment in template.segments(messages, others, ask=True))

        check_fields(messages, others, template.has_place, text, template.name)
        return self._stripped(joined(template.segments(messages, others)))

    def question(self, content: Content) -> list[Segment]:
        """A conversation up to where the assistant's last answer begins, whether or not it is there."""
        record = record_of(content, self)
        messages = messages_of(record, self.field, parts=self._template.reads_parts)
        if messages[-1]["role"] == "assistant":
            messages = messages[:-1]
        if not messages:
            raise UserError(f"field {self.field!r} has an answer alone; give the messages ahead of it")
        return self._stripped(joined(self._template.segments(messages, around(record), ask=True)), ends=False)

    def _stripped(self, segments: list[Segment], ends: bool = True) -> list[Segment]:
        """Without a bos ahead and an eos at the end, which the preparation puts there itself."""
        bos, eos = self._around
        if bos is not None and segments and segments[0].special and segments[0].text == bos:
            segments = segments[1:]
        if ends and eos is not None:
            last = max((at for at, segment in enumerate(segments) if segment.special), default=-1)
            after = segments[last + 1 :]
            if (
                last > 0
                and segments[last].text == eos
                and segments[last].trained
                and not "".join(s.text for s in after).strip()
            ):
                segments = segments[:last]
        return segments
