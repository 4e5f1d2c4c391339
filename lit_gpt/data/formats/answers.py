"""Finds the assistant's answers in a rendered conversation, by rendering it with and without each of them.

A chat template is a program: it may trim an answer, drop what was thought before it, print a system prompt of its own,
or open the next answer itself. So nothing is assumed about the text. An answer is replaced by a word that occurs
nowhere else, and what differs from the whole is the answer; what the template prints to ask for one is the header ahead
of it; what stays behind it in two contexts is the end of its turn. Where these do not agree, nothing is guessed.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lit_gpt.data.formats.messages import REASONING, Message
from lit_gpt.errors import UserError

_QUESTION: list[Message] = [{"role": "user", "content": "?"}]
#: Characters of a special token at most, so that what lies about a place is looked through alone.
_LONGEST = 256
#: Text of a conversation, with what asks for an answer behind it where the second argument is true.
Render = Callable[[list[Message], bool], str]


class Answer(NamedTuple):
    """Where a message's answer stands in the text, the end of its turn included.

    message: number of the message, from 0. start, end: offsets in characters.
    """

    message: int
    start: int
    end: int


class AnswerFinder:
    """The answers of one conversation.

    Args:
        messages: All of them.
        render: The template.
        names: Matches the special tokens, which are not cut.
        mark: A word that occurs in no message and not in the template.
        bare: The same without tools and documents, where there are any.
    """

    def __init__(
        self, messages: list[Message], render: Render, names: re.Pattern[str], mark: str, bare: Render | None = None
    ) -> None:
        self._messages, self._render, self._names, self._mark, self._bare = messages, render, names, mark, bare
        self._rendered: dict[tuple[int, bool], str] = {}
        self._simple: str | None = None  # what asks for an answer to a question

    def find(self, whole: str) -> list[Answer]:
        """Every answer of the assistant in the text.

        Args:
            whole: The conversation as the template renders it.

        Raises:
            UserError: One cannot be told from what is around it.
        """
        answers: list[Answer] = []
        for number, message in enumerate(self._messages):
            if message["role"] == "assistant":
                answer = self._find(number, whole)
                # Several answers may share one turn; then each begins where the one before it ends.
                done = answers[-1].end if answers else 0
                answers.append(answer._replace(start=max(answer.start, done)))
        return answers

    def place(self, number: int) -> tuple[Message, str, str] | None:
        """A message with the mark in it, and the conversation's text ahead of and behind the mark; None if nowhere."""
        return next(self._marked(number), None)

    def _find(self, number: int, whole: str) -> Answer:
        for message, before, after in self._marked(number):
            alone = self._split([*self._messages[:number], message])
            if alone is None:
                continue
            start = self._start(number, before, alone[0])
            length = self._end(number, message, alone[1], after)
            if start is None:
                continue
            rest = after[length:]
            if whole.startswith(before[:start]) and whole.endswith(rest) and len(whole) - len(rest) >= start:
                return Answer(number, start, len(whole) - len(rest))
        raise UserError(
            f"the chat template lays out message {number + 1} in a way that its answer cannot be told from what stands"
            " around it; mark answers in the template by {% generation %}, or give another data.format.template"
        )

    def _marked(self, number: int) -> Iterator[tuple[Message, str, str]]:
        """The message with the mark in place of its text, and the conversation's text ahead of and behind the mark."""
        for message in _with_mark(self._messages[number], self._mark):
            found = self._split([*self._messages[:number], message, *self._messages[number + 1 :]])
            if found is not None:
                yield message, *found

    def _split(self, messages: list[Message], render: Render | None = None) -> tuple[str, str] | None:
        try:
            before, *after = (render or self._render)(messages, False).split(self._mark)
        except UserError:  # the template looks into the text
            return None
        return (before, after[0]) if len(after) == 1 else None

    def _upto(self, number: int, ask: bool) -> str | None:
        """The messages ahead of one; None where the template refuses them."""
        if (number, ask) not in self._rendered:
            try:
                self._rendered[number, ask] = self._render(self._messages[:number], ask)
            except UserError:
                return None
        return self._rendered[number, ask]

    # -- where an answer begins --------------------------------------------------------------------------------------

    def _start(self, number: int, before: str, alone: str) -> int | None:
        """Where the header ahead of an answer ends.

        Args:
            number: Of the message.
            before: The whole conversation's text ahead of the mark.
            alone: The same where the conversation ends with this message.
        """
        plain, header = self._header(number)
        if header is None:
            return None
        if not header:
            start = self._unasked(number, plain, alone)
        elif alone.endswith(header):
            start = len(alone)
        else:
            start = self._behind(header, alone, len(plain)) if plain is not None and alone.startswith(plain) else None
            start = self._last(number, header, alone) if start is None else start
        if start is None:
            return None
        if before == alone:
            return start
        # Amid others it may be laid out in another way than at the end: without what was thought.
        opened = alone[start:]
        if before.endswith(opened) and before[: len(before) - len(opened)].endswith(_tail(alone[:start], header)):
            return len(before) - len(opened)
        return self._last(number, header, before)

    def _unasked(self, number: int, plain: str | None, text: str) -> int | None:
        """Where an answer begins under a template that prints nothing to ask for one: where a plain one would."""
        simple = self._split([*self._messages[:number], {"role": "assistant", "content": self._mark}])
        if simple is None:
            return None
        plain = self._upto(number, False) if plain is None else plain
        if plain is not None and simple[0].startswith(plain) and not simple[0][len(plain) :].strip():
            return len(plain)  # white space is all that stands between the question and it
        return self._shared(simple[0], text)

    def _header(self, number: int) -> tuple[str | None, str | None]:
        """The text of the messages ahead, and what the template adds to it to ask for an answer."""
        simple = self._plain_header(number)
        plain, asked = (self._upto(number, ask) if number else None for ask in (False, True))
        if plain is None or asked is None:
            return None, simple
        if simple is not None and asked.endswith(simple):
            # Behind an answer the template may end the turn in another way where it asks for the next one.
            return (plain if asked == plain + simple else None), simple
        shared = self._shared(plain, asked)
        return (plain if shared == len(plain) else None), asked[shared:]

    def _plain_header(self, number: int) -> str | None:
        """What the template adds to a question to ask for an answer; None where it refuses any."""
        for messages in (_QUESTION, [*self._messages[:number], *_QUESTION]):  # it may want a system prompt
            if self._simple is None:
                try:
                    plain, asked = (self._render(messages, ask) for ask in (False, True))
                except UserError:
                    continue
                self._simple = asked[self._shared(plain, asked) :]
        return self._simple

    def _behind(self, header: str, text: str, at: int) -> int | None:
        """Where a header that begins at a place ends, as far as it is there."""
        shared = _common(header, text[at:])
        if shared == len(header) or at + shared == len(text):
            return at + shared
        # The question opens the answer in another way than this answer begins.
        whole = self._whole_parts(header, shared)
        return at + whole if header[:whole].strip() else None

    def _last(self, number: int, header: str, text: str) -> int | None:
        """The end of the last header in a text: at its end, or ahead of what the template itself opens with."""
        turns = self._plain_turns(number)
        for short, opening in turns:
            for behind in dict.fromkeys((opening, "")):
                if short and text.endswith(short + behind):
                    return len(text) - len(behind)
        for length in range(len(header), 0, -1):
            whole = length == len(header) or self._whole_parts(header, length) == length
            if whole and header[:length].strip() and text.endswith(header[:length]):
                return len(text)
        at = text.rfind(header)
        if at < 0:
            return None
        start = at + len(header)
        known = {opening for _, opening in turns}
        return start if not self._names.search(text, start) or text[start:] in known else None

    def _plain_turns(self, number: int) -> list[tuple[str, str]]:
        """How the turn begins where it answers a question, the first of all: its header, what the template opens with.

        With and without what was thought, which later turns may leave out.
        """
        message = self._messages[number]
        turns = []
        for one in (message, {key: value for key, value in message.items() if key not in REASONING}):
            found = next((f for m in _with_mark(one, self._mark) if (f := self._split([*_QUESTION, m]))), None)
            if found is None:
                continue
            plain, asked = (self._render(_QUESTION, ask) for ask in (False, True))
            at = self._shared(plain, asked)
            if at < len(asked) and found[0].startswith(asked[:at]):
                start = self._behind(asked[at:], found[0], at)
                turns += [] if start is None else [(found[0][at:start], found[0][start:])]
        return turns

    # -- where it ends -----------------------------------------------------------------------------------------------

    def _end(self, number: int, message: Message, alone: str, after: str) -> int:
        """How much of what stands behind the mark belongs to the answer's turn.

        Args:
            number: Of the message.
            message: It, with the mark.
            alone: The text behind the mark where the conversation ends with this message.
            after: The same in the whole conversation.
        """
        last = number == len(self._messages) - 1
        if last:
            followed = self._split([*self._messages[:number], message, *_QUESTION])
            other = followed[1] if followed is not None else alone
        else:
            other = after
        length = self._shared(alone, other)
        if not length:
            alone, length = self._other_end(number, message, alone, after, last)
        if self._bare is not None:  # tools may be printed behind the turn
            without = self._split([*self._messages[:number], message], self._bare)
            shared = self._shared(alone[:length], without[1]) if without is not None else 0
            if (closed := self._closed(alone, shared)) is not None:
                return closed
        closed = self._closed(alone, length)
        # Where the end is plain text, white space alone is an end too.
        return closed if closed is not None else len(alone[:length].rstrip()) or length

    def _other_end(self, number: int, message: Message, alone: str, after: str, last: bool) -> tuple[str, int]:
        """The end of a turn that differs amid others and at the end of all: the text behind the mark, and how much."""
        if last:
            name = self._names.match(alone)
            return alone, name.end() if name else len(alone)
        ended = self._ended(number, message)
        if ended is not None and (length := self._shared(ended, after)):
            return ended, length
        name = self._names.match(after)
        return after, name.end() if name and name[0] not in self._ahead_of_questions() else 0

    def _closed(self, text: str, length: int) -> int | None:
        """The end of the special token that ends a text but for white space, which is the template's."""
        ends = [name.end() for name in self._names.finditer(text, 0, length)]
        return ends[-1] if ends and not text[ends[-1] : length].strip() else None

    def _ahead_of_questions(self) -> list[str]:
        """Special tokens that stand ahead of what a user says."""
        found = self._split([{"role": "user", "content": self._mark}])
        return [] if found is None else self._names.findall(found[0])

    def _ended(self, number: int, message: Message) -> str | None:
        """The text behind the mark, up to the header of the next answer."""
        try:
            _, *after = self._render([*self._messages[:number], message], True).split(self._mark)
        except UserError:
            return None
        header = self._plain_header(number)
        return after[0].removesuffix(header) if len(after) == 1 and header and after[0].endswith(header) else None

    def _shared(self, one: str, other: str) -> int:
        """Length of the common beginning of two texts; no special token and no line is cut where both go on."""
        length = _common(one, other)
        if length in (len(one), len(other)):
            return length
        at = length
        for text in (one, other):
            for name in self._names.finditer(text, max(0, length - _LONGEST)):
                if name.start() < at < name.end():
                    at = name.start()
                if name.end() >= length:
                    break
        begins = any(self._names.match(text, at) for text in (one, other))
        return at if begins else self._whole_parts(one, at)

    def _whole_parts(self, text: str, length: int) -> int:
        """The end of the last special token or line in the beginning of a text."""
        names = [name.end() for name in self._names.finditer(text) if name.end() <= length]
        return max([0, *names[-1:], text.rfind("\n", 0, length) + 1])


def _with_mark(message: Message, mark: str) -> Iterator[Message]:
    """Copies of a message with the mark in place of one text in it: its content, a call's name, what was thought."""
    content, calls, call = message.get("content"), message.get("tool_calls"), message.get("function_call")
    if isinstance(content, str) and content.strip():
        yield {**message, "content": mark}
    elif isinstance(content, list):
        yield {**message, "content": [{"type": "text", "text": mark}]}
    if isinstance(calls, list) and calls and isinstance(calls[0], dict):
        function = calls[0].get("function")
        first = {"function": {**function, "name": mark}} if isinstance(function, dict) else {"name": mark}
        yield {**message, "tool_calls": [{**calls[0], **first}, *calls[1:]]}
    if isinstance(call, dict):
        yield {**message, "function_call": {**call, "name": mark}}
    thoughts = {name: mark for name in REASONING if isinstance(message.get(name), str)}
    if thoughts:
        yield {**message, **thoughts}


def _common(one: str, other: str) -> int:
    """Length of the common beginning of two texts."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    low, high = 0, length  # texts may be long, and slices are compared fast
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle)
    return low


def _tail(text: str, header: str) -> str:
    """The part of a header that ends a text."""
    return next(header[:length] for length in range(len(header), -1, -1) if text.endswith(header[:length]))
