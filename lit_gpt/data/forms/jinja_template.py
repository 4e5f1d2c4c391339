"""Chat templates of the Hugging Face world: a program in Jinja that lays a conversation out as one text.

Knows which stretches of its text are answers, and which of the special tokens in it are its own. Does not know:
records, ids, which template a model came with.
"""

import datetime
import json
from collections.abc import Iterator, Sequence
from itertools import count
from os.path import commonprefix
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lit_gpt.data.documents import Span
from lit_gpt.data.forms.answers import AnswerFinder
from lit_gpt.data.forms.chat_templates import Template, any_of, special_names
from lit_gpt.data.forms.messages import REASONING, Message, trained_on
from lit_gpt.data.forms.template_program import Program, check_variables, clock, compiled, with_defaults
from lit_gpt.data.tokenizers.hub_folder import SETTINGS, template_files, templates_of
from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

#: A template may make a special token of a role: <|user|>. A record has no say in which.
_ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython", "observation")
_PRIVATE = range(0xE000, 0xF900)  # characters that mean nothing by themselves: marks within a text
_ASK = "add_generation_prompt"
_PRINTED = ("tools", "documents")  # of a record, besides its messages
_PLAIN = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


class Jinja(Template):
    """A chat template of the Hugging Face world, such as lies beside a model: chat_template.jinja.

    The ids are those of transformers' `apply_chat_template`: of the whole text, in which the template itself writes bos
    and eos. Answers are what the template marks by {% generation %}; where it marks nothing, they are found by
    rendering the conversation with and without each.

    Args:
        template: A file, the folder of a model, or the template itself; the name of one of the tokenizer's templates;
            several by name, of which "tool_use" is taken for conversations with tools and "default" for others. By
            default the tokenizer's own.
        special: Names of the special tokens in the layout; by default those that the tokenizer has.
    """

    framed: ClassVar[bool] = False
    whole_text: ClassVar[bool] = True

    def __init__(self, template: str | dict[str, str] | None = None, special: list[str] | None = None) -> None:
        self._by_name: str | None = None  # which of the tokenizer's templates
        if isinstance(template, str) and "{" not in template and not Path(template).expanduser().exists():
            self._by_name, template = template, None
        self.template = read_template(template) if isinstance(template, str) else template
        self.special = None if special is None else list(special)
        self._variables: dict[str, str] = {}
        self._given: dict[str, Any] = {}
        self._now: datetime.datetime | None = None
        self._programs()

    @property
    def name(self) -> str:
        return "the chat template"

    @property
    def special_tokens(self) -> list[str]:
        """Those that were named; those of the tokenizer are there already."""
        return self.special or []

    @property
    def reads_parts(self) -> bool:
        return any({"type", "text"} <= program.fields for program in self._programs())

    @property
    def notes(self) -> list[str]:
        if self._now is None or "strftime_now" in self._given:
            return []
        day = f"{self._now:%Y-%m-%d}"
        return [
            f"the chat template prints the date: {day}, today's; data.form.template_variables"
            f" '{{strftime_now: {day}}}' keeps it"
        ]

    def has_place(self, field: str) -> bool:
        return any(field in program.fields for program in self._programs())

    def with_variables(self, given: dict[str, Any]) -> Template:
        made = self._copy(self.template, self.special)
        # YAML makes dates of texts that look like one.
        plain = {name: str(value) if isinstance(value, datetime.date) else value for name, value in given.items()}
        made._given = {**self._given, **plain}
        if self.template is not None:
            check_variables(given, self._programs())
        if "strftime_now" in given:
            clock(given["strftime_now"])
        return made

    @property
    def stops(self) -> list[str]:
        """What ends the answer of the shortest conversation; nothing where the template refuses that."""
        try:
            return [span.text for span in self.spans(_PLAIN, {}) if span.special and span.scored][-1:]
        except UserError:
            return []

    def for_tokenizer(self, tokenizer: "Tokenizer") -> Template:
        """With the tokenizer's template and special tokens where none were given, and the names of its roles."""
        template = self.template if self.template is not None else self._of(tokenizer)
        special = [*special_names(tokenizer), *tokenizer.roles.values()] if self.special is None else self.special
        special = list(dict.fromkeys(special))
        if not special and not tokenizer.trained:
            raise UserError(
                "which texts of the chat template are special tokens is not known before the tokenizer is trained;"
                " name them with data.form.template.special"
            )
        made = self._copy(template, special)
        made._variables = {f"{role}_token": name for role, name in tokenizer.roles.items()}
        check_variables(made._given, made._programs())
        # One moment for all conversations, however long their preparation takes.
        made._now = datetime.datetime.now() if made.has_place("strftime_now") else None
        return made

    def _of(self, tokenizer: "Tokenizer") -> str | dict[str, str]:
        """The templates that came with a tokenizer, or the one that was named."""
        templates = tokenizer.chat_templates
        if self._by_name is not None:
            if self._by_name not in templates:
                there = f"; the tokenizer has {', '.join(templates)}" if templates else ""
                raise UserError(
                    f"there is no chat template {self._by_name!r}{there}; give a .jinja file, a folder, or such a name"
                )
            return templates[self._by_name]
        if not templates:
            raise UserError(
                f"the {type(tokenizer).__name__} tokenizer has no chat template; give one with"
                " data.form.template.template, or another data.form.template such as ChatML"
            )
        return templates["default"] if [*templates] == ["default"] else templates

    def _copy(self, template: str | dict[str, str] | None, special: list[str] | None) -> "Jinja":
        made = Jinja(template, special)
        made._by_name, made._now = self._by_name, self._now
        made._variables, made._given = self._variables, self._given
        return made

    def _programs(self) -> list[Program]:
        if self.template is None:
            return []
        sources = [self.template] if isinstance(self.template, str) else self.template.values()
        return [compiled(source) for source in sources]

    def program(self, bos: str | None) -> str | dict[str, str] | None:
        defaults = {name: value for name, value in self._given.items() if name != "strftime_now"}
        if self.template is None or isinstance(self.template, str):
            return self.template and with_defaults(self.template, defaults)
        return {name: with_defaults(text, defaults) for name, text in self.template.items()}

    def source(self, values: dict[str, Any]) -> str:
        """The template for a conversation with these variables.

        Raises:
            UserError: There is none of the name that is wanted.
        """
        if isinstance(self.template, str):
            return self.template
        templates = self.template or {}
        name = "tool_use" if values.get("tools") is not None and "tool_use" in templates else "default"
        if name not in templates:
            raise UserError(
                f"there are several chat templates and none is called default; name one of {', '.join(templates)}"
                " (data.form.template.template, or generate --chat_template)"
            )
        return templates[name]

    def spans(self, messages: list[Message], others: dict[str, Any], ask: bool = False) -> list[Span]:
        if self.template is None or self.special is None:
            raise UserError("Jinja lacks its template or its special tokens; give both, or use it with a tokenizer")
        for number, message in enumerate(messages, start=1):
            role = message["role"]
            if role not in _ROLES and any(role in name for name in self.special):
                raise UserError(
                    f"message {number} is of {role!r}; give one of {', '.join(_ROLES)}, or a role that no special token"
                    " is called"
                )
        values = {**self._variables, **self._given, **others}
        if self._now is not None:
            values["strftime_now"] = clock(self._given.get("strftime_now", self._now))
        run = _Run(compiled(self.source(values)), self.special, values, messages)
        return list(run.spans(ask))


class _Run:
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

    def spans(self, ask: bool) -> Iterator[Span]:
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
                yield Span(part, special=(start, end) in special, scored=scored)

    def _answers(self, text: str) -> list[tuple[int, int]]:
        """Where in the text what is trained on begins and ends."""
        bare = self._render_bare if any(self._values.get(name) for name in _PRINTED) else None
        finder = AnswerFinder(self._messages, self._render, self._names, self._mark, bare)
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
                " answer to learn; mend the template, or give another data.form.template"
            )

    def _marked(self, messages: list[Message], text: str) -> list[tuple[int, int]]:
        """Stretches between the marks of {% generation %}, in the text without them."""
        values = {**self._torn_values, _ASK: False}
        marked = self._program.render(messages, values, (self._begin, self._end))
        if marked.replace(self._begin, "").replace(self._end, "") != text:
            raise UserError(
                "the chat template changes what is in its {% generation %} blocks afterwards, so answers cannot be"
                " found in its text; give another data.form.template"
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
            question, asked = (self._program.render(_PLAIN[:1], {**self._values, _ASK: ask}) for ask in (False, True))
            both = self._program.render([*_PLAIN[:1], answer], {**self._values, _ASK: False})
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


def read_template(given: str) -> str | dict[str, str]:
    """The text of a template, from a file, a model's folder, or as it is given; of a folder, all of several by name.

    Raises:
        UserError: no such file, or a folder without a template.
    """
    if "{" in given:
        return given
    path = Path(given).expanduser()
    try:
        if not path.is_dir():
            return path.read_text(encoding="utf-8")
        files = template_files(path)
        if (path / SETTINGS).exists():
            files[SETTINGS] = (path / SETTINGS).read_text(encoding="utf-8")
        templates = templates_of(files, path)
    except (OSError, ValueError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else fault
        raise UserError(f"chat template {given!r} cannot be read ({why}); give a .jinja file or a folder") from None
    if not templates:
        raise UserError(f"{given} has no chat template; give a .jinja file")
    return templates["default"] if [*templates] == ["default"] else templates
