"""Chat templates of the Hugging Face world: a program in Jinja that lays a conversation out as one text.

Knows where a template is found, what it is given, which of several is taken. How it is rendered and where the answers
stand in its text is said in `rendering`.
"""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lit_gpt.data.chunks import Segment
from lit_gpt.data.formats.chat_templates import Template, special_names
from lit_gpt.data.formats.messages import Message
from lit_gpt.data.formats.rendering import QUESTION, Rendering
from lit_gpt.data.formats.template_program import Program, check_variables, clock, compiled, with_defaults
from lit_gpt.data.tokenizers.hub_folder import SETTINGS, template_files, templates_of
from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

#: A template may make a special token of a role: <|user|>. A record has no say in which.
_ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython", "observation")
_PLAIN = [*QUESTION, {"role": "assistant", "content": "b"}]


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
            f"the chat template prints the date: {day}, today's; data.format.template_variables"
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
            return self._run(_PLAIN, {}).end()
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
                " name them with data.format.template.special"
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
                " data.format.template.template, or another data.format.template such as ChatML"
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
                " (data.format.template.template, or generate --chat_template)"
            )
        return templates[name]

    def segments(self, messages: list[Message], others: dict[str, Any], ask: bool = False) -> list[Segment]:
        return list(self._run(messages, others).segments(ask))

    def _run(self, messages: list[Message], others: dict[str, Any]) -> Rendering:
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
        return Rendering(compiled(self.source(values)), self.special, values, messages)


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
