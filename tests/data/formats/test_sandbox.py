"""Bounds of the sandbox in which chat templates run: hostile templates end in one line, and soon; honest ones pass."""

import sys
from typing import Any

import jinja2.ext
import pytest
from jinja2.exceptions import TemplateError, TemplateSyntaxError

from lit_gpt.data.formats import sandbox
from lit_gpt.data.formats.jinja_template import Jinja
from lit_gpt.data.formats.sandbox import SOURCE, BoundedSandbox
from lit_gpt.errors import UserError

TURN = "{% set ns = namespace(s='xx', n=3, a=[1], b=[1]) %}{% for i in range(99) %}"
LONG = "{% set a = 'a' * 1000000 %}"
LOOPS = {
    "three loops": "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3,
    "filtered loop": "{% for a in range(99999) %}{% for b in range(99999) if false %}x{% endfor %}{% endfor %}",
    "recursive loop": "{% for x in range(99999) recursive %}{{ loop(range(99999)) if loop.depth < 3 }}{% endfor %}",
    "endless macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "tree of macros": "{% macro m(n) %}{% if n %}{{ m(n-1) }}{{ m(n-1) }}{% endif %}{% endmacro %}{{ m(100) }}",
    "mapped filters": "{% for i in range(99999) %}{{ range(99999) | map('string') | list | length }}{% endfor %}",
    "sorting": "{% for i in range(99999) %}{% set x = range(99999) | sort %}{% endfor %}",
    "searching": "{% for i in range(99999) %}{{ -1 in range(99999) | list }}{% endfor %}",
    "counting": LONG + "{% for i in range(9999) %}{{ a.count('b') }}{% endfor %}",
    "long constant": "{% for i in range(99999) %}" + "y" * 10_000 + "{% endfor %}",
    "constant in a variable": "{% set z %}{% for i in range(99999) %}" + "y" * 10_000 + "{% endfor %}{% endset %}",
    "callers": "{% macro m() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    + "{% call m() %}" * 15 + "x" * 100_000 + "{% endcall %}" * 15,
}  # fmt: skip
SIZES = {
    "text times": "{{ 'x' * 10**11 }}",
    "list times": "{{ [1] * 10**9 }}",
    "power": "{{ 10**10**10 }}",
    "growing number": TURN + "{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "doubled by ~": TURN + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "doubled by +": TURN + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "doubled list": TURN + "{% set ns.a = ns.a * 2 %}{% endfor %}",
    "shared lists": TURN + "{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a }}",
    "compared lists": TURN + "{% set ns.a = [ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
    "shared dicts": TURN + "{% set ns.a = dict(x=ns.a, y=ns.a) %}{% endfor %}{{ ns.a | tojson }}",
    "shared batches": TURN + "{% set ns.a = (ns.a + ns.a) | batch(99) | list %}{% endfor %}{{ ns.a }}",
    "holds itself": "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
    "center filter": "{{ 'x' | center(9999999999) }}",
    "center method": "{{ 'x'.center(width=9999999999) if false else 'x'.center(9999999999) }}",
    "zfill": "{{ 'x'.zfill(9999999999) }}",
    "format": "{{ '{:9999999999}'.format(1) }}",
    "format with a width": "{{ '{:{}}'.format(1, 9999999999) }}",
    "format_map": "{{ '{a:9999999999}'.format_map({'a': 1}) }}",
    "format filter": "{{ '%9999999999d' | format(1) }}",
    "percent": "{{ '%9999999999d' % 1 }}",
    "percent with a width": "{{ '%*d' % (9999999999, 1) }}",
    "replace method": LONG + "{{ a.replace('', a) | length }}",
    "replace filter": LONG + "{{ a | replace('a', a) | length }}",
    "join method": LONG + "{{ a.join(a) }}",
    "join filter": LONG + "{{ range(99999) | join(a) }}",
    "indent": "{{ ('\n' * 1000000) | indent(1000000) }}",
    "indented block": "{% filter indent(1000000) %}{% for i in range(9999) %}\nx{% endfor %}{% endfilter %}",
    "wordwrap": "{{ ('x ' * 1000000) | wordwrap(1, wrapstring='y' * 1000000) }}",
    "expandtabs": "{{ ('\t' * 1000000).expandtabs(1000000) }}",
    "translate": LONG + "{{ a.translate({97: a}) }}",
    "tojson": "{{ range(99999) | list | tojson(indent=1000000) }}",
    "slices": "{{ [1] | slice(10**9) | list }}",
    "batches": "{{ [1] | batch(10**9, 'x') | list }}",
    "bytes": "{{ (1).to_bytes(9999999999, 'big') }}",
}
NESTED = {
    "lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "loops": "{% for x in [1] %}" * 100 + "{% endfor %}" * 100,
    "brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "signs": "{{ " + "-" * 20_000 + "1 }}",
    "long": "a" * (SOURCE + 1),
}


def rendered(template: str) -> str:
    return BoundedSandbox(extensions=[jinja2.ext.loopcontrols]).from_string(template).render()


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of the steps, so that the tests are quick."""
    monkeypatch.setattr(sandbox, "STEPS", 110_000)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize("name", SIZES)
def test_what_a_template_makes_is_bounded(name: str) -> None:
    with pytest.raises(TemplateError, match="it (makes|takes) .*more than|is called with"):
        # `10**10**10` is (10**10)**10 to Jinja, which is small
        rendered(SIZES[name] if name != "power" else "{{ 10**(10**10) }}")


@pytest.mark.parametrize("name", LOOPS)
def test_work_of_hostile_loops_is_bounded_by_the_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = 30_000
    monkeypatch.setattr(sandbox, "STEPS", steps)
    monkeypatch.setattr(sandbox, "CHARACTERS", 20_000_000)
    calls = 0

    def count(frame: Any, event: str, arg: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        with pytest.raises(TemplateError, match="more than|calls itself"):
            rendered(LOOPS[name])
    finally:
        sys.setprofile(before)
    assert calls < 100 * steps  # of Python functions, compiling included; unbounded loops make over a billion


@pytest.mark.parametrize("name", NESTED)
def test_templates_nested_too_deep_or_too_long_are_refused(name: str) -> None:
    with pytest.raises(TemplateSyntaxError):
        rendered(NESTED[name])


def test_a_hostile_template_is_one_line_for_the_user() -> None:
    template = Jinja(LOOPS["three loops"], [])
    with pytest.raises(UserError, match="^the chat template refuses the conversation: it takes more than 2,000,000"):
        template.segments([{"role": "user", "content": "a"}], {})
    with pytest.raises(UserError, match="^the chat template .*nested too deep"):
        Jinja(NESTED["lists"], [])


@pytest.mark.usefixtures("few_steps")
def test_each_rendering_has_a_budget_of_its_own() -> None:
    compiled = BoundedSandbox().from_string("{% for i in range(99999) %}{% endfor %}x")
    assert [compiled.render() for _ in range(3)] == ["x"] * 3


def test_what_honest_templates_do_is_as_in_jinja() -> None:
    import jinja2.sandbox

    template = """{%- macro turn(role, text, sep='\\n') -%}
<{{ role }}>{{ sep }}{{ caller() if caller }}{{ text }}{% endmacro %}
{%- set ns = namespace(last=-1, seen=[]) -%}
{%- for m in messages[::-1] if m.role == 'user' -%}{%- if ns.last < 0 -%}
{%- set ns.last = loop.length - loop.index -%}{%- endif -%}{%- endfor -%}
{%- for m in messages recursive -%}
{%- if loop.previtem is defined and loop.previtem.role == m.role and not loop.last -%}{%- continue -%}{%- endif -%}
{%- set ns.seen = ns.seen + [m.role] -%}
{{- turn(m['role'] | upper, m.content.strip().split('#')[-1] | trim | replace('a', 'b')) -}}
{{- '{:>8}|%5.2f'.format(loop.index) % 1.5 ~ (m | tojson(indent=2)) ~ m.items() | list -}}
{{- loop.cycle('x', 'y') ~ loop.revindex ~ loop.length -}}
{{- loop([{'role': 'tool', 'content': 'z'}]) if loop.depth < 2 and loop.first -}}
{%- endfor -%}
{{- ns.seen | join('-') | indent(3) }} {{ 'user' in ns.seen }} {{ messages | map(attribute='role') | unique | list }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ 2 ** 8 // 3 % 7 }} {{ undefined_one }}
{% for i in range(99999) %}{% if i == 7 %}{{ i }}{% break %}{% endif %}{% endfor %}"""
    messages = [{"role": role, "content": f" a#{role} "} for role in ("system", "user", "assistant", "user", "user")]
    extensions = [jinja2.ext.loopcontrols]
    plain = jinja2.sandbox.ImmutableSandboxedEnvironment(extensions=extensions).from_string(template)
    bounded = BoundedSandbox(extensions=extensions).from_string(template)
    assert bounded.render(messages=messages * 20) == plain.render(messages=messages * 20)
