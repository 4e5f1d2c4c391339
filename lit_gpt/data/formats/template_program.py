"""Compiled Jinja chat templates: rendered as by transformers, with its functions and filters, in a sandbox."""

import datetime
import difflib
import json
import re
from functools import lru_cache
from typing import Any

from lit_gpt.errors import UserError

#: Variables that only `render` sets.
_RESERVED = ("messages", "add_generation_prompt", "continue_final_message")
_CLOCK = "strftime_now"
_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


class Program:
    """One compiled chat template.

    Args:
        source: The template's text.

    Raises:
        UserError: It is not valid Jinja.
    """

    def __init__(self, source: str) -> None:
        import jinja2.meta
        from jinja2 import nodes
        from jinja2.exceptions import TemplateSyntaxError

        environment = _environment()
        try:
            tree = environment.parse(source)
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            where = f"line {error.lineno}: {error.message}"
            raise UserError(f"the chat template is not valid Jinja: {where}") from None
        except RecursionError:
            raise UserError("the chat template is nested too deeply; give another") from None
        names = {node.name for node in tree.find_all(nodes.Name)}
        #: Variables that the template reads and does not set, without functions other than the clock.
        self.variables = frozenset(jinja2.meta.find_undeclared_variables(tree) | (names & {_CLOCK}))
        #: String constants and literal text.
        self.strings = frozenset(
            node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)
        ) | frozenset(node.data for node in tree.find_all(nodes.TemplateData))
        attributes = {node.attr for node in tree.find_all(nodes.Getattr)}
        #: Every name by which the template could read a field.
        self.fields = self.variables | self.strings | attributes
        #: Whether the template encloses answers in {% generation %}.
        self.marks_answers = bool(_GENERATION.search(source))

    def render(self, messages: Any, values: dict[str, Any], marks: tuple[str, str] = ("", "")) -> str:
        """The conversation as one text.

        Args:
            messages: The conversation's messages.
            values: The template's other variables.
            marks: Texts before and after the content of each {% generation %} block.

        Raises:
            UserError: The template raises an error.
        """
        from jinja2.exceptions import TemplateError

        values = {"tools": None, "documents": None, **values}
        try:
            return self._template.render(values, messages=messages, _generation_marks=marks)
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise UserError(f"the chat template refuses the conversation: {' '.join(str(error).split())}") from None


@lru_cache(maxsize=32)
def compiled(source: str) -> Program:
    """The cached program of a template."""
    return Program(source)


def check_variables(variables: dict[str, Any], programs: list[Program]) -> None:
    """Refuses template variables that no template reads.

    Raises:
        UserError: One is unknown; the message names the nearest.
    """
    known = {name for program in programs for name in program.variables}
    settable = sorted(known - set(_RESERVED))
    for name in variables:
        if name in settable:
            continue
        if name in _RESERVED:
            raise UserError(f"template_variables may not set {name}, which comes from the conversation; remove it")
        near = difflib.get_close_matches(name, settable, n=1)
        hint = f"did you mean {near[0]}?" if near else f"it reads {', '.join(settable) or 'none'}"
        raise UserError(f"template_variables has {name!r}, which the chat template does not read; {hint}")


def with_defaults(source: str, values: dict[str, Any]) -> str:
    """The template with default values for its variables, so that other programs render it as here.

    Args:
        source: The template's text.
        values: Defaults by variable.
    """
    settings = "".join(
        f"{{% if {name} is not defined or {name} is none %}}{{% set {name} = {_literal(value)} %}}{{% endif %}}"
        for name, value in values.items()
        if name in compiled(source).variables
    )
    return f"{settings}\n{source}" if settings else source  # trim_blocks removes the newline


def _literal(value: Any) -> str:
    """Plain data as a Jinja expression; Jinja's delimiters in text are escaped."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_literal(key)}: {_literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value).replace("null", "none")
    return json.dumps(str(value), ensure_ascii=False).replace("{", "\\u007b").replace("%", "\\u0025")


def clock(value: Any) -> Any:
    """The template function strftime_now for a fixed date.

    Args:
        value: A date or datetime, or its ISO format.

    Raises:
        UserError: It is none of these.
    """
    try:
        if isinstance(value, str):
            value = datetime.datetime.fromisoformat(value)
        if not isinstance(value, datetime.date):
            raise ValueError
    except ValueError:
        raise UserError(
            f"template_variables sets strftime_now to {value!r}; give the date to print, such as 2026-07-26"
        ) from None

    def strftime_now(format: str) -> str:
        return str(value.strftime(format))

    return strftime_now


def _environment() -> Any:
    """A new sandbox with the functions that transformers gives to chat templates. Templates are untrusted code."""
    import jinja2
    import jinja2.ext

    from lit_gpt.data.formats.sandbox import BoundedSandbox

    class Generation(jinja2.ext.Extension):
        """The block {% generation %}, which encloses an answer."""

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
        """Refuses names with an underscore, through which a template could reach Python's internals."""

        def __init__(*args: Any, **kwargs: Any) -> None:
            for name in dict(*args[1:], **kwargs):
                _refuse_private(name)
            jinja2.utils.Namespace.__init__(*args, **kwargs)

        def __setitem__(self, name: str, value: Any) -> None:
            _refuse_private(name)
            super().__setitem__(name, value)

    def _refuse_private(name: Any) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a chat template may not set {name}")

    def refuse(message: str) -> None:
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **options)

    def strftime_now(format: str) -> str:
        return datetime.datetime.now().strftime(format)

    # Without autoescape: HTML characters in messages stay as they are.
    environment = BoundedSandbox(
        trim_blocks=True, lstrip_blocks=True, autoescape=False, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = refuse
    environment.globals[_CLOCK] = strftime_now
    environment.globals["namespace"] = Namespace
    return environment
