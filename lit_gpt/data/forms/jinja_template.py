"""Chat templates of the Hugging Face world: a program in Jinja that lays a conversation out as one text.

Knows: how the transformers library runs such a program, which stretches of its text are answers, which of the special
tokens in it are its own. Does not know: records, ids, which template a model came with.

A template is somebody else's code, so it runs in a sandbox. It gets no clock: the same records give the same ids on
every day.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_gpt.data.documents import Span
from lit_gpt.data.forms.chat_templates import Message, Template, any_of, special_names
from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

#: A template may make a special token of a role: <|user|>. A record has no say in which.
_ROLES = ("system", "developer", "user", "assistant", "tool", "function", "ipython", "observation")
_PRIVATE = range(0xE000, 0xF900)  # characters that mean nothing by themselves: marks within a text


class Jinja(Template):
    """A chat template of the Hugging Face world, such as lies beside a model: chat_template.jinja.

    Answers are what the template marks by {% generation %}; where it marks nothing, they are found by rendering the
    conversation up to each, which has to be a beginning of the whole.

    Args:
        template: A file, the folder of a model, or the template itself; by default the tokenizer's own.
        special: Names of the special tokens in the layout; by default those that the tokenizer has.
    """

    def __init__(self, template: str | None = None, special: list[str] | None = None) -> None:
        self.template = None if template is None else read_template(template)
        self.special = None if special is None else list(special)
        self._variables: dict[str, str] = {}
        if self.template is not None:
            _compiled(self.template)

    @property
    def special_tokens(self) -> list[str]:
        """Those that were named; those of the tokenizer are there already."""
        return self.special or []

    @property
    def stops(self) -> list[str]:
        """What ends the answer of the shortest conversation."""
        return [span.text for span in self._shortest() if span.special and span.scored][-1:]

    def _shortest(self) -> list[Span]:
        return self.spans([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], {})

    def for_tokenizer(self, tokenizer: "Tokenizer") -> Template:
        """With the tokenizer's template and special tokens where none were given, and the names of its roles."""
        own = getattr(tokenizer, "chat_template", None)
        if self.template is None and own is None:
            raise UserError(
                f"the {type(tokenizer).__name__} tokenizer has no chat template; give one with"
                " data.form.template.template, or another data.form.template such as ChatML"
            )
        special = [*special_names(tokenizer), *tokenizer.roles.values()] if self.special is None else self.special
        special = list(dict.fromkeys(special))
        if not special and not tokenizer.trained:
            raise UserError(
                "which texts of the chat template are special tokens is not known before the tokenizer is trained;"
                " name them with data.form.template.special"
            )
        made = Jinja(own if self.template is None else self.template, special)
        made._variables = {f"{role}_token": name for role, name in tokenizer.roles.items()}
        return made

    def program(self, bos: str | None) -> str | None:
        if bos is None or self.template is None or self._shortest()[0]._replace(scored=False) == Span(bos, True, False):
            return self.template
        return f"{{{{ bos_token }}}}{{# as in training #}}\n{self.template}"  # the line's end belongs to the remark

    def spans(self, messages: list[Message], others: dict[str, Any], ask: bool = False) -> list[Span]:
        if self.template is None or self.special is None:
            raise UserError("Jinja lacks its template or its special tokens; give both, or use it with a tokenizer")
        for number, message in enumerate(messages, start=1):
            if message["role"] not in _ROLES:
                raise UserError(f"message {number} is of {message['role']!r}; give one of {', '.join(_ROLES)}")
        run = _Run(self.template, self.special, self._variables, messages, others)
        return list(run.spans(ask))


class _Run:
    """One conversation on its way through a template.

    Special tokens that a message spells are torn by a mark after their first character, before the template sees them:
    what is whole in its text is the template's own.
    """

    def __init__(
        self, template: str, special: list[str], variables: dict[str, str], messages: Any, others: dict[str, Any]
    ) -> None:
        self._template, self._variables = template, variables
        self._names = any_of(tuple(special))
        written = f"{template}{json.dumps([messages, others], ensure_ascii=False, default=str)}"
        free = (chr(code) for code in _PRIVATE if chr(code) not in written)
        # Three characters that occur nowhere: a tear, and the two ends of a marked answer.
        self._tear, self._begin, self._end = next(free), next(free), next(free)
        self._messages, self._others = self._torn(messages), self._torn(others)
        self._plain = (messages, others)

    def spans(self, ask: bool) -> Iterator[Span]:
        text, answers = self._laid_out(ask)
        if self._tear in text:
            whole = self._without_marks(self._render(*self._plain, ask))
            if text.replace(self._tear, "") != whole:
                raise UserError(
                    "a message spells a special token that the chat template looks for, so the two cannot be told"
                    " apart; leave the record out"
                )
        borders = sorted({0, len(text), *(border for answer in answers for border in answer)})
        found = [match.span() for match in self._names.finditer(text)]
        borders = sorted({*borders, *(end for match in found for end in match)})
        special = set(found)
        for start, end in zip(borders, borders[1:], strict=False):
            scored = any(first <= start and end <= last for first, last in answers)
            part = text[start:end].replace(self._tear, "")
            if part:
                yield Span(part, special=(start, end) in special, scored=scored)

    def _laid_out(self, ask: bool) -> tuple[str, list[tuple[int, int]]]:
        """The whole text, and where in it the answers begin and end."""
        marked = self._render(self._messages, self._others, ask)
        text = self._without_marks(marked)
        answers = list(self._marked(marked)) if self._begin in marked else list(self._by_beginnings(text))
        return text, [(start, self._trimmed(text, start, end)) for start, end in answers]

    def _marked(self, marked: str) -> Iterator[tuple[int, int]]:
        """Stretches between the marks of {% generation %}, in the text without them."""
        pieces = marked.split(self._begin)
        done = len(pieces[0])
        for piece in pieces[1:]:
            answer, _, rest = piece.partition(self._end)
            yield done, done + len(answer)
            done += len(answer) + len(rest)

    def _by_beginnings(self, text: str) -> Iterator[tuple[int, int]]:
        for number, message in enumerate(self._messages):
            if message["role"] != "assistant":
                continue
            ahead = self._without_marks(self._render(self._messages[:number], self._others, True)) if number else ""
            through = self._without_marks(self._render(self._messages[: number + 1], self._others, False))
            for beginning in (ahead, through):
                if not text.startswith(beginning):
                    raise UserError(
                        f"the chat template lays out what stands up to message {number + 1} otherwise where more"
                        " follows, so its answer cannot be found; mark answers in the template by {% generation %}, or"
                        " give another data.form.template"
                    )
            if not through.startswith(ahead):
                raise UserError(
                    f"the chat template does not lay out the answer in message {number + 1} after what it asks with"
                    " (add_generation_prompt); mark answers in the template by {% generation %}"
                )
            yield len(ahead), len(through)

    def _trimmed(self, text: str, start: int, end: int) -> int:
        """The end of an answer without white space that follows the special token at its end."""
        ends = [match.end() for match in self._names.finditer(text, start, end)]
        return ends[-1] if ends and not text[ends[-1] : end].strip() else end

    def _torn(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._names.sub(lambda name: f"{name[0][:1]}{self._tear}{name[0][1:]}", value)
        if isinstance(value, dict):
            return {key: self._torn(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._torn(inner) for inner in value]
        return value

    def _without_marks(self, text: str) -> str:
        return text.replace(self._begin, "").replace(self._end, "")

    def _render(self, messages: Any, others: dict[str, Any], ask: bool) -> str:
        from jinja2.exceptions import TemplateError

        values = {"tools": None, "documents": None, **self._variables, **others, "add_generation_prompt": ask}
        marks = {"_generation_marks": (self._begin, self._end)}
        try:
            return _compiled(self._template).render(messages=messages, **values, **marks)
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as fault:
            raise UserError(f"the chat template refuses the conversation: {' '.join(str(fault).split())}") from None


def read_template(given: str) -> str:
    """The text of a template, from a file, a model's folder, or as it is given.

    Raises:
        UserError: no such file, or a folder without a template.
    """
    if "{%" in given or "{{" in given:
        return given
    path = Path(given).expanduser()
    try:
        if not path.is_dir():
            return path.read_text(encoding="utf-8")
        if (path / "chat_template.jinja").exists():
            return (path / "chat_template.jinja").read_text(encoding="utf-8")
        settings = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
        template = settings.get("chat_template")
    except (OSError, ValueError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else fault
        raise UserError(f"chat template {given!r} cannot be read ({why}); give a .jinja file or a folder") from None
    if isinstance(template, list):  # several by name
        template = {one["name"]: one["template"] for one in template}.get("default")
    if not isinstance(template, str):
        raise UserError(f"{given} has no chat template; give a .jinja file")
    return template


@lru_cache(maxsize=8)
def _compiled(template: str) -> Any:
    """The program, in the surroundings that the transformers library gives it, but for the clock."""
    import jinja2
    import jinja2.ext
    import jinja2.sandbox

    class Generation(jinja2.ext.Extension):
        """{% generation %}: what is in it is an answer."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            marks = jinja2.nodes.ContextReference()
            return jinja2.nodes.CallBlock(self.call_method("_marked", [marks]), [], [], body).set_lineno(line)

        def _marked(self, context: Any, caller: Any) -> str:
            begin, end = context["_generation_marks"]
            return f"{begin}{caller()}{end}"

    class Namespace(jinja2.utils.Namespace):
        """Takes no name of Python's own, so that a template gets at nothing through it."""

        def __init__(*args: Any, **kwargs: Any) -> None:
            for name in dict(*args[1:], **kwargs):
                _refuse_own_name(name)
            jinja2.utils.Namespace.__init__(*args, **kwargs)

        def __setitem__(self, name: str, value: Any) -> None:
            _refuse_own_name(name)
            super().__setitem__(name, value)

    def _refuse_own_name(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a chat template may not set {name}")

    def refuse(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    # An answer that holds an HTML character must stay as it is.
    surroundings = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, autoescape=False, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    surroundings.filters["tojson"] = tojson
    surroundings.globals["raise_exception"] = refuse
    surroundings.globals["namespace"] = Namespace
    try:
        return surroundings.from_string(template)
    except jinja2.exceptions.TemplateSyntaxError as fault:
        raise UserError(f"the chat template is no Jinja that can be read: line {fault.lineno}: {fault}") from None
