"""Jinja chat templates of Hugging Face models: loading, selection by name, variables, roles.

`rendering` renders a conversation and makes its loss mask.
"""

import copy
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

#: Roles that a template may turn into a special token such as <|user|>; a record may not choose others.
_ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython", "observation")
_PLAIN = [*QUESTION, {"role": "assistant", "content": "b"}]


class Jinja(Template):
    """A Jinja chat template as of Hugging Face models, such as chat_template.jinja.

    The ids equal those of transformers' `apply_chat_template`: the whole text is encoded at once, and the template
    writes bos and eos. Answers are the {% generation %} blocks; without such blocks they are found by rendering the
    conversation with and without each.

    Args:
        template: A file, a model's folder, or the template's text; the name of one of the tokenizer's templates; or
            several by name, of which "tool_use" renders conversations with tools and "default" others. By default the
            tokenizer's.
        special: Special tokens in the text; by default the tokenizer's.
    """

    framed: ClassVar[bool] = False
    whole_text: ClassVar[bool] = True

    def __init__(self, template: str | dict[str, str] | None = None, special: list[str] | None = None) -> None:
        self._name: str | None = None  # of one of the tokenizer's templates
        if isinstance(template, str) and "{" not in template and not Path(template).expanduser().exists():
            self._name, template = template, None
        self.template = read_template(template) if isinstance(template, str) else template
        self.special = None if special is None else list(special)
        self._token_variables: dict[str, str] = {}
        self._user_variables: dict[str, Any] = {}
        self._now: datetime.datetime | None = None
        self._programs()

    @property
    def name(self) -> str:
        return "the chat template"

    @property
    def special_tokens(self) -> list[str]:
        """Those of the argument; the tokenizer has its own already."""
        return self.special or []

    @property
    def reads_parts(self) -> bool:
        return any({"type", "text"} <= program.fields for program in self._programs())

    @property
    def notes(self) -> list[str]:
        if self._now is None or "strftime_now" in self._user_variables:
            return []
        day = f"{self._now:%Y-%m-%d}"
        return [
            f"the chat template prints the date: {day}, today's; data.format.template_variables"
            f" '{{strftime_now: {day}}}' keeps it"
        ]

    def reads(self, field: str) -> bool:
        return any(field in program.fields for program in self._programs())

    def with_variables(self, variables: dict[str, Any]) -> Template:
        # YAML turns text that looks like a date into one.
        plain = {name: str(value) if isinstance(value, datetime.date) else value for name, value in variables.items()}
        if self.template is not None:
            check_variables(variables, self._programs())
        if "strftime_now" in variables:
            clock(variables["strftime_now"])
        return self._copy(_user_variables={**self._user_variables, **plain})

    @property
    def stops(self) -> list[str]:
        """What ends the answer of the shortest conversation; none if the template refuses it."""
        try:
            return self._run(_PLAIN, {}).end()
        except UserError:
            return []

    def for_tokenizer(self, tokenizer: "Tokenizer") -> Template:
        """With the names of the tokenizer's bos, eos, ..., and its template and special tokens if none were given."""
        template = self.template if self.template is not None else self._template_of(tokenizer)
        special = [*special_names(tokenizer), *tokenizer.roles.values()] if self.special is None else self.special
        special = list(dict.fromkeys(special))
        if not special and not tokenizer.trained:
            raise UserError(
                "the special tokens of the chat template are unknown before the tokenizer is trained; list them in"
                " data.format.template.special"
            )
        tokens = {f"{role}_token": name for role, name in tokenizer.roles.items()}
        copied = self._copy(template=template, special=special, _token_variables=tokens)
        check_variables(copied._user_variables, copied._programs())
        # The same time for all conversations, however long preparation takes.
        copied._now = datetime.datetime.now() if copied.reads("strftime_now") else None
        return copied

    def _template_of(self, tokenizer: "Tokenizer") -> str | dict[str, str]:
        templates = tokenizer.chat_templates
        if self._name is not None:
            if self._name not in templates:
                names = f"; the tokenizer has {', '.join(templates)}" if templates else ""
                raise UserError(
                    f"there is no chat template {self._name!r}{names}; give a .jinja file, a folder, or such a name"
                )
            return templates[self._name]
        if not templates:
            raise UserError(
                f"the {type(tokenizer).__name__} tokenizer has no chat template; give one with"
                " data.format.template.template, or another data.format.template such as ChatML"
            )
        return templates["default"] if [*templates] == ["default"] else templates

    def _copy(self, **changes: Any) -> "Jinja":
        copied = copy.copy(self)
        vars(copied).update(changes)
        return copied

    def _programs(self) -> list[Program]:
        if self.template is None:
            return []
        sources = [self.template] if isinstance(self.template, str) else self.template.values()
        return [compiled(source) for source in sources]

    def program(self, bos: str | None) -> str | dict[str, str] | None:
        defaults = {name: value for name, value in self._user_variables.items() if name != "strftime_now"}
        if self.template is None or isinstance(self.template, str):
            return self.template and with_defaults(self.template, defaults)
        return {name: with_defaults(text, defaults) for name, text in self.template.items()}

    def source(self, values: dict[str, Any]) -> str:
        """The template for a conversation with these variables.

        Raises:
            UserError: There are several, and none is named "default".
        """
        if isinstance(self.template, str):
            return self.template
        templates = self.template or {}
        name = "tool_use" if values.get("tools") is not None and "tool_use" in templates else "default"
        if name not in templates:
            raise UserError(
                f"there are several chat templates and none is named default; choose one of {', '.join(templates)}"
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
                    f"message {number} has role {role!r}; give one of {', '.join(_ROLES)}, or a role that occurs in no"
                    " special token"
                )
        values = {**self._token_variables, **self._user_variables, **others}
        if self._now is not None:
            values["strftime_now"] = clock(self._user_variables.get("strftime_now", self._now))
        return Rendering(compiled(self.source(values)), self.special, values, messages)


def read_template(template: str) -> str | dict[str, str]:
    """The text of a template, or several by name.

    Args:
        template: A file, a model's folder, or the text itself.

    Raises:
        UserError: There is no such file, or the folder has no template.
    """
    if "{" in template:
        return template
    path = Path(template).expanduser()
    try:
        if not path.is_dir():
            return path.read_text(encoding="utf-8")
        files = template_files(path)
        if (path / SETTINGS).exists():
            files[SETTINGS] = (path / SETTINGS).read_text(encoding="utf-8")
        templates = templates_of(files, path)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"chat template {template!r} cannot be read ({why}); give a .jinja file or a folder") from None
    if not templates:
        raise UserError(f"{template} has no chat template; give a .jinja file")
    return templates["default"] if [*templates] == ["default"] else templates
