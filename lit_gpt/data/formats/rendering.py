"""A conversation rendered by a chat template: which special tokens are the template's own, which text is trained on.

Knows compiled templates, messages, segments. Does not know records, ids, files.
"""

import json
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
_PRIVATE = range(0xE000, 0xF900)  # characters that mean nothing by themselves: marks within a text
_ASK = "add_generation_prompt"
_PRINTED = ("tools", "documents")  # of a record, besides its messages


class Rendering:
    """One conversation on its way through a template.

    Special tokens that a message spells are torn by a mark after their first character, before the template sees them:
    what is whole in its text is the template's own. Those that the template looks for in an answer, such as what begins
    and ends a thought, are the assistant's to write.
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
        # Three characters that occur nowhere: a tear, and the two ends of a marked answer.
        self._tear, self._begin, self._end = (next(free) for _ in range(3))
        # What stands for an answer is a word, which stays as it is wherever a template may print it.
        self._mark = next(word for word in map("qx{}answer".format, count()) if word not in written)
        self._plain = messages
        hidden = self._names
        if any(self._names.search(text) for message in messages for text in _assistants(message)):
            hidden = any_of(tuple(name for name in special if name not in self._answers_own(special)))
        self._messages: list[Message] = [
            self._torn(one, hidden if one["role"] == "assistant" else self._names) for one in messages
        ]
        self._torn_values = {
            name: self._torn(value, self._names) if isinstance(value, list | dict) else value
            for name, value in values.items()
        }

    def segments(self, ask: bool) -> Iterator[Segment]:
        text = self._render(self._messages, ask)
        spelled = self._messages != self._plain or self._torn_values != self._values
        if spelled and text.replace(self._tear, "") != self._program.render(self._plain, {**self._values, _ASK: ask}):
            raise UserError(
                "a message spells a special token that the chat template looks for, so the two cannot be told"
                " apart; leave the record out"
            )
        answers = [] if ask else self._answers(text)
        found = [match.span() for match in self._names.finditer(text)]
        special = set(found)
        inside = sorted({0, len(text), *(border for pair in (*answers, *found) for border in pair)})
        # A border inside a special token is none: the token is one.
        borders = [at for at in inside if not any(start < at < end for start, end in found)]
        for start, end in zip(borders, borders[1:], strict=False):
            scored = any(first < end and start < last for first, last in answers)
            part = text[start:end].replace(self._tear, "")
            if part:
                yield Segment(part, special=(start, end) in special, trained=scored)

    def end(self) -> list[str]:
        """The special token that ends the last answer, whether or not the template marks it as trained on."""
        text = self._render(self._messages, False)
        last = self._finder().find(text)[-1]
        return self._names.findall(text, last.start, last.end)[-1:]

    def _finder(self) -> AnswerFinder:
        bare = self._render_bare if any(self._values.get(name) for name in _PRINTED) else None
        return AnswerFinder(self._messages, self._render, self._names, self._mark, bare)

    def _answers(self, text: str) -> list[tuple[int, int]]:
        """Where in the text what is trained on begins and ends."""
        finder = self._finder()
        if not self._program.marks_answers:
            found = finder.find(text)
            return [(one.start, one.end) for one in found if trained_on(self._messages[one.message])]
        answers = self._marked(self._messages, text)
        self._refuse_nothing(text, answers)
        skipped = {
            at
            for number, message in enumerate(self._messages)
            if message["role"] == "assistant" and not trained_on(message)
            for at in self._marked_at(finder, number, len(answers))
        }
        left = [pair for at, pair in enumerate(answers) if at not in skipped]
        self._refuse_nothing(text, left)
        return [(start, self._trimmed(text, start, end)) for start, end in left]

    @staticmethod
    def _refuse_nothing(text: str, answers: list[tuple[int, int]]) -> None:
        if not any(text[start:end].strip() for start, end in answers):
            raise UserError(
                "the chat template's {% generation %} marks no text of this conversation to train on, so there is no"
                " answer to learn; mend the template, or give another data.format.template"
            )

    def _marked(self, messages: list[Message], text: str) -> list[tuple[int, int]]:
        """Stretches between the marks of {% generation %}, in the text without them."""
        values = {**self._torn_values, _ASK: False}
        marked = self._program.render(messages, values, (self._begin, self._end))
        if marked.replace(self._begin, "").replace(self._end, "") != text:
            raise UserError(
                "the chat template changes what is in its {% generation %} blocks afterwards, so answers cannot be"
                " found in its text; give another data.format.template"
            )
        pieces = marked.split(self._begin)
        done, found = len(pieces[0]), []
        for piece in pieces[1:]:
            answer, _, rest = piece.partition(self._end)
            found.append((done, done + len(answer)))
            done += len(answer) + len(rest)
        return found

    def _marked_at(self, finder: AnswerFinder, number: int, among: int) -> list[int]:
        """Which of the marked stretches holds the answer of a message."""
        place = finder.place(number)
        if place is None:
            raise UserError(
                f"message {number + 1} has weight 0, but the chat template lays it out so that it cannot be told from"
                " what stands around it; leave the record out"
            )
        message, before, after = place
        messages = [*self._messages[:number], message, *self._messages[number + 1 :]]
        found = self._marked(messages, f"{before}{self._mark}{after}")
        at = [at for at, (start, end) in enumerate(found) if start <= len(before) < end]
        return at if len(found) == among else []

    def _trimmed(self, text: str, start: int, end: int) -> int:
        """The end of an answer without white space that follows the special token at its end."""
        ends = [match.end() for match in self._names.finditer(text, start, end)]
        return ends[-1] if ends and not text[ends[-1] : end].strip() else end

    def _answers_own(self, special: Sequence[str]) -> set[str]:
        """Special tokens that an answer may hold: those that the template names, but for those that bound its turns."""
        named = {name for name in special if any(name in text for text in self._program.strings)}
        answer = {"role": "assistant", "content": self._mark}
        try:
            question, asked = (self._program.render(QUESTION, {**self._values, _ASK: ask}) for ask in (False, True))
            both = self._program.render([*QUESTION, answer], {**self._values, _ASK: False})
        except UserError:
            return set()
        ahead, _, ends = both.rpartition(self._mark)
        header = commonprefix([asked, ahead])
        bounds = {name for text in (question, header, ends) for name in self._names.findall(text)}
        return named - bounds - {value for name, value in self._values.items() if name.endswith("_token")}

    def _torn(self, value: Any, names: Any) -> Any:
        if isinstance(value, str):
            return names.sub(lambda name: f"{name[0][:1]}{self._tear}{name[0][1:]}", value)
        if isinstance(value, dict):
            return {key: self._torn(inner, names) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._torn(inner, names) for inner in value]
        return value

    def _render(self, messages: list[Message], ask: bool) -> str:
        return self._program.render(messages, {**self._torn_values, _ASK: ask})

    def _render_bare(self, messages: list[Message], ask: bool) -> str:
        values = {name: value for name, value in self._torn_values.items() if name not in _PRINTED}
        return self._program.render(messages, {**values, _ASK: ask})


def _assistants(message: Message) -> list[str]:
    """What the assistant itself wrote in a message."""
    if message["role"] != "assistant":
        return []
    return [message[name] for name in ("content", *REASONING) if isinstance(message.get(name), str)]
