"""Chat format: conversations with a chat template, in which the assistant's answers are trained on."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lit_gpt.data.chunks import Content, Segment
from lit_gpt.data.formats.chat_templates import ChatML, Template
from lit_gpt.data.formats.format import Format, joined
from lit_gpt.data.formats.messages import Message, check_fields, messages_of, other_fields, trained_on
from lit_gpt.data.formats.records import record_of
from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

NewTemplate = Callable[[], Template]


class Chat(Format):
    """A conversation of several turns; the assistant's answers are trained on, with the token that ends each.

    A message is {"role": ..., "content": ...}, or ShareGPT's {"from": ..., "value": ...}. Text of a record never
    becomes a special token: one that a message spells is encoded as plain characters. A message with weight 0 is
    ignored by the loss.

    Args:
        field: Field of the record that holds the list of messages; "conversations" where a record lacks "messages".
        template: The chat template; for fine-tuning, the base model's.
        template_variables: Values of variables that a Jinja template reads, such as {enable_thinking: false}; tools and
            documents here are defaults for records without. strftime_now is the date that the template prints.
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
        self._bos_eos: tuple[str | None, str | None] = (None, None)
        self._whole = self._template.whole_text

    @property
    def template(self) -> Template:
        return self._template

    @property
    def framed(self) -> bool:
        return self._template.framed

    @property
    def whole_text(self) -> bool:
        return self._whole

    @property
    def special_tokens(self) -> list[str]:
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
        """With the tokenizer's chat template, if none was given."""
        chat = Chat(self.field, self._template.for_tokenizer(tokenizer), self.template_variables)
        roles = tokenizer.roles
        chat._bos_eos = (roles.get("bos"), roles.get("eos")) if chat.framed else (None, None)
        chat._whole = chat._template.whole_text or tokenizer.encodes_whole_texts
        return chat

    def with_variables(self, variables: dict[str, Any]) -> "Chat":
        """The same format with further template variables, which take precedence over its own.

        Raises:
            UserError: The template does not read one of them.
        """
        chat = Chat(self.field, self._template, {**(self.template_variables or {}), **variables})
        chat._bos_eos, chat._whole = self._bos_eos, self._whole
        return chat

    def configuration(self) -> dict[str, Any]:
        configuration = super().configuration()
        configuration["init_args"]["template"] = self._template.configuration()
        if not self.template_variables:  # an argument that earlier versions lacked
            del configuration["init_args"]["template_variables"]
        return configuration

    def segments(self, content: Content, number: int) -> list[Segment]:
        record, template = record_of(content, self), self._template
        messages = messages_of(record, self.field, training=True, parts=template.reads_parts)
        if not any(message["role"] == "assistant" for message in messages):
            raise UserError(f"field {self.field!r} has no message of the assistant, so there is no answer to train on")
        if not any(map(trained_on, messages)):
            raise UserError(
                f"field {self.field!r} has no answer to train on: each message of the assistant has weight 0"
            )
        others = other_fields(record)

        def text(messages: list[Message]) -> str:
            return "".join(segment.text for segment in template.segments(messages, others, ask=True))

        check_fields(messages, others, template.reads, text, template.name)
        return self._stripped(joined(template.segments(messages, others)))

    def question(self, content: Content) -> list[Segment]:
        """A conversation up to the beginning of the assistant's last answer."""
        record = record_of(content, self)
        messages = messages_of(record, self.field, parts=self._template.reads_parts)
        if messages[-1]["role"] == "assistant":
            messages = messages[:-1]
        if not messages:
            raise UserError(f"field {self.field!r} has only an answer; give the messages before it")
        return self._stripped(joined(self._template.segments(messages, other_fields(record), ask=True)), ends=False)

    def _stripped(self, segments: list[Segment], ends: bool = True) -> list[Segment]:
        """Without the bos at the beginning and the eos at the end, which preparation adds itself."""
        bos, eos = self._bos_eos
        if bos is not None and segments and segments[0].special and segments[0].text == bos:
            segments = segments[1:]
        if ends and eos is not None:
            last = max((at for at, segment in enumerate(segments) if segment.special), default=-1)
            whitespace = not "".join(segment.text for segment in segments[last + 1 :]).strip()
            if last > 0 and segments[last].text == eos and segments[last].trained and whitespace:
                segments = segments[:last]
        return segments
