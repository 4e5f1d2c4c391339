"""Turns what the parser says of a mistake into one line: which key, where it was typed, what would do.

Knows jsonargparse's messages and how to look a class up; does not know what any key means.
"""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from lit_gpt.config import schema
from lit_gpt.config.yaml_files import ConfigFile, load_yaml, nearest, origin, short
from lit_gpt.errors import UserError

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


def explain(message: str, parser: Any, argv: Sequence[str], layers: Sequence[ConfigFile]) -> str:
    """One line for a parser's error message.

    Args:
        message: What jsonargparse says, over several lines.
        parser: The parser, asked which keys there are.
        argv: The command line, and
        layers: the settings files, asked where a key was typed.
    """
    trusted = "is not allowed, denied by" not in message  # else it is told of what is not, by `class_paths`
    if trusted and (misnamed := next(_misnamed(argv, layers, parser), None)):
        key, name, component = misnamed
        return f"{where_typed(key, argv, layers)}: {_no_class(name, component, parser)}"
    if _ONE.search(message):  # a list was typed where one class would do too: what is said of its entries counts
        message = _WHOLE.sub("", _ONE.sub("", message))
    keys = _KEY.findall(message)
    classes = _CLASS.findall(message)
    path = ".".join(key.replace(".init_args.", ".") for key in keys)
    nested = _NESTED.search(message)
    if nested:  # typed as --component.argument: the parser's inner name for the pair
        if f"--{path}" not in [word.partition("=")[0] for word in argv]:
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
        names = schema.parameters(owner) if owner else []
        others = {one.__name__: schema.arguments(one) for one in schema.fitting(path, parser)}
        return _unknown(f"{path}.{first}", [f"{path}.{name}" for name in names], argv, layers, owner, others)
    inner = _INNER.search(message)
    if inner and classes:  # typed as --model.net.component.argument: the net's own parser knows no such component
        first = re.split(r"[.=]", inner[1])[0]
        known = [f"{path}.{name}" for name in schema.parameters(classes[-1])]
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
        return f"{where_typed(path, argv, layers)}: {_reason(_HOLDER.sub('', message), path, parser)}"
    return _last_line(message) if message.count("\n") else " ".join(message.split())


@contextmanager
def constructing() -> Iterator[None]:
    """Within it a ValueError of a constructor, also of another library's or the user's class, is a UserError."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        if error.__cause__ is not None and "compute_fn" in str(error):  # the parser wraps errors of preparing the data
            raise error.__cause__ from None
        raise UserError(str(error)) from error


def refuse_word_for_list(net: Any, components: Sequence[str], argv: Sequence[str]) -> None:
    """Refuses an argument typed for a component that holds several classes: the parser would give it to the last one.

    Args:
        net: The net's parsed arguments.
        components: Those that may be lists.
        argv: The command line.
    """
    for component in components:
        if isinstance(net.get(component), list) and len(net[component]) > 1:
            for word in argv:
                if word.startswith(f"--model.net.{component}."):
                    raise UserError(
                        f"{word.partition('=')[0]}: model.net.{component} is a list of {len(net[component])}, so it is "
                        "not clear which entry is meant; write the whole list"
                    )


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
    layers: Sequence[ConfigFile],
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


def where_typed(key: str, argv: Sequence[str], layers: Sequence[ConfigFile]) -> str:
    """Where a key was typed: `--key` on the command line, or `file:line`."""
    if _on_command_line(key, argv):
        return f"--{key}"
    at = origin(key, layers)
    return f"{at}: {key}" if at else key


def _reason(message: str, path: str, parser: Any) -> str:
    choices = schema.choices(path, parser)
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
        return _no_class(value, path, parser)
    if wanted and "No module named" in message:
        return f"no module named {wanted[1]!r}; is its folder on PYTHONPATH?"
    types = [_TYPES.get(plain, plain) or phrase for plain, phrase in _EXPECTED.findall(message)]
    subtypes = re.search(r"Subtypes: [\[(](.*)[\])]", message)
    if subtypes and not types:
        types = [part.strip().removeprefix("<class '").removesuffix("'>") for part in subtypes[1].split(",")]
    types = [", ".join(re.findall(r"[\w-]+", one)[2:]) if one.startswith("typing.Literal") else one for one in types]
    types = [one.replace("NoneType", "null") for one in types if not re.search("import path|path but", one)]
    types = [one for one in dict.fromkeys(types) if one != "null" or value not in (None, "None")]  # of what holds it
    if types:
        return f"expected {' or '.join(types)}, got {'null' if value in (None, 'None') else repr(value)}"
    if choices and value is not None:
        return f"expected a class ({', '.join(choices[:30])}), got {value!r}"
    return _last_line(message)


def _no_class(name: str, path: str, parser: Any) -> str:
    """What is said of a name at which no class is that fits at a key."""
    choices = schema.choices(path, parser)
    near = nearest(name.rpartition(".")[2], choices)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(choices[:30])}"
    if "." not in name:
        return f"no class {name!r}; {hint} (a class of your own is written package.module.Class)"
    if inspect.isclass(schema.import_class(name)):
        bases = " or ".join(f"{base.__module__}.{base.__name__}" for base in schema.bases(path, parser))
        return f"class {name!r} does not fit here; derive it from {bases}"
    if missing := schema.missing_module(name):
        return f"class {name!r} cannot be imported: no module named {missing!r}; is its folder on PYTHONPATH?"
    return f"class {name!r} cannot be imported or does not fit here; {hint}"


def _misnamed(argv: Sequence[str], layers: Sequence[ConfigFile], parser: Any) -> Iterator[tuple[str, str, str]]:
    """Typed class names behind which there is no class: the key, the name, and the key of the component."""
    words = iter(argv)
    for word in words:
        option, equals, value = word.partition("=")
        if option.startswith("--"):
            key = option[2:].rstrip("+")
            after = value if equals else next(words, "")
            try:
                typed = load_yaml(after)
            except yaml.YAMLError:
                continue
            if key.endswith(".class_path"):
                key, typed = key.removesuffix(".class_path"), {"class_path": typed}
            yield from _misnamed_in(typed, short(key), short(key), parser)
    for settings in layers:
        yield from _misnamed_in(settings.values, "", "", parser)


def _misnamed_in(value: Any, key: str, component: str, parser: Any) -> Iterator[tuple[str, str, str]]:
    arguments = False
    if isinstance(value, dict) and isinstance(value.get("class_path"), str):
        if not _is_class(value["class_path"], component, parser):
            yield key, value["class_path"], component
            return
        value, arguments = value.get("init_args"), True
    if isinstance(value, dict):
        for name, inner in value.items():
            below = f"{key}.{name}" if key else str(name)
            named = (
                f"{component}.{name}" if component else str(name)
            )  # or a name of the user's own, as in data.extra_val
            inside = named if arguments or not component or schema.bases(named, parser) else component
            yield from _misnamed_in(inner, below, inside, parser)
    elif isinstance(value, list):
        for one in value:
            if isinstance(one, str) and not _is_class(one, component, parser):
                yield key, one, component
            elif isinstance(one, dict):
                yield from _misnamed_in(one, key, component, parser)
    elif isinstance(value, str) and re.fullmatch(r"[\w.]+", value) and not Path(value).exists():
        if not _is_class(value, component, parser) and not schema.takes_text(component, parser):
            yield key, value, component


def _is_class(name: str, component: str, parser: Any) -> bool:
    """Whether a name is one of a class, or none is asked for."""
    if not (choices := schema.choices(component, parser)):
        return True
    return name in choices or ("." in name and not schema.unknown(name))


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


def _known(parser: Any) -> list[str]:
    """All keys that can be typed: the parser's own, and those of the net's default class."""
    keys = [action.dest for action in parser._actions if action.option_strings and "." not in action.dest[:1]]
    return [*dict.fromkeys(keys), *(f"model.net.{name}" for name in schema.parameters("lit_gpt.model.GPT"))]


def _trim(option: str, group: str, parser: Any) -> str:
    """Cuts `nett.norm.class_path` to `nett`: the first word that the group does not have."""
    words = option.split(".")
    known = set(_known(parser))
    for end in range(1, len(words) + 1):
        if f"{group}.{'.'.join(words[:end])}" not in known:
            return ".".join(words[:end])
    return option
