"""Rendering of a conversation by a chat template into segments: special tokens and the loss mask."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import count
from os.path import commonprefix
from typing import Any

from lit_gpt.data.chunks import Segment
from lit_gpt.data.formats.answers import AnswerFinder
from lit_gpt.data.formats.chat_templates import any_of
from lit_gpt.data.formats.messages import REASONING, Message, trained_on
from lit_gpt.data.formats.template_program import Program
from lit_gpt.errors import UserError

QUESTION: list[Message] = [{"role": "user", "content": "a"}]
_PRIVATE = range(0xE000, 0xF900)  # Unicode's private use area: characters without a meaning
_ASK = "add_generation_prompt"
_PRINTED = ("tools", "documents")  # of a record, besides its messages


class Rendering:
    """One conversation rendered by one template.

    Special tokens that a message spells are broken up by a private character after their first one before the template
    sees them, so that an intact one in its text is the template's. An answer may hold those that the template looks
    for in answers, such as <think> and </think>.
    """

    def __init__(
        self, program: Program, special: Sequence[str], values: dict[str, Any], messages: list[Message]
    ) -> None:
        self._program = program
        self._names = any_of(tuple(special))
        self._values = values
        plain = {name: value for name, value in values.items() if not callable(value)}
        written = f"{''.join(program.strings)}{json.dumps([messages, plain], ensure_ascii=False, default=str)}"
        free = (chr(code) for code in _PRIVATE if chr(code) not in written)
        # Three characters that occur nowhere: one breaks up special tokens, two enclose a marked answer.
        self._break, self._begin, self._end = (next(free) for _ in range(3))
        # The placeholder of an answer is a word, which templates print unchanged.
        self._placeholder = next(word for word in map("qx{}answer".format, count()) if word not in written)
        self._plain = messages
        hidden = self._names
        if any(self._names.search(text) for message in messages for text in _assistant_texts(message)):
            allowed = self._allowed_in_answers(special)
            hidden = any_of(tuple(name for name in special if name not in allowed))
        self._messages: list[Message] = [
            self._broken(message, hidden if message["role"] == "assistant" else self._names) for message in messages
        ]
        self._broken_values = {
            name: self._broken(value, self._names) if isinstance(value, list | dict) else value
            for name, value in values.items()
        }

    def segments(self, ask: bool) -> Iterator[Segment]:
        text = self._render(self._messages, ask)
        spelled = self._messages != self._plain or self._broken_values != self._values
        if spelled and text.replace(self._break, "") != self._program.render(self._plain, {**self._values, _ASK: ask}):
            raise UserError(
                "a message spells a special token that the chat template looks for, so the two cannot be told"
                " apart; remove the record"
            )
        answers = [] if ask else self._answers(text)
        special = [match.span() for match in self._names.finditer(text)]
        borders = sorted({0, len(text), *(border for span in (*answers, *special) for border in span)})
        # A special token is not divided.
        borders = [at for at in borders if not any(start < at < end for start, end in special)]
        special_spans = set(special)
        for start, end in zip(borders, borders[1:], strict=False):
            trained = any(first < end and start < last for first, last in answers)
            part = text[start:end].replace(self._break, "")
            if part:
                yield Segment(part, special=(start, end) in special_spans, trained=trained)

    def end(self) -> list[str]:
        """The special token that ends the last answer, whether or not {% generation %} covers it."""
        text = self._render(self._messages, False)
        last = self._finder().find(text)[-1]
        return self._names.findall(text, last.start, last.end)[-1:]

    def _finder(self) -> AnswerFinder:
        bare = self._render_bare if any(self._values.get(name) for name in _PRINTED) else None
        return AnswerFinder(self._messages, self._render, self._names, self._placeholder, bare)

    def _answers(self, text: str) -> list[tuple[int, int]]:
        """Spans of the text that are trained on."""
        finder = self._finder()
        if not self._program.marks_answers:
            found = finder.find(text)
            return [(answer.start, answer.end) for answer in found if trained_on(self._messages[answer.message])]
        answers = self._marked(self._messages, text)
        self._check_not_empty(text, answers)
        skipped = {
            at
            for number, message in enumerate(self._messages)
            if message["role"] == "assistant" and not trained_on(message)
            for at in self._marked_at(finder, number, len(answers))
        }
        answers = [span for at, span in enumerate(answers) if at not in skipped]
        self._check_not_empty(text, answers)
        return [(start, self._trimmed(text, start, end)) for start, end in answers]

    @staticmethod
    def _check_not_empty(text: str, answers: list[tuple[int, int]]) -> None:
        if not any(text[start:end].strip() for start, end in answers):
            raise UserError(
                "the chat template's {% generation %} marks no text of this conversation, so there is no"
                " answer to train on; fix the template, or give another data.format.template"
            )

    def _marked(self, messages: list[Message], text: str) -> list[tuple[int, int]]:
        """Spans of the {% generation %} blocks in the text."""
        values = {**self._broken_values, _ASK: False}
        marked = self._program.render(messages, values, (self._begin, self._end))
        if marked.replace(self._begin, "").replace(self._end, "") != text:
            raise UserError(
                "the chat template changes what is in its {% generation %} blocks afterwards, so answers cannot be"
                " found in its text; give another data.format.template"
            )
        pieces = marked.split(self._begin)
        position, spans = len(pieces[0]), []
        for piece in pieces[1:]:
            answer, _, rest = piece.partition(self._end)
            spans.append((position, position + len(answer)))
            position += len(answer) + len(rest)
        return spans

    def _marked_at(self, finder: AnswerFinder, number: int, count: int) -> list[int]:
        """Which of the `count` {% generation %} blocks hold the answer of a message."""
        located = finder.locate(number)
        if located is None:
            raise UserError(
                f"message {number + 1} has weight 0, but in the chat template's text it cannot be told from the text"
                " around it; remove the record"
            )
        message, before, after = located
        messages = [*self._messages[:number], message, *self._messages[number + 1 :]]
        spans = self._marked(messages, f"{before}{self._placeholder}{after}")
        return [at for at, (start, end) in enumerate(spans) if start <= len(before) < end and len(spans) == count]

    def _trimmed(self, text: str, start: int, end: int) -> int:
        """The end of an answer without whitespace after its last special token."""
        ends = [match.end() for match in self._names.finditer(text, start, end)]
        return ends[-1] if ends and not text[ends[-1] : end].strip() else end

    def _allowed_in_answers(self, special: Sequence[str]) -> set[str]:
        """Special tokens that an answer may hold: those in the template, except those at the borders of turns."""
        named = {name for name in special if any(name in text for text in self._program.strings)}
        answer = {"role": "assistant", "content": self._placeholder}
        try:
            question, asked = (self._program.render(QUESTION, {**self._values, _ASK: ask}) for ask in (False, True))
            both = self._program.render([*QUESTION, answer], {**self._values, _ASK: False})
        except UserError:
            return set()
        before, _, after = both.rpartition(self._placeholder)
        header = commonprefix([asked, before])
        bounds = {name for text in (question, header, after) for name in self._names.findall(text)}
        return named - bounds - {value for name, value in self._values.items() if name.endswith("_token")}

    def _broken(self, value: Any, names: re.Pattern[str]) -> Any:
        """Plain data in which no text spells one of these special tokens."""
        if isinstance(value, str):
            return names.sub(lambda name: f"{name[0][:1]}{self._break}{name[0][1:]}", value)
        if isinstance(value, dict):
            return {key: self._broken(inner, names) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._broken(inner, names) for inner in value]
        return value

    def _render(self, messages: list[Message], ask: bool) -> str:
        return self._program.render(messages, {**self._broken_values, _ASK: ask})

    def _render_bare(self, messages: list[Message], ask: bool) -> str:
        values = {name: value for name, value in self._broken_values.items() if name not in _PRINTED}
        return self._program.render(messages, {**values, _ASK: ask})


def _assistant_texts(message: Message) -> list[str]:
    """Content and reasoning of an assistant's message."""
    if message["role"] != "assistant":
        return []
    return [message[name] for name in ("content", *REASONING) if isinstance(message.get(name), str)]
