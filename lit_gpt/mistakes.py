"""Turns what the parser says of a mistake into one line: which key, where it was typed, what would do.

Knows jsonargparse's messages and how to look a class up; does not know what any key means.
"""

import ast
import inspect
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lit_gpt.settings import Settings, nearest, origin

_KEY = re.compile(r'Parser key "([^"]+)":')
_CLASS = re.compile(r"Problem with given class_path '([^']+)'")
_NOT_ACCEPTED = re.compile(r"(?:Option '([^']+)' is not accepted|Group '([^']+)' does not accept option '([^']+)')")
_INNER = re.compile(r"\n\s+unrecognized arguments: --(\S+)")
_SPEC = re.compile(r"class_path='([^']+)'")
_REQUIRED = re.compile(r"the following arguments are required: (\w+(?:, *\w+)*)")
_EXPECTED = re.compile(r"Expected (?:a|an) (?:<class '([\w.]+)'>|(\S[^\n]*?))\.? ?(?:Got value|but got|$)", re.M)
_ONE = re.compile(r"\n\s+- Type [^\n]* Expected an import path or a subclass spec, but got \[[^\n]*")  # not a list
_WHOLE = re.compile(r"\n\s+Given value type: <class 'list'>\n\s+Given value: \[[^\n]*$")
_HOLDER = re.compile(r"\. Got value: Namespace\(.*\)$", re.M)  # what the parser adds to the value that was typed
_AMBIGUOUS = re.compile(r"ambiguous option: --([\w.]+)")
_NESTED = re.compile(r"NestedArg\(key='([^']+)', val='?(.+?)'?\)$", re.M)
_TYPES = {"int": "a whole number", "float": "a number", "bool": "true or false", "tuple": "a list"}
_MAKES_ITSELF = {"self", "sizes", "params", "optimizer", "steps", "parameters"}
_GIVEN = {"attention", "feedforward", "norm", "vocab_size"}  # where they have no default: to a block, to the net


def explain(message: str, parser: Any, argv: Sequence[str], layers: Sequence[Settings]) -> str:
    """One line for a parser's error message.

    Args:
        message: What jsonargparse says, over several lines.
        parser: The parser, asked which keys there are.
        argv: The command line, and
        layers: the settings files, asked where a key was typed.
    """
    if _ONE.search(message):  # a list was typed where one class would do too: what is said of its entries counts
        message = _WHOLE.sub("", _ONE.sub("", message))
    keys = _KEY.findall(message)
    classes = _CLASS.findall(message)
    path = ".".join(key.replace(".init_args.", ".") for key in keys)
    nested = _NESTED.search(message)
    if nested:  # typed as --seat.argument: the parser's inner name for the pair
        path = path.removesuffix(f".{nested[1]}")
        message = _NESTED.sub(r"\2", message)
    if path == "config" and not classes:
        return "--config: " + _last_line(message)
    unknown = _NOT_ACCEPTED.search(message)
    if unknown:
        option, group, in_group = unknown.groups()
        if group:
            return _unknown(f"{group}.{_trim(in_group, group, parser)}", _known(parser), argv, layers)
        if not path:
            return _unknown(option.replace(".init_args.", "."), _known(parser), argv, layers)
        first = option.partition(".")[0]
        told = re.findall(rf"Problem with given class_path '([^']+)':\s+Option '{re.escape(option)}'", message)
        owner = _holder(message, first) or (told or _SPEC.findall(message) or classes or [None])[-1]
        names = _parameters(owner) if owner else []
        others = {one.__name__: _arguments(one) for one in _fitting(path, parser)}
        return _unknown(f"{path}.{first}", [f"{path}.{name}" for name in names], argv, layers, owner, others)
    inner = _INNER.search(message)
    if inner and classes:  # typed as --model.net.seat.argument: the net's own parser knows no such seat
        first = re.split(r"[.=]", inner[1])[0]
        known = [f"{path}.{name}" for name in _parameters(classes[-1])]
        return _unknown(f"{path}.{first}", known, argv, layers, classes[-1])
    if ambiguous := _AMBIGUOUS.match(message):
        return _unknown(ambiguous[1], _known(parser), argv, layers)
    if message.startswith("unrecognized arguments:") or "does not accept" in message or "not expected" in message:
        typed = message.removeprefix("unrecognized arguments:").split()
        word = typed[0] if message.startswith("unrecognized") else ""
        if not word:
            return " ".join(message.split())
        if not word.startswith("-"):
            return f"unexpected {word!r}; options are written --key value"
        return _unknown(word.lstrip("-").partition("=")[0], _known(parser), argv, layers)
    required = _REQUIRED.search(message)
    if required and path:
        missing = ", ".join(f"--{path}.{name.strip()}" for name in required[1].split(","))
        before = message[: required.start()]
        direct = before.rfind("Problem with given class_path") > before.rfind("Parser key")
        spec = _SPEC.search(message, required.end())
        named = classes[-1] if direct and classes else spec[1] if spec else None
        return f"{path} {_name(named)} also needs {missing}"
    if path:
        return f"{_place(path, argv, layers)}: {_reason(_HOLDER.sub('', message), path, parser)}"
    return _last_line(message) if message.count("\n") else " ".join(message.split())


def _holder(message: str, option: str) -> str | None:
    """The class among those of a printed value, one inside another, that was given the option."""
    signs = rf"Namespace\((?:class_path='(?P<cls>[^']+)')?|(?P<at>\b{re.escape(option)}=)|[()]"
    around: list[str | None] = []
    for sign in re.finditer(signs, message):
        if sign["at"] and around:
            return next((cls for cls in reversed(around) if cls), None)
        if sign[0] == ")":
            around = around[:-1]
        elif not sign["at"]:
            around.append(sign["cls"])
    return None


def _unknown(
    key: str,
    known: Sequence[str],
    argv: Sequence[str],
    layers: Sequence[Settings],
    owner: str | None = None,
    others: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> str:
    """What is said of a key that is not there.

    Args:
        key: As it was typed.
        known: Keys that are there.
        argv: The command line, and
        layers: the settings files, asked where it was typed.
        owner: Class that does not take it, where it is an argument of one.
        others: Arguments of the classes that may stand in its place.
    """
    dashes = "--" if _on_command_line(key, argv) else ""
    at = "" if dashes else origin(key, layers) or (owner and origin(key.rpartition(".")[0], layers))  # of a whole list
    of = f" of {_name(owner)}" if owner else ""
    text = f"{f'{at}: ' if at else ''}there is no key {dashes}{key}{of}"
    parent, _, word = key.rpartition(".")
    if owner:  # the parent is right, and would make any two of its keys look alike
        inside = nearest(word, [*(one.rpartition(".")[2] for one in known), "class_path", "init_args"])
        near = inside if inside in ("class_path", "init_args") else f"{dashes}{parent}.{inside}" if inside else None
    else:
        near = f"{dashes}{found}" if (found := _like(key, known)) else None
    if takers := sorted(name for name, arguments in others.items() if word in arguments):
        return f"{text}; it is a key of {', '.join(takers)}"
    if near:
        return f"{text}; did you mean {near}?"
    if elsewhere := nearest(word, {argument for arguments in others.values() for argument in arguments}):
        takers = sorted(name for name, arguments in others.items() if elsewhere in arguments)
        return f"{text}; did you mean {dashes}{parent}.{elsewhere}, a key of {', '.join(takers)}?"
    siblings = [one.removeprefix(parent + ".") for one in known if one.rpartition(".")[0] == parent]
    return f"{text}; there are {', '.join(sorted(siblings))}" if 0 < len(siblings) <= 30 else f"{text}; see --help"


def _like(key: str, known: Sequence[str]) -> str | None:
    """The key that is meant: where already what holds it is spelled otherwise, the rest may well be right."""
    keys = [one for one in known if not one.endswith(".help")]
    parent, _, word = key.rpartition(".")
    holders = {one.rpartition(".")[0] for one in keys} | set(keys)
    if parent and parent not in holders and (holder := nearest(parent, holders)):
        return f"{holder}.{word}"
    return nearest(key, keys)


def _on_command_line(key: str, argv: Sequence[str]) -> bool:
    return any(f"{word.partition('=')[0]}.".startswith(f"--{key}.") for word in argv)


def _place(key: str, argv: Sequence[str], layers: Sequence[Settings]) -> str:
    """Where a key was typed: `--key` on the command line, or `file:line`."""
    if _on_command_line(key, argv):
        return f"--{key}"
    at = origin(key, layers)
    return f"{at}: {key}" if at else key


def _reason(message: str, path: str, parser: Any) -> str:
    choices = _choices(path, parser)
    wanted = re.search(r"(?:Expected a dot import path string: |No module named |Given value: )'?([\w.]+)'?", message)
    strange = re.search(r"(?:Config file loop detected: .+ -> |Unexpected import path format: )(.+)", message)
    value = strange[1] if strange else _given(message)
    if choices and isinstance(value, str) and Path(value).is_file():
        hint = f"; text is given by --{path}.paths {value}" if "TextFiles" in choices else ""
        return f"expected a class ({', '.join(choices)}), got the file {value!r}{hint}"
    stranger = re.search(r"Expected '([\w.]+)' to be a subclass of", message)
    if stranger:
        value = stranger[1]
    if choices and isinstance(value, str) and re.fullmatch(r"[\w.]+", value):
        near = nearest(value.rpartition(".")[2], choices)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(choices[:30])}"
        missing = re.search(r"No module named '([\w.]+)'", message)
        if missing and "." in value:
            return f"class {value!r} cannot be imported: no module named {missing[1]!r}; is its folder on PYTHONPATH?"
        if inspect.isclass(_import(value)):
            bases = " or ".join(f"{base.__module__}.{base.__name__}" for base in _bases(path, parser))
            return f"class {value!r} does not fit here; derive it from {bases}"
        if "." in value:
            return f"class {value!r} cannot be imported or does not fit here; {hint}"
        return f"no class {value!r}; {hint} (a class of your own is written package.module.Class)"
    if wanted and "No module named" in message:
        return f"no module named {wanted[1]!r}; is its folder on PYTHONPATH?"
    types = [_TYPES.get(plain, plain) or phrase for plain, phrase in _EXPECTED.findall(message)]
    subtypes = re.search(r"Subtypes: [\[(](.*)[\])]", message)
    if subtypes and not types:
        types = [part.strip().removeprefix("<class '").removesuffix("'>") for part in subtypes[1].split(",")]
    types = [", ".join(re.findall(r"[\w-]+", one)[2:]) if one.startswith("typing.Literal") else one for one in types]
    types = [one.replace("NoneType", "null") for one in types if not re.search("import path|path but", one)]
    types = list(dict.fromkeys(types))
    if types:
        return f"expected {' or '.join(types)}, got {value!r}"
    if choices and value is not None:
        return f"expected a class ({', '.join(choices[:30])}), got {value!r}"
    return _last_line(message)


def _given(message: str) -> Any:
    found = re.findall(r"(?:Given value: |Got value: |but got |dot import path string: )(.+)", message)
    if not found:
        return None
    text = found[-1].partition(". Got value: ")[0].strip()
    try:
        value = ast.literal_eval(text)
        return value if not isinstance(value, str) else text
    except (ValueError, SyntaxError):
        return text


def _last_line(message: str) -> str:
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    return " ".join(lines[-1].split()) if lines else message


def _name(class_path: str | None) -> str:
    return (class_path or "").rpartition(".")[2]


def _import(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(__import__(module, fromlist=[name]), name)
    except (ImportError, AttributeError, ValueError):
        return None


def _parameters(class_path: str) -> list[str]:
    found = _import(class_path)
    return [] if found is None else _arguments(found)


def _arguments(part: Any) -> list[str]:
    """The arguments of a class that can be typed: without those that the net, the data or the trainer gives it."""
    given = {name for name, one in inspect.signature(part).parameters.items() if one.default is one.empty} & _GIVEN
    return [name for name in inspect.signature(part).parameters if name not in _MAKES_ITSELF | given]


def _known(parser: Any) -> list[str]:
    """All keys that can be typed: the parser's own, and those of the net's default class."""
    keys = [action.dest for action in parser._actions if action.option_strings and "." not in action.dest[:1]]
    return [*dict.fromkeys(keys), *(f"model.net.{name}" for name in _parameters("lit_gpt.model.GPT"))]


def _trim(option: str, group: str, parser: Any) -> str:
    """Cuts `nett.norm.class_path` to `nett`: the first word that the group does not have."""
    words = option.split(".")
    known = set(_known(parser))
    for end in range(1, len(words) + 1):
        if f"{group}.{'.'.join(words[:end])}" not in known:
            return ".".join(words[:end])
    return option


def _choices(path: str, parser: Any) -> list[str]:
    """Names of the classes that fit at a key, for a key that takes a class."""
    return sorted({name for one in _fitting(path, parser) if not (name := one.__name__).startswith("_")})


def _fitting(path: str, parser: Any) -> set[type]:
    """The classes that fit at a key."""
    return {one for base in _bases(path, parser) for one in _with_subclasses(base)}


def _bases(path: str, parser: Any) -> list[type]:
    """The base classes of what fits at a key; inside a seat, of any class that the seat may have."""
    action = next((a for a in parser._actions if a.dest == path), None)
    hint = getattr(action, "_typehint", None)
    if hint is not None:
        return list(dict.fromkeys(_classes(hint)))
    owner, _, name = path.rpartition(".")
    found: dict[type, None] = {}
    holder: Any
    for holder in _fitting(owner, parser) if owner else ():
        try:
            hint = typing.get_type_hints(holder.__init__).get(name)
        except (NameError, TypeError):
            continue
        found |= dict.fromkeys(one for one in _classes(hint) if one.__module__.startswith("lit_gpt."))  # no Tensor
    return list(found)


def _classes(hint: Any) -> Iterator[type]:
    """The classes that a type hint asks for: X in X | None, list[X], Callable[[...], X]."""
    if inspect.isclass(hint) and not typing.get_args(hint):
        if hint.__module__.partition(".")[0] in ("lit_gpt", "torch"):
            yield hint
        return
    arguments = typing.get_args(hint)
    for one in arguments[-1:] if typing.get_origin(hint) is not None and _is_callable(hint) else arguments:
        yield from _classes(one)


def _is_callable(hint: Any) -> bool:
    from collections.abc import Callable

    return typing.get_origin(hint) is Callable


def _with_subclasses(base: type) -> Iterator[type]:
    """What can be named where a base class is asked for: the base itself only if it is more than the name of a seat."""
    if not base.__subclasses__() or base.__module__.partition(".")[0] != "lit_gpt":
        yield base
    yield from _below(base)


def _below(base: type) -> Iterator[type]:
    below: list[type] = base.__subclasses__()
    for one in below:
        if not one.__name__.startswith("_") and not inspect.isabstract(one):
            yield one
        yield from _below(one)
