"""Finds the assistant's answers in a rendered conversation, for the loss mask of templates without {% generation %}.

A chat template may trim an answer, drop earlier reasoning, add its own system prompt, or begin the next answer. So an
answer is replaced by a placeholder that occurs nowhere else: what differs between the two texts is the answer, the
generation prompt is its header, and what follows it in two different contexts is the end of its turn. Where these
disagree, an error is raised.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lit_gpt.data.formats.messages import REASONING, Message
from lit_gpt.errors import UserError

_QUESTION: list[Message] = [{"role": "user", "content": "?"}]
#: Length of the longest special token, in characters; limits searches to the neighborhood of an offset.
_LONGEST = 256
#: Text of a conversation; the second argument is `add_generation_prompt`.
Render = Callable[[list[Message], bool], str]


class Answer(NamedTuple):
    """Span of an answer in the text, in characters, with the end of its turn; `message` is the message's index."""

    message: int
    start: int
    end: int


class AnswerFinder:
    """Finds the answers of one conversation.

    Args:
        messages: The conversation.
        render: Renders messages by the template.
        special: Matches special tokens, which are not divided.
        placeholder: A word that occurs neither in a message nor in the template.
        bare: Renders without tools and documents, if there are any.
    """

    def __init__(
        self,
        messages: list[Message],
        render: Render,
        special: re.Pattern[str],
        placeholder: str,
        bare: Render | None = None,
    ) -> None:
        self._messages, self._render, self._bare = messages, render, bare
        self._special, self._placeholder = special, placeholder
        self._rendered: dict[tuple[int, bool], str] = {}
        self._question_header: str | None = None  # the generation prompt after a question

    def find(self, whole: str) -> list[Answer]:
        """Every answer of the assistant in the text.

        Args:
            whole: The rendered conversation.

        Raises:
            UserError: An answer cannot be told from the text around it.
        """
        answers: list[Answer] = []
        for number, message in enumerate(self._messages):
            if message["role"] == "assistant":
                answer = self._find(number, whole)
                # Several answers may share one turn; then each begins at the end of the previous one.
                previous_end = answers[-1].end if answers else 0
                answers.append(answer._replace(start=max(answer.start, previous_end)))
        return answers

    def locate(self, number: int) -> tuple[Message, str, str] | None:
        """A message with the placeholder in it, and the conversation's text before and after the placeholder."""
        return next(self._replaced(number), None)

    def _find(self, number: int, whole: str) -> Answer:
        for message, before, after in self._replaced(number):
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
            f"the answer of message {number + 1} cannot be told from the text around it in the chat template's output;"
            " enclose answers in the template by {% generation %}, or give another data.format.template"
        )

    def _replaced(self, number: int) -> Iterator[tuple[Message, str, str]]:
        for message in _with_placeholder(self._messages[number], self._placeholder):
            sides = self._split([*self._messages[:number], message, *self._messages[number + 1 :]])
            if sides is not None:
                yield message, *sides

    def _split(self, messages: list[Message], render: Render | None = None) -> tuple[str, str] | None:
        """The text before and after the placeholder; None unless it occurs once."""
        try:
            before, *after = (render or self._render)(messages, False).split(self._placeholder)
        except UserError:  # the template requires a certain text
            return None
        return (before, after[0]) if len(after) == 1 else None

    def _render_before(self, number: int, ask: bool) -> str | None:
        """The text of the messages before one; None if the template refuses them."""
        if (number, ask) not in self._rendered:
            try:
                self._rendered[number, ask] = self._render(self._messages[:number], ask)
            except UserError:
                return None
        return self._rendered[number, ask]

    # -- start of an answer ------------------------------------------------------------------------------------------

    def _start(self, number: int, before: str, alone: str) -> int | None:
        """The end of the header before an answer.

        Args:
            number: Index of the message.
            before: The conversation's text before the placeholder.
            alone: The same for the conversation up to this message.
        """
        plain, header = self._header(number)
        if header is None:
            return None
        if not header:
            start = self._start_without_header(number, plain, alone)
        elif alone.endswith(header):
            start = len(alone)
        else:
            follows = plain is not None and alone.startswith(plain)
            start = self._header_end(header, alone, len(plain)) if plain is not None and follows else None
            start = self._last_header_end(number, header, alone) if start is None else start
        if start is None:
            return None
        if before == alone:
            return start
        # Before other messages it may be rendered differently than at the end: without reasoning.
        opened = alone[start:]
        if before.endswith(opened) and before[: len(before) - len(opened)].endswith(_tail(alone[:start], header)):
            return len(before) - len(opened)
        return self._last_header_end(number, header, before)

    def _start_without_header(self, number: int, plain: str | None, text: str) -> int | None:
        """The start of an answer of a template without a generation prompt: that of an answer with content only."""
        simple = self._split([*self._messages[:number], {"role": "assistant", "content": self._placeholder}])
        if simple is None:
            return None
        plain = self._render_before(number, False) if plain is None else plain
        if plain is not None and simple[0].startswith(plain) and not simple[0][len(plain) :].strip():
            return len(plain)  # only whitespace between question and answer
        return self._shared(simple[0], text)

    def _header(self, number: int) -> tuple[str | None, str | None]:
        """The text of the messages before, and the generation prompt that the template adds to it."""
        simple = self._header_of_question(number)
        plain, asked = (self._render_before(number, ask) if number else None for ask in (False, True))
        if plain is None or asked is None:
            return None, simple
        if simple is not None and asked.endswith(simple):
            # After an answer the template may end the turn differently if it adds a generation prompt.
            return (plain if asked == plain + simple else None), simple
        shared = self._shared(plain, asked)
        return (plain if shared == len(plain) else None), asked[shared:]

    def _header_of_question(self, number: int) -> str | None:
        """The generation prompt after a question; None if the template refuses one."""
        for messages in (_QUESTION, [*self._messages[:number], *_QUESTION]):  # it may require a system prompt
            if self._question_header is None:
                try:
                    plain, asked = (self._render(messages, ask) for ask in (False, True))
                except UserError:
                    continue
                self._question_header = asked[self._shared(plain, asked) :]
        return self._question_header

    def _header_end(self, header: str, text: str, at: int) -> int | None:
        """The end of a header, or of its first part, that begins at an offset."""
        shared = _common(header, text[at:])
        if shared == len(header) or at + shared == len(text):
            return at + shared
        # The generation prompt differs from the beginning of this answer.
        whole = self._whole_parts(header, shared)
        return at + whole if header[:whole].strip() else None

    def _last_header_end(self, number: int, header: str, text: str) -> int | None:
        """The end of the last header in a text: at its end, or before the template's own opening of an answer."""
        turns = self._first_turns(number)
        for short, opening in turns:
            for suffix in dict.fromkeys((opening, "")):
                if short and text.endswith(short + suffix):
                    return len(text) - len(suffix)
        for length in range(len(header), 0, -1):
            whole = length == len(header) or self._whole_parts(header, length) == length
            if whole and header[:length].strip() and text.endswith(header[:length]):
                return len(text)
        at = text.rfind(header)
        if at < 0:
            return None
        start = at + len(header)
        openings = {opening for _, opening in turns}
        return start if not self._special.search(text, start) or text[start:] in openings else None

    def _first_turns(self, number: int) -> list[tuple[str, str]]:
        """Header and opening of the message as the answer to a single question, with and without its reasoning."""
        message = self._messages[number]
        turns = []
        for variant in (message, {key: value for key, value in message.items() if key not in REASONING}):
            replaced = _with_placeholder(variant, self._placeholder)
            sides = next((sides for answer in replaced if (sides := self._split([*_QUESTION, answer]))), None)
            if sides is None:
                continue
            plain, asked = (self._render(_QUESTION, ask) for ask in (False, True))
            at = self._shared(plain, asked)
            if at < len(asked) and sides[0].startswith(asked[:at]):
                start = self._header_end(asked[at:], sides[0], at)
                turns += [] if start is None else [(sides[0][at:start], sides[0][start:])]
        return turns

    # -- end of an answer --------------------------------------------------------------------------------------------

    def _end(self, number: int, message: Message, alone: str, after: str) -> int:
        """Length of the text after the placeholder that belongs to the answer's turn.

        Args:
            number: Index of the message.
            message: The message with the placeholder.
            alone: The text after the placeholder for the conversation up to this message.
            after: The same for the whole conversation.
        """
        last = number == len(self._messages) - 1
        if last:
            followed = self._split([*self._messages[:number], message, *_QUESTION])
            other = followed[1] if followed is not None else alone
        else:
            other = after
        length = self._shared(alone, other)
        if not length:
            alone, length = self._end_elsewhere(number, message, alone, after, last)
        if self._bare is not None:  # tools may be printed after the turn
            without = self._split([*self._messages[:number], message], self._bare)
            shared = self._shared(alone[:length], without[1]) if without is not None else 0
            if (closed := self._closed(alone, shared)) is not None:
                return closed
        closed = self._closed(alone, length)
        # If the end is plain text, whitespace alone is an end too.
        return closed if closed is not None else len(alone[:length].rstrip()) or length

    def _end_elsewhere(self, number: int, message: Message, alone: str, after: str, last: bool) -> tuple[str, int]:
        """The text after the placeholder and the length of its end, if turns end differently at the very end."""
        if last:
            token = self._special.match(alone)
            return alone, token.end() if token else len(alone)
        asked = self._before_next_header(number, message)
        if asked is not None and (length := self._shared(asked, after)):
            return asked, length
        token = self._special.match(after)
        return after, token.end() if token and token[0] not in self._tokens_before_questions() else 0

    def _closed(self, text: str, length: int) -> int | None:
        """The end of the last special token of a text, if only whitespace follows, which is the template's."""
        ends = [token.end() for token in self._special.finditer(text, 0, length)]
        return ends[-1] if ends and not text[ends[-1] : length].strip() else None

    def _tokens_before_questions(self) -> list[str]:
        sides = self._split([{"role": "user", "content": self._placeholder}])
        return [] if sides is None else self._special.findall(sides[0])

    def _before_next_header(self, number: int, message: Message) -> str | None:
        """The text after the placeholder, up to a generation prompt."""
        try:
            _, *after = self._render([*self._messages[:number], message], True).split(self._placeholder)
        except UserError:
            return None
        header = self._header_of_question(number)
        return after[0].removesuffix(header) if len(after) == 1 and header and after[0].endswith(header) else None

    def _shared(self, first: str, second: str) -> int:
        """Length of the common prefix of two texts, which divides no special token and no line if both continue."""
        length = _common(first, second)
        if length in (len(first), len(second)):
            return length
        at = length
        for text in (first, second):
            for token in self._special.finditer(text, max(0, length - _LONGEST)):
                if token.start() < at < token.end():
                    at = token.start()
                if token.end() >= length:
                    break
        begins = any(self._special.match(text, at) for text in (first, second))
        return at if begins else self._whole_parts(first, at)

    def _whole_parts(self, text: str, length: int) -> int:
        """The end of the last special token or line in the first characters of a text."""
        ends = [token.end() for token in self._special.finditer(text) if token.end() <= length]
        return max([0, *ends[-1:], text.rfind("\n", 0, length) + 1])


def _with_placeholder(message: Message, placeholder: str) -> Iterator[Message]:
    """Copies of a message with the placeholder for one of its texts: content, a call's name, reasoning."""
    content, calls, call = message.get("content"), message.get("tool_calls"), message.get("function_call")
    if isinstance(content, str) and content.strip():
        yield {**message, "content": placeholder}
    elif isinstance(content, list):
        yield {**message, "content": [{"type": "text", "text": placeholder}]}
    if isinstance(calls, list) and calls and isinstance(calls[0], dict):
        function = calls[0].get("function")
        first = {"function": {**function, "name": placeholder}} if isinstance(function, dict) else {"name": placeholder}
        yield {**message, "tool_calls": [{**calls[0], **first}, *calls[1:]]}
    if isinstance(call, dict):
        yield {**message, "function_call": {**call, "name": placeholder}}
    reasoning = {name: placeholder for name in REASONING if isinstance(message.get(name), str)}
    if reasoning:
        yield {**message, **reasoning}


def _common(first: str, second: str) -> int:
    """Length of the common prefix of two texts."""
    length = min(len(first), len(second))
    if first[:length] == second[:length]:
        return length
    low, high = 0, length  # bisection: texts may be long, and comparing slices is fast
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if first[:middle] == second[:middle] else (low, middle)
    return low


def _tail(text: str, header: str) -> str:
    """The part of a header that ends a text."""
    return next(header[:length] for length in range(len(header), -1, -1) if text.endswith(header[:length]))
