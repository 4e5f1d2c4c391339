"""A Jinja sandbox with bounds: a template from a stranger may use only so much time and memory.

Jinja's own sandbox keeps a template away from Python, but not from loops inside loops or from `'x' * 10**10`. Every
step and every character that a rendering makes is counted here, before it is made, and the same template with the same
values always ends the same way: there is no clock in it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sized
from contextvars import ContextVar
from functools import update_wrapper
from typing import Any

from jinja2 import Template, TemplateSyntaxError, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import BlockReference, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

STEPS = 2_000_000  # iterations, calls, filters and items of one rendering: some seconds
CHARACTERS = 200_000_000  # that one rendering may make, those of parts included
SOURCE = 1_000_000  # characters of a template; published ones have up to 30,000
_BITS = 65_536  # of a whole number
_DEPTH = 200  # of lists within lists

_WIDTHS = re.compile(r"\d+")
#: Filters that do not look through a list, however long it is: they ask for its size or an item, or go over it later.
_LAZY = {
    "attr", "count", "d", "default", "first", "last", "length", "map", "reject", "rejectattr", "reverse", "select",
    "selectattr", "items", "random",
}  # fmt: skip
_COMPARING = {"==", "!=", "<", "<=", ">", ">=", "eq", "equalto", "ne", "lt", "le", "gt", "ge", "lessthan"} | {
    "greaterthan", "in",
}  # fmt: skip


class _Budget:
    """What is left to one rendering."""

    def __init__(self) -> None:
        self.steps, self.characters = STEPS, CHARACTERS

    def spend(self, steps: int, characters: int = 0) -> None:
        self.steps -= steps
        self.characters -= characters
        if self.steps < 0:
            raise SecurityError(f"it takes more than {STEPS:,} steps; no chat template needs so many")
        if self.characters < 0:
            raise SecurityError(f"it makes more than {CHARACTERS:,} characters; no chat template needs so many")


_LEFT: ContextVar[_Budget] = ContextVar("left")


def _spend(steps: int, characters: int = 0) -> None:
    left = _LEFT.get(None)
    if left is None:  # a filter called outside of a rendering
        left = _Budget()
    left.spend(steps, characters)


def _weigh(value: Any) -> Any:
    """Pays for reading a value through to its innermost items, and returns it."""
    if isinstance(value, str):
        _spend(1, len(value))
        return value
    waiting = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        _spend(1, len(one) if isinstance(one, (str, bytes)) else 0)
        if depth > _DEPTH:
            raise SecurityError(f"it makes lists more than {_DEPTH} deep")
        if isinstance(one, Namespace):
            one = object.__getattribute__(one, "_Namespace__attrs")
        if isinstance(one, dict):
            waiting += [(inner, depth + 1) for pair in one.items() for inner in pair]
        elif isinstance(one, (list, tuple, set, frozenset)):
            waiting += [(inner, depth + 1) for inner in one]
    return value


def _glance(value: Any) -> None:
    """Pays for reading a value's own items."""
    if isinstance(value, str):
        _spend(1, len(value))
    else:
        _spend(1 + (len(value) if isinstance(value, Sized) and not isinstance(value, range) else 0))


class _Counted:
    """What a loop goes over; each item is a step."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            _spend(1)
            yield item

    def __len__(self) -> int:
        return len(self._items)  # type: ignore[arg-type]  # the loop asks for it and minds that there is none


_EACH, _READ = ".each", ".read"  # names of filters that no template can spell


class _Marks(NodeTransformer):
    """Puts the counting into a template's tree."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _through(_EACH, node.iter)
        return node

    def _each_operand(self, node: Any) -> Any:
        self.generic_visit(node)
        for field in ("nodes", "items"):
            if isinstance(getattr(node, field, None), list):
                setattr(node, field, [_through(_READ, one) for one in getattr(node, field)])
        return node

    visit_Concat = visit_List = _each_operand

    def visit_Tuple(self, node: nodes.Tuple) -> Any:
        return self._each_operand(node) if node.ctx == "load" else self.generic_visit(node)

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:
        self.generic_visit(node)
        node.value = _through(_READ, node.value)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = _through(_READ, node.expr)
        for operand in node.ops:
            operand.expr = _through(_READ, operand.expr)
        return node


def _through(name: str, node: nodes.Node) -> nodes.Expr:
    assert isinstance(node, nodes.Expr)
    if isinstance(node, nodes.Const):
        return node
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Template(Template):
    """A compiled template; each rendering has a budget of its own."""

    def render(self, *args: Any, **kwargs: Any) -> str:
        token = _LEFT.set(_Budget())
        try:
            return super().render(*args, **kwargs)
        except (RecursionError, MemoryError):
            raise SecurityError("it calls itself without end, or takes all memory") from None
        finally:
            _LEFT.reset(token)


class _Checked(dict[str, Callable[..., Any]]):
    """Filters or tests; each pays for its arguments before it runs and for its result after."""

    def __init__(self, functions: dict[str, Callable[..., Any]], only: set[str] | None = None) -> None:
        super().__init__()
        self._only = only
        for name, function in functions.items():
            self[name] = function

    def __setitem__(self, name: str, function: Callable[..., Any]) -> None:
        if self._only is None or name in self._only:
            function = _checked(name, function)
        super().__setitem__(name, function)


def _checked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0  # the context or environment comes first

    def run(*args: Any, **options: Any) -> Any:
        given = [*args[skipped:], *options.values()]
        if name in _LAZY:
            _spend(1, sum(len(one) for one in given if isinstance(one, str)))
            return function(*args, **options)
        for one in given:
            _glance(one) if name == "list" else _weigh(one)
        _foresee(name, given)
        made = function(*args, **options)
        _glance(made)
        return made

    return update_wrapper(run, function)


def _foresee(name: str, given: list[Any]) -> None:
    """Pays for a result that may be much longer than what it is made of, before it is made.

    Args:
        name: A filter's, or a method's of a text.
        given: What it is called with, the text itself first.
    """
    for number in given:
        if isinstance(number, int) and abs(number) > CHARACTERS:
            raise SecurityError(f"{name} is called with {number}")
    first = given[0] if given else None
    texts = [one for one in given[1:] if isinstance(one, (str, bytes))]
    numbers = [abs(one) for one in given[1:] if isinstance(one, int)]
    rows = len(first) + 1 if isinstance(first, Sized) else 1
    if name == "replace" and isinstance(first, (str, bytes)) and len(texts) == 2:
        _spend(1, first.count(texts[0]) * len(texts[1]))  # type: ignore[arg-type]
    elif name == "join":
        joined = [one for one in given if isinstance(one, (str, bytes))]
        items = max((len(one) for one in given if isinstance(one, Sized)), default=0)
        _spend(1, items * max(map(len, joined), default=0))
    elif name in ("indent", "wordwrap", "tojson", "expandtabs"):
        lines = first.count("\t" if name == "expandtabs" else "\n") + 1 if isinstance(first, str) else rows
        lines = max(lines, rows) if name == "wordwrap" else lines
        if name == "tojson":
            numbers, texts = _indents(given), []
        _spend(1, lines * (sum(numbers) + sum(map(len, texts))))
    elif name in ("translate", "batch", "slice", "sum", "format"):
        widths = (
            [*numbers, *(int(digits[:9]) for digits in _WIDTHS.findall(str(first)))] if name == "format" else numbers
        )
        wide = max((len(str(one)) for one in given[1:2]), default=1) if name in ("translate", "format") else 1
        _spend(1, rows * wide + sum(widths))
    elif numbers:
        _spend(1, sum(numbers))


def _indents(given: list[Any]) -> list[int]:
    """An indent of JSON is paid for each item; how deep they lie, `_weigh` has looked at."""
    width = sum(abs(one) for one in given[1:] if isinstance(one, int) and not isinstance(one, bool))
    if width > 100:
        raise SecurityError(f"tojson is called with an indent of {width}")
    return []


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox for values that do not change, with a budget of steps and characters for each rendering.

    A template that asks for more ends with `jinja2.exceptions.SecurityError`, one that is too long or too nested to be
    compiled with `TemplateSyntaxError`: both are TemplateErrors.

    Args:
        options: Those of `jinja2.Environment` but `optimized` and `finalize`.
    """

    template_class = _Template
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))

    def __init__(self, **options: Any) -> None:
        # Neither filters nor texts are worked out while compiling, where nothing is counted.
        super().__init__(**options, optimized=False, finalize=pass_context(lambda context, value: _weigh(value)))
        self.filters: Any = _Checked(dict(self.filters))
        dict.__setitem__(self.filters, _EACH, _Counted)
        dict.__setitem__(self.filters, _READ, _weigh)
        self.tests: Any = _Checked(dict(self.tests), only=_COMPARING)
        del self.globals["lipsum"]  # texts drawn at random, of any length

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > SOURCE:
            raise TemplateSyntaxError(f"it has {len(source):,} characters; at most {SOURCE:,} are read", 1)
        tree: nodes.Template = _Marks().visit(super()._parse(source, name, filename))
        return tree

    def from_string(self, source: Any, *args: Any, **options: Any) -> Template:
        try:
            return super().from_string(source, *args, **options)
        except (RecursionError, MemoryError, SyntaxError):
            raise TemplateSyntaxError("its parts are nested too deep", 1) from None

    def concat(self, parts: Iterable[str]) -> str:
        """Joins the texts of a template, a macro or a block."""
        kept = []
        for part in parts:
            _spend(1, len(part))
            kept.append(part)
        return "".join(kept)

    def getitem(self, obj: Any, argument: Any) -> Any:
        found = super().getitem(obj, argument)
        if isinstance(argument, slice):
            _glance(found)
        return found

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Pays for what an operator makes."""
        for a, b in ((left, right), (right, left)):
            if operator == "*" and isinstance(a, (str, bytes, list, tuple)) and isinstance(b, int):
                _spend(1 if isinstance(a, (str, bytes)) else len(a) * max(b, 0), len(a) * max(b, 0))
        if operator == "+":
            _glance(left)
            _glance(right)
        elif operator == "%" and isinstance(left, (str, bytes)):
            _weigh(right)
            numbers = right if isinstance(right, (tuple, list)) else [right]
            text = left if isinstance(left, str) else left.decode("latin-1")
            widest = sum(abs(one) for one in numbers if isinstance(one, int)) if "*" in text else 0
            size = text.count("%") * _longest(right)
            _spend(1, widest + sum(int(digits[:9]) for digits in _WIDTHS.findall(text)) + size + len(text))
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
            if bits > _BITS:
                raise SecurityError(f"it makes whole numbers of more than {_BITS:,} bits")
            _spend(1)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`'{:>9}'.format(...)`: widths and repeated fields are paid for."""
        run = super().wrap_str_format(value)
        if run is None:
            return None
        text: str = value.__self__

        def checked(*args: Any, **options: Any) -> str:
            given = [*args, *options.values()]
            _weigh(given)
            widths = [int(digits[:9]) for digits in _WIDTHS.findall(text)]
            numbers = [abs(one) for one in _flat(given) if isinstance(one, int)]
            nested = sum(numbers) if re.search(r"\{[^}]*\{", text) else 0
            _spend(1, sum(widths) + nested + text.count("{") * _longest(given) + len(text))
            return run(*args, **options)

        return update_wrapper(checked, run)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Pays for a call, by what its method may make."""
        if isinstance(obj, LoopContext) and args:
            args = (_Counted(args[0]), *args[1:])
        if isinstance(obj, (Macro, LoopContext, BlockReference)):
            _spend(1)
            return super().call(context, obj, *args, **kwargs)
        given = [*args, *kwargs.values()]
        _weigh(given)
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, (str, bytes, int, list, tuple, dict)) and not isinstance(owner, type):
            _glance(owner)
            _foresee(getattr(obj, "__name__", ""), [owner, *given])
        made = super().call(context, obj, *args, **kwargs)
        _glance(made)
        return made


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _flat(one)
    elif isinstance(value, dict):
        yield from _flat(list(value.values()))
    else:
        yield value


def _longest(value: Any) -> int:
    """Characters of the longest of the texts in a value, which `_weigh` has paid for."""
    return max((len(str(one)) for one in _flat(value)), default=0)
