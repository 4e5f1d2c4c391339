"""Jinja sandbox for chat templates with a budget of steps and characters for each rendering.

Jinja's own sandbox keeps a template away from Python, but does not stop nested loops or `'x' * 10**10`. Here every
step and every character of a rendering is charged before it is made. There is no clock, so the same template with the
same values always ends the same way.
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
CHARACTERS = 200_000_000  # of one rendering, intermediate texts included
SOURCE = 1_000_000  # characters of a template; published ones have up to 30,000
_BITS = 65_536  # of an integer
_DEPTH = 200  # of nested lists

_NUMBERS = re.compile(r"\d+")
#: Filters that do not iterate over a list at once, however long it is: they take its size or an item, or are lazy.
_LAZY = {
    "attr", "count", "d", "default", "first", "last", "length", "map", "reject", "rejectattr", "reverse", "select",
    "selectattr", "items", "random",
}  # fmt: skip
_COMPARISONS = {
    "==", "!=", "<", "<=", ">", ">=", "eq", "equalto", "ne", "lt", "le", "gt", "ge", "lessthan", "greaterthan", "in",
}  # fmt: skip


class _Budget:
    """Steps and characters left to one rendering."""

    def __init__(self) -> None:
        self.steps, self.characters = STEPS, CHARACTERS

    def charge(self, steps: int, characters: int = 0) -> None:
        self.steps -= steps
        self.characters -= characters
        if self.steps < 0:
            raise SecurityError(f"it takes more than {STEPS:,} steps; no chat template needs so many")
        if self.characters < 0:
            raise SecurityError(f"it makes more than {CHARACTERS:,} characters; no chat template needs so many")


_BUDGET: ContextVar[_Budget] = ContextVar("budget")


def _charge(steps: int, characters: int = 0) -> None:
    budget = _BUDGET.get(None) or _Budget()  # a new one for a filter that is called outside of a rendering
    budget.charge(steps, characters)


def _leaves(value: Any) -> Iterator[Any]:
    """The innermost items of nested containers; each item is charged."""
    stack = [(value, 0)]
    while stack:
        item, depth = stack.pop()
        _charge(1, len(item) if isinstance(item, (str, bytes)) else 0)
        if depth > _DEPTH:
            raise SecurityError(f"it makes lists more than {_DEPTH} deep")
        if isinstance(item, Namespace):
            item = object.__getattribute__(item, "_Namespace__attrs")
        if isinstance(item, dict):
            stack += [(inner, depth + 1) for pair in item.items() for inner in pair]
        elif isinstance(item, (list, tuple, set, frozenset)):
            stack += [(inner, depth + 1) for inner in item]
        else:
            yield item


def _charge_deep(value: Any) -> Any:
    """Charges for reading a value down to its innermost items, and returns it."""
    if isinstance(value, str):
        _charge(1, len(value))
    else:
        for _ in _leaves(value):
            pass
    return value


def _charge_items(value: Any) -> None:
    """Charges for reading a value's direct items."""
    if isinstance(value, str):
        _charge(1, len(value))
    else:
        _charge(1 + (len(value) if isinstance(value, Sized) and not isinstance(value, range) else 0))


def _charge_formatting(text: str, values: Any, field: str, nested: str) -> None:
    """Charges for `text % values` or `text.format(values)`.

    Args:
        text: The format string.
        values: All values that it may print.
        field: What begins a replacement field.
        nested: Regular expression for a width that is itself a value.
    """
    leaves = list(_leaves(values))
    widths = sum(int(digits[:9]) for digits in _NUMBERS.findall(text))
    if re.search(nested, text):
        widths += sum(abs(leaf) for leaf in leaves if isinstance(leaf, int))
    longest = max((len(str(leaf)) for leaf in leaves), default=0)
    _charge(1, widths + text.count(field) * longest + len(text))


def _charge_result(name: str, args: list[Any]) -> None:
    """Charges for a result that may be much longer than the arguments.

    Args:
        name: A filter's, or a string method's.
        args: Its arguments, the text itself first.
    """
    for number in args:
        if isinstance(number, int) and abs(number) > CHARACTERS:
            raise SecurityError(f"{name} is called with {number}")
    first, *others = args or [None]
    texts = [other for other in others if isinstance(other, (str, bytes))]
    numbers = [abs(other) for other in others if isinstance(other, int)]
    items = len(first) + 1 if isinstance(first, Sized) else 1
    if name == "replace" and isinstance(first, (str, bytes)) and len(texts) == 2:
        _charge(1, first.count(texts[0]) * len(texts[1]))  # type: ignore[arg-type]
    elif name == "join":
        count = max((len(arg) for arg in args if isinstance(arg, Sized)), default=0)
        _charge(1, count * max((len(arg) for arg in args if isinstance(arg, (str, bytes))), default=0))
    elif name == "tojson":  # an indent is charged for each item; nesting is bounded by `_leaves`
        indent = sum(number for number in numbers if not isinstance(number, bool))
        if indent > 100:
            raise SecurityError(f"tojson is called with an indent of {indent}")
        _charge(1, items * indent)
    elif name in ("indent", "wordwrap", "expandtabs"):
        lines = first.count("\t" if name == "expandtabs" else "\n") + 1 if isinstance(first, str) else items
        lines = max(lines, items) if name == "wordwrap" else lines
        _charge(1, lines * (sum(numbers) + sum(map(len, texts))))
    elif name == "format":
        _charge_formatting(str(first), others, "%", r"\*")
    elif name in ("translate", "batch", "slice", "sum"):
        longest = len(str(others[0])) if name == "translate" and others else 1
        _charge(1, items * longest + sum(numbers))
    elif numbers:
        _charge(1, sum(numbers))


class _CountedIterable:
    """The iterable of a loop; each item is a step."""

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        for item in self._items:
            _charge(1)
            yield item

    def __len__(self) -> int:
        return len(self._items)  # type: ignore[arg-type]  # the loop handles a TypeError


_EACH, _READ = ".each", ".read"  # names of filters that no template can spell


class _CountingTransformer(NodeTransformer):
    """Inserts the counting into a template's syntax tree."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        self.generic_visit(node)
        node.iter = _filtered(_EACH, node.iter)
        return node

    def _each_operand(self, node: Any) -> Any:
        self.generic_visit(node)
        for field in ("nodes", "items"):
            if isinstance(getattr(node, field, None), list):
                setattr(node, field, [_filtered(_READ, operand) for operand in getattr(node, field)])
        return node

    visit_Concat = visit_List = _each_operand

    def visit_Tuple(self, node: nodes.Tuple) -> Any:
        return self._each_operand(node) if node.ctx == "load" else self.generic_visit(node)

    def visit_Pair(self, node: nodes.Pair) -> nodes.Pair:
        self.generic_visit(node)
        node.value = _filtered(_READ, node.value)
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        self.generic_visit(node)
        node.expr = _filtered(_READ, node.expr)
        for operand in node.ops:
            operand.expr = _filtered(_READ, operand.expr)
        return node


def _filtered(name: str, node: nodes.Node) -> nodes.Expr:
    assert isinstance(node, nodes.Expr)
    if isinstance(node, nodes.Const):
        return node
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


class _Template(Template):
    """A compiled template; each rendering has its own budget."""

    def render(self, *args: Any, **kwargs: Any) -> str:
        token = _BUDGET.set(_Budget())
        try:
            return super().render(*args, **kwargs)
        except (RecursionError, MemoryError):
            raise SecurityError("it calls itself without end, or takes all memory") from None
        finally:
            _BUDGET.reset(token)


class _ChargedFunctions(dict[str, Callable[..., Any]]):
    """Filters or tests; each is charged for its arguments before it runs and for its result after."""

    def __init__(self, functions: dict[str, Callable[..., Any]], only: set[str] | None = None) -> None:
        super().__init__()
        self._only = only
        for name, function in functions.items():
            self[name] = function

    def __setitem__(self, name: str, function: Callable[..., Any]) -> None:
        if self._only is None or name in self._only:
            function = _charged(name, function)
        super().__setitem__(name, function)


def _charged(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    skipped = 1 if hasattr(function, "jinja_pass_arg") else 0  # the context or environment comes first

    def run(*args: Any, **options: Any) -> Any:
        values = [*args[skipped:], *options.values()]
        if name in _LAZY:
            _charge(1, sum(len(value) for value in values if isinstance(value, str)))
            return function(*args, **options)
        for value in values:
            _charge_items(value) if name == "list" else _charge_deep(value)
        _charge_result(name, values)
        result = function(*args, **options)
        _charge_items(result)
        return result

    return update_wrapper(run, function)


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox with a budget of steps and characters for each rendering.

    A template that exceeds it ends with `jinja2.exceptions.SecurityError`, one that is too long or too nested to be
    compiled with `TemplateSyntaxError`: both are TemplateErrors.

    Args:
        options: Those of `jinja2.Environment` but `optimized` and `finalize`.
    """

    template_class = _Template
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))

    def __init__(self, **options: Any) -> None:
        # Nothing is evaluated at compile time, where nothing is counted.
        super().__init__(**options, optimized=False, finalize=pass_context(lambda context, value: _charge_deep(value)))
        self.filters: Any = _ChargedFunctions(dict(self.filters))
        dict.__setitem__(self.filters, _EACH, _CountedIterable)
        dict.__setitem__(self.filters, _READ, _charge_deep)
        self.tests: Any = _ChargedFunctions(dict(self.tests), only=_COMPARISONS)
        del self.globals["lipsum"]  # random text of any length

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > SOURCE:
            raise TemplateSyntaxError(f"it has {len(source):,} characters; at most {SOURCE:,} are read", 1)
        tree: nodes.Template = _CountingTransformer().visit(super()._parse(source, name, filename))
        return tree

    def from_string(self, source: Any, *args: Any, **options: Any) -> Template:
        try:
            return super().from_string(source, *args, **options)
        except (RecursionError, MemoryError, SyntaxError):
            raise TemplateSyntaxError("its parts are nested too deep", 1) from None

    def concat(self, parts: Iterable[str]) -> str:
        """Joins the texts of a template, a macro or a block."""
        charged = []
        for part in parts:
            _charge(1, len(part))
            charged.append(part)
        return "".join(charged)

    def getitem(self, obj: Any, argument: Any) -> Any:
        item = super().getitem(obj, argument)
        if isinstance(argument, slice):
            _charge_items(item)
        return item

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        for a, b in ((left, right), (right, left)):
            if operator == "*" and isinstance(a, (str, bytes, list, tuple)) and isinstance(b, int):
                _charge(1 if isinstance(a, (str, bytes)) else len(a) * max(b, 0), len(a) * max(b, 0))
        if operator == "+":
            _charge_items(left)
            _charge_items(right)
        elif operator == "%" and isinstance(left, (str, bytes)):
            _charge_formatting(left if isinstance(left, str) else left.decode("latin-1"), right, "%", r"\*")
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * abs(right) if operator == "**" else left.bit_length() + right.bit_length()
            if bits > _BITS:
                raise SecurityError(f"it makes whole numbers of more than {_BITS:,} bits")
            _charge(1)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`'{:>9}'.format(...)`: widths and repeated fields are charged."""
        run = super().wrap_str_format(value)
        if run is None:
            return None

        def charged(*args: Any, **options: Any) -> str:
            _charge_formatting(value.__self__, [*args, *options.values()], "{", r"\{[^}]*\{")
            return run(*args, **options)

        return update_wrapper(charged, run)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        if isinstance(obj, LoopContext) and args:
            args = (_CountedIterable(args[0]), *args[1:])
        if isinstance(obj, (Macro, LoopContext, BlockReference)):
            _charge(1)
            return super().call(context, obj, *args, **kwargs)
        values = [*args, *kwargs.values()]
        _charge_deep(values)
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, (str, bytes, int, list, tuple, dict)) and not isinstance(owner, type):
            _charge_items(owner)
            _charge_result(getattr(obj, "__name__", ""), [owner, *values])
        result = super().call(context, obj, *args, **kwargs)
        _charge_items(result)
        return result
