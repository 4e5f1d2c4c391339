"""Formats for records with a prompt and an answer: Instruction, Labeled, Seq2Seq; the loss mask covers the prompt.

Every segment is encoded separately, so a token never spans prompt and answer, in training as in generation.
"""

import copy
import re
from typing import TYPE_CHECKING, Any

from lit_gpt.data.chunks import Content, Segment
from lit_gpt.data.formats.format import Format
from lit_gpt.errors import UserError, not_implemented

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

#: Ends an answer where the tokenizer has no eos; without one, generation would not stop.
END = "<|endoftext|>"
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(\w+)\}")

_WITH_CONTEXT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Input:\n{context}\n\n### Response:\n"
)
_WITHOUT_CONTEXT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{prompt}\n\n### Response:\n"
)


class Answered(Format):
    """The base of formats with one answer. A subclass writes `question` and `reply`.

    The tokenizer's eos ends the answer; one that has none gets the special token <|endoftext|> for it.
    """

    _end: str | None = None

    @property
    def special_tokens(self) -> list[str]:
        return self.stops

    @property
    def stops(self) -> list[str]:
        return [self._end] if self._end else []

    def for_tokenizer(self, tokenizer: "Tokenizer") -> Format:
        bound = copy.copy(self)
        bound._end = None if "eos" in tokenizer.roles else END
        return bound

    def reply(self, record: dict[str, Any]) -> str:
        """The answer of a record, which is trained on."""
        raise not_implemented(self, "reply")

    def segments(self, content: Content, number: int) -> list[Segment]:
        answer = Segment(self.reply(record_of(content, self)))
        end = [Segment(self._end, special=True)] if self._end else []
        return [*self.question(content), answer, *end]


class Instruction(Answered):
    """A task, an optional text that it is about, and its answer, as in Alpaca; only the answer is trained on.

    Args:
        prompt: Field of the task.
        context: Field of the text that the task is about; a record may lack it.
        answer: Field of the answer.
        wording: The prompt, with the record's fields as placeholders in braces; by default Alpaca's prompt, in which
            {prompt} and {context} are the two fields named above.
        wording_alone: The same for records without a context.
    """

    def __init__(
        self,
        prompt: str = "instruction",
        context: str = "input",
        answer: str = "output",
        wording: str | None = None,
        wording_alone: str | None = None,
    ) -> None:
        self.prompt, self.context, self.answer = prompt, context, answer
        self.wording = _WITH_CONTEXT if wording is None else wording
        alone = _WITHOUT_CONTEXT if wording is None else None
        self.wording_alone = alone if wording_alone is None else wording_alone
        if self.wording_alone is None and re.search(rf"\{{(context|{re.escape(context)})\}}", self.wording):
            raise UserError(
                f"data.format.wording has a placeholder for the context; give data.format.wording_alone for records"
                f" without {context!r}"
            )

    @property
    def example(self) -> dict[str, Any]:
        return {self.prompt: "...", self.context: "..."}

    def question(self, content: Content) -> list[Segment]:
        record = record_of(content, self)
        context = text_field(record, self.context) if record.get(self.context) is not None else ""
        fields = {"prompt": text_field(record, self.prompt, noun="task"), "context": context}
        wording = self.wording if context.strip() or self.wording_alone is None else self.wording_alone
        return [Segment(filled(wording, {**record, **fields}, "wording"), trained=False)]

    def reply(self, record: dict[str, Any]) -> str:
        return text_field(record, self.answer, noun="answer to train on")


class Labeled(Answered):
    """A text and its label, spelled as text after it; only the label is trained on.

    Args:
        text: Field of the text.
        label: Field of the label: a text, or a whole number (in a CSV, its digits).
        names: Names of the labels 0, 1, ...; by default the numbers themselves.
        wording: The prompt, with the record's fields as placeholders in braces; by default the text and a line
            "Label:". The label follows after a space.
    """

    def __init__(
        self,
        text: str = "text",
        label: str = "label",
        names: list[str] | None = None,
        wording: str | None = None,
    ) -> None:
        self.text, self.label, self.names = text, label, names
        self.wording = "{text}\nLabel:" if wording is None else wording
        if names is not None and not (names and all(isinstance(name, str) and name.strip() for name in names)):
            raise UserError(f"data.format.names is {names!r}; give one name for each label, such as [no, yes]")

    @property
    def example(self) -> dict[str, Any]:
        return {self.text: "..."}

    def question(self, content: Content) -> list[Segment]:
        record = record_of(content, self)
        text = text_field(record, self.text, noun="text")
        return [Segment(filled(self.wording, {**record, "text": text}, "wording"), trained=False)]

    def reply(self, record: dict[str, Any]) -> str:
        return f" {self._label_text(record)}"

    def _label_text(self, record: dict[str, Any]) -> str:
        label = field_of(record, self.label)
        if isinstance(label, bool):
            label = int(label)
        if isinstance(label, int):
            if self.names is None:
                return str(label)
            if not 0 <= label < len(self.names):
                raise UserError(
                    f"field {self.label!r} is {label}, but data.format.names has names for 0 to {len(self.names) - 1}"
                )
            return self.names[label]
        if not isinstance(label, str):
            raise UserError(f"field {self.label!r} is {_kind(label)}; a label is a text or a whole number")
        if not label.strip():
            raise UserError(f"field {self.label!r} is empty; there is no label to train on")
        if self.names is not None and label not in self.names:
            if label.isdecimal() and str(int(label)) == label and int(label) < len(self.names):
                return self.names[int(label)]  # all values of a CSV are texts
            raise UserError(f"field {self.label!r} is {label!r}, which is not among data.format.names")
        return label


class Seq2Seq(Answered):
    """A source and its target, such as a sentence and its translation; only the target is trained on.

    Args:
        source: Field of the source.
        target: Field of the target.
        separator: Text between the two; by default a newline.
        separator_token: A special token between the two, such as <sep>, instead of a text.
    """

    def __init__(
        self,
        source: str = "source",
        target: str = "target",
        separator: str | None = None,
        separator_token: str | None = None,
    ) -> None:
        if separator is not None and separator_token is not None:
            raise UserError("data.format: `separator` and `separator_token` are mutually exclusive; remove one")
        if separator == "" or separator_token == "":
            raise UserError(
                "data.format has an empty separator, which would not separate source and target; give a text"
            )
        self.source, self.target, self.separator_token = source, target, separator_token
        self.separator = None if separator_token else separator or "\n"

    @property
    def special_tokens(self) -> list[str]:
        return [*([self.separator_token] if self.separator_token else []), *super().special_tokens]

    @property
    def example(self) -> dict[str, Any]:
        return {self.source: "..."}

    def question(self, content: Content) -> list[Segment]:
        source = text_field(record_of(content, self), self.source, noun="source")
        if self.separator_token is None:
            return [Segment(f"{source}{self.separator}", trained=False)]
        return [Segment(source, trained=False), Segment(self.separator_token, special=True, trained=False)]

    def reply(self, record: dict[str, Any]) -> str:
        return text_field(record, self.target, noun="target to train on")


def record_of(content: Content, format: Format) -> dict[str, Any]:
    """The content as a record.

    Raises:
        UserError: It is a text.
    """
    if isinstance(content, dict):
        return content
    raise UserError(
        f"{type(format).__name__} lays out records with fields, not plain text; read them with a data.source such as"
        " JsonLines and its field null"
    )


def field_of(record: dict[str, Any], name: str) -> Any:
    """A field of a record.

    Raises:
        UserError: It is missing or null.
    """
    if name not in record:
        names = ", ".join(map(repr, record)) or "none"
        raise UserError(f"there is no field {name!r}; there are {names}; data.format names the fields to read")
    if record[name] is None:
        raise UserError(f"field {name!r} is null; give a value, or leave the record out")
    return record[name]


def text_field(record: dict[str, Any], name: str, noun: str | None = None) -> str:
    """A field that is a text.

    Args:
        record: The record.
        name: Of the field.
        noun: What is missing if the field is empty or whitespace; None if it may be.

    Raises:
        UserError: It is missing, of another type, or empty.
    """
    value = field_of(record, name)
    if not isinstance(value, str):
        raise UserError(f"field {name!r} is {_kind(value)}, not a text")
    if noun is not None and not value.strip():
        raise UserError(f"field {name!r} is empty; there is no {noun}")
    return value


def filled(wording: str, values: dict[str, Any], argument: str) -> str:
    """A wording with its placeholders filled; {{ and }} are literal braces.

    Raises:
        UserError: A placeholder has no value.
    """

    def filling(placeholder: re.Match[str]) -> str:
        name = placeholder[1]
        if name is None:
            return placeholder[0][0]
        if name not in values:
            raise UserError(f"data.format.{argument} has a placeholder {{{name}}}; there are {', '.join(values)}")
        value = values[name]
        if value is None or isinstance(value, dict | list):
            raise UserError(f"field {name!r} is {_kind(value)}, which does not fit into data.format.{argument}")
        return str(value)

    return _PLACEHOLDER.sub(filling, wording)


def _kind(value: Any) -> str:
    names = {dict: "a record", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), f"the number {value!r}")
