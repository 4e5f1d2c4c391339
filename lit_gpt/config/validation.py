"""Checks typed options and config files against the schema, before any parser sees them: keys, types, classes."""

import dataclasses
import inspect
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from lit_gpt.config import errors, schema
from lit_gpt.config.command_line import Option, classes_first
from lit_gpt.config.schema import REQUIRED, Argument, Component
from lit_gpt.config.yaml_files import ConfigFile
from lit_gpt.config.yaml_values import Loader, compose, flow, is_number, string
from lit_gpt.errors import UserError

_SPEC = ("class_path", "init_args", "dict_kwargs")
_BOOLEANS = ("true", "false", "yes", "no", "on", "off")


@dataclass
class _Chosen:
    """A class that fills a component, and the arguments that are typed for it."""

    cls: type
    key: str  # as people type it
    slot: str  # the same, unique also for the entries of a list
    provided: int = 0
    given: set[str] = field(default_factory=set)

    def arguments(self) -> tuple[dict[str, Argument], bool]:
        return schema.arguments(self.cls, self.provided)


@dataclass(frozen=True)
class _At:
    """The place of a value: its dotted key and where that was typed."""

    key: str
    slot: str
    file: ConfigFile | None = None
    line: int | None = None
    whole: bool = False  # of an option: text that is no list may be a string

    def below(self, name: str, node: yaml.Node | None = None, slot: str | None = None) -> "_At":
        line = self.line if node is None or self.file is None else node.start_mark.line + 1
        return _At(f"{self.key}.{name}" if self.key else name, slot or f"{self.slot}.{name}", self.file, line)

    @property
    def file_line(self) -> str | None:
        return None if self.file is None else f"{self.file.name}:{self.line}"

    def error(self, text: str) -> UserError:
        return UserError(f"{self.file_line}: {self.key}: {text}" if self.file else f"--{self.key}: {text}")


class ConfigChecker:
    """Checks options in order and keeps which class fills which component, as later keys depend on it.

    Args:
        sections: The class whose arguments the keys of a section are, by the section's name.
        options: The types of the keys outside of sections.
        chosen: Classes that fill a component unless another is typed, by key; besides the defaults of constructors.
        linked: Keys that the program sets itself; they cannot be typed.
        flags: Options that need no value.
    """

    def __init__(
        self,
        sections: Mapping[str, type],
        options: Mapping[str, Any],
        chosen: Mapping[str, type] = {},  # never changed
        linked: Collection[str] = (),
        flags: Collection[str] = ("help", "print_config"),
    ) -> None:
        self.options, self.linked, self.flags = options, set(linked), set(flags)
        self._chosen: dict[str, list[_Chosen]] = {}
        self.class_paths: set[str] = set()  # classes that were named; the parser may import them
        for name, cls in sections.items():
            self._chosen[name] = [_Chosen(cls, name, name)]
        self.sections = {name: self._chosen[name][0] for name in sections}
        for key, cls in chosen.items():
            self._choose(Component(cls), cls, _At(key, key))
            self._chosen[key.rpartition(".")[0]][-1].given.add(key.rpartition(".")[2])
        for entry in self.sections.values():
            self._add_defaults(entry)

    def check(self, typed: Iterable[Option]) -> list[str]:
        """The words for the parser: numbers where strings are wanted are quoted, config files are given as text.

        Raises:
            UserError: the first option that is not right.
        """
        words: list[str] = []
        for option in classes_first(typed):
            if option.file is not None:
                words += ["--config", self._file(option.file)]
            elif not option.key:
                raise UserError(f"unexpected {option.text!r}; options are written --key value")
            elif option.key.partition(".")[0] in self.flags or option.key.endswith(".help"):
                words += [f"--{option.key}" if option.text is None else f"--{option.key}={option.text}"]
            elif option.text is None:
                self._argument(option.key.rstrip("+"))  # it may be misspelled
                raise UserError(f"--{option.key} needs a value")
            else:
                words.append(f"--{option.key}={self._option(option.key, option.text)}")
        return words

    def check_required(self) -> None:
        """Refuses a class that lacks an argument without a default.

        Raises:
            UserError: naming the keys to type.
        """
        for entry in [one for entries in self._chosen.values() for one in entries]:
            keys = {
                name: f"{entry.key}.{name}" for name, one in entry.arguments()[0].items() if one.default is REQUIRED
            }
            missing = [f"--{key}" for name, key in keys.items() if name not in entry.given and key not in self.linked]
            if missing:
                raise UserError(f"{entry.key} {entry.cls.__name__} also needs {', '.join(missing)}")

    def _file(self, file: ConfigFile) -> str:
        parts = []
        for key, value in _pairs(file.node):
            at = _At(key.value, key.value, file, key.start_mark.line + 1)
            if key.value in self.sections and value.tag.endswith(":null"):
                continue
            if key.value in self.sections:
                parts.append(f"{string(key.value)}: {self._section(value, key.value, at)}")
            elif key.value in self.options:
                parts.append(f"{string(key.value)}: {self._value(value, Argument(self.options[key.value], None), at)}")
            else:
                leaf, line = key.value, at.line
                while isinstance(value, yaml.MappingNode) and value.value:
                    inner, value = value.value[0]
                    leaf, line = f"{leaf}.{inner.value}", inner.start_mark.line + 1
                raise errors.unknown_key(leaf, f"{file.name}:{line}", self._keys())
        return "{" + ", ".join(parts) + "}"

    def _section(self, node: yaml.Node, name: str, at: _At) -> str:
        if not isinstance(node, yaml.MappingNode):
            raise at.error(f"expected keys with values, got {_shown(node)}")
        return self._arguments(node, self.sections[name], at)

    def _option(self, key: str, text: str) -> str:
        """The text of an option as the parser should read it."""
        key, plus = key.rstrip("+"), key.endswith("+")
        node = compose(text)
        if key in self.sections:
            return self._section(node, key, _At(key, key))
        found = self._argument(key)
        if found is None:
            return text
        argument, at = found
        if plus:
            before = self._chosen.get(at.slot, [])
            checked = self._value(node, argument, replace(at, slot=f"{at.slot}[{len(before)}]"))
            self._chosen[at.slot] = before + self._chosen.pop(f"{at.slot}[{len(before)}]", [])
        else:
            checked = self._value(node, argument, replace(at, whole=True))
        return text if isinstance(node, yaml.ScalarNode) else checked

    def _argument(self, key: str) -> tuple[Argument, _At] | None:
        """The argument that a typed key names; None where only the parser can tell."""
        first, *names = [name for name in key.split(".") if name != "init_args"]
        if first in self.options and not names:
            return Argument(self.options[first], None), _At(key, key)
        if first not in self.sections or not names:
            raise errors.unknown_key(f"--{key}", None, self._keys())
        entries, wanted = [self.sections[first]], None
        for place, name in enumerate(names):
            if name == "dict_kwargs":
                return None
            entry = entries[-1]
            if name == "class_path" and wanted is not None:
                return wanted, _At(entry.key, entry.slot)
            known, is_open = entry.arguments()
            path = f"{entry.key}.{name}"
            if name not in known or path in self.linked:
                if is_open:
                    return None
                raise self._unknown(entry, name, path if entry.key != first else key, None)
            entry.given.add(name)
            argument, slot = known[name], f"{entry.slot}.{name}"
            if place == len(names) - 1:
                return argument, _At(path, slot)
            entries, wanted = self._chosen.get(slot, []), argument
            if len(entries) > 1 and path.startswith("model.net."):  # the parser would give it to the last one
                raise UserError(
                    f"--{key}: {path} is a list of {len(entries)}, so it is not clear which entry is meant; write the"
                    " whole list"
                )
            if not entries:
                if names[place + 1] == "class_path":
                    return argument, _At(path, slot)
                if schema.components(argument.annotation) and not any(map(schema.is_dict, _types(argument))):
                    raise UserError(f"--{key}: no class is chosen for {path} yet; name one with --{path}")
                return None
        return None

    def _value(self, node: yaml.Node, argument: Argument, at: _At) -> str:
        """A value as one line of YAML, its scalars as the annotation wants them."""
        types = _types(argument)
        if node.tag.endswith(":null"):
            if None in types or Any in types or argument.default is None:
                return "null"
            raise at.error(f"expected {_kinds(types)}, got null; leave it out for what it is by default")
        wanted = [one for one in types if isinstance(one, Component)]
        if isinstance(node, yaml.MappingNode):
            keys = {key.value for key, _ in _pairs(node)}
            dicts = [one for one in types if schema.is_dict(one)]
            if wanted and (not dicts or "class_path" in keys):
                return self._spec(node, wanted, at)
            if dicts:
                inner = Argument(*typing.get_args(dicts[0])[1:2])
                pairs = ((key, self._value(value, inner, at.below(key.value, key))) for key, value in _pairs(node))
                return "{" + ", ".join(f"{string(key.value)}: {value}" for key, value in pairs) + "}"
        elif isinstance(node, yaml.SequenceNode):
            lists = [one for one in types if schema.is_list(one)]
            for number, one in enumerate(lists):
                try:
                    return self._list(node, one, at)
                except UserError:
                    if number == len(lists) - 1 and not (at.whole and str in types):
                        raise
        elif (found := self._scalar(node, types, wanted, at)) is not None:
            return found
        if Any in types or any(_is_other(one) for one in types) or (at.whole and str in types):
            return flow(node)
        raise at.error(f"expected {_kinds(types)}, got {_shown(node)}")

    def _list(self, node: yaml.SequenceNode, kind: Any, at: _At) -> str:
        inner = [one for one in typing.get_args(kind) if one is not Ellipsis]
        is_tuple = (typing.get_origin(kind) or kind) is tuple and Ellipsis not in typing.get_args(kind)
        if is_tuple and inner and len(inner) != len(node.value):
            raise at.error(f"expected a list of {len(inner)}, got {_shown(node)}")
        entries, parts = [], []
        for number, one in enumerate(node.value):
            slot = f"{at.slot}[{number}]"
            place = replace(at, slot=slot, whole=False, line=one.start_mark.line + 1 if at.file else None)
            parts.append(self._value(one, Argument(inner[number if is_tuple else 0] if inner else Any), place))
            entries += self._chosen.pop(slot, [])
        if entries:
            self._chosen[at.slot] = entries
        return "[" + ", ".join(parts) + "]"

    def _scalar(self, node: yaml.Node, types: list[Any], wanted: list[Component], at: _At) -> str | None:
        """A scalar as YAML; None where it is of none of the types."""
        if any(one in types and is_number(node, one) for one in (int, float)):
            return flow(node)
        if bool in types and node.value.lower() in _BOOLEANS:
            return flow(node)
        literals = [
            value for one in types if typing.get_origin(one) is typing.Literal for value in typing.get_args(one)
        ]
        if node.value in map(str, literals):
            return flow(node)
        if wanted and (str not in types or node.value in schema.choices(wanted)):
            if not node.tag.endswith(":str"):
                raise at.error(f"expected {_kinds(types)}, got {_shown(node)}")
            self._named(node.value, wanted, at)
            return string(node.value)
        return string(node.value) if str in types else None

    def _spec(self, node: yaml.MappingNode, wanted: list[Component], at: _At) -> str:
        """`{class_path: ..., init_args: {...}}`, or the arguments of the class that is chosen already."""
        values = {key.value: (key, value) for key, value in _pairs(node)}
        if "class_path" not in values:
            record = next((one for one in wanted if dataclasses.is_dataclass(one.base)), None)
            if record is not None:
                self._choose(record, record.base, at)
            entries = self._chosen.get(at.slot, [])
            if not entries:
                raise at.error(f"expected {' or '.join(map(schema.kind_of, wanted))}, got {_shown(node)}")
            inner = values["init_args"][1] if set(values) <= set(_SPEC) else node
            text = self._arguments(inner, entries[-1], at)
            if record is not None:  # its refusal would reach the user among those of the other alternatives
                with errors.constructing_record(at.error):
                    record.base(**yaml.load(text, Loader))
            return text
        path = values["class_path"][1]
        if not isinstance(path, yaml.ScalarNode):
            raise at.error(f"expected the name of a class, got {_shown(path)}")
        self._named(path.value, wanted, at)
        for name, (key, _) in values.items():
            if name not in _SPEC:
                entry = self._chosen[at.slot][-1]
                raise self._unknown(entry, name, f"{at.key}.{name}", at.below(name, key))
        parts = [f'"class_path": {string(path.value)}']
        if "init_args" in values and not values["init_args"][1].tag.endswith(":null"):
            parts.append(f'"init_args": {self._arguments(values["init_args"][1], self._chosen[at.slot][-1], at)}')
        if "dict_kwargs" in values:
            parts.append(f'"dict_kwargs": {flow(values["dict_kwargs"][1])}')
        return "{" + ", ".join(parts) + "}"

    def _arguments(self, node: yaml.Node, entry: _Chosen, at: _At) -> str:
        if not isinstance(node, yaml.MappingNode):
            raise at.error(f"expected the arguments of {entry.cls.__name__}, got {_shown(node)}")
        known, is_open = entry.arguments()
        parts = []
        for key, value in _pairs(node):
            name, place = key.value, at.below(key.value, key, f"{entry.slot}.{key.value}")
            if (name not in known and not is_open) or place.key in self.linked:
                raise self._unknown(entry, name, place.key, place)
            entry.given.add(name)
            parts.append(f"{string(name)}: {self._value(value, known.get(name, Argument()), place)}")
        return "{" + ", ".join(parts) + "}"

    def _named(self, name: str, wanted: list[Component], at: _At) -> None:
        """Chooses the class of a name, short or dotted; for a function that makes one nothing is chosen."""
        fitting = schema.choices(wanted)
        if "." not in name and name in fitting:
            found: Any = fitting[name]
        elif "." in name and not Path(name).is_file():
            found = errors.located(name, wanted, at.error)
        else:
            raise at.error(errors.no_class(name, wanted, at.key))
        if not inspect.isclass(found):
            self._chosen.pop(at.slot, None)
        else:
            self._choose(next(one for one in wanted if issubclass(found, one.base)), found, at)
            self.class_paths |= {f"{found.__module__}.{found.__qualname__}", *([name] if "." in name else [])}

    def _choose(self, component: Component, cls: type, at: _At) -> None:
        entry = _Chosen(cls, at.key, at.slot, component.provided)
        known = entry.arguments()[0]
        before = self._chosen.get(at.slot, [])
        if len(before) == 1:  # arguments of the same name stay
            entry.given = before[0].given & known.keys()
        for slot in [one for one in self._chosen if one.startswith(f"{at.slot}.")]:
            if slot.removeprefix(f"{at.slot}.").split(".")[0].partition("[")[0] not in entry.given:
                del self._chosen[slot]
        self._chosen[at.slot] = [entry]
        self._add_defaults(entry)

    def _add_defaults(self, entry: _Chosen) -> None:
        for name, argument in entry.arguments()[0].items():
            slot = f"{entry.slot}.{name}"
            if inspect.isclass(argument.default) and argument.default is not REQUIRED and slot not in self._chosen:
                wanted = [one for one in _types(argument) if isinstance(one, Component)]
                fits = [one for one in wanted if issubclass(argument.default, one.base)]
                if fits:
                    self._choose(fits[0], argument.default, _At(f"{entry.key}.{name}", slot))

    def _unknown(self, entry: _Chosen, name: str, key: str, at: _At | None) -> UserError:
        """The error of an argument that a class does not have; one of a section is told with all keys in mind."""
        typed, line = (key, at.file_line) if at is not None and at.file is not None else (f"--{key}", None)
        if entry.key in self.sections:
            return errors.unknown_key(typed, line, self._keys())
        owner, _, argument = entry.key.rpartition(".")
        wanted: list[Component] = []
        for holder in self._chosen.get(owner, [])[-1:]:
            found = holder.arguments()[0].get(argument, Argument())
            wanted = schema.components(found.annotation)
        others = {n: list(schema.arguments(cls, wanted[0].provided)[0]) for n, cls in schema.choices(wanted).items()}
        known = [one for one in entry.arguments()[0] if f"{entry.key}.{one}" not in self.linked]
        return errors.unknown_argument(typed, line, entry.cls.__name__, known, others)

    def _keys(self) -> list[str]:
        """All keys that can be typed: options, those of the sections, and those of the net."""
        entries = [*self.sections.values(), *self._chosen.get("model.net", [])]
        return [*self.options, *(f"{entry.key}.{name}" for entry in entries for name in entry.arguments()[0])]


def _types(argument: Argument) -> list[Any]:
    return list(schema.alternatives(argument.annotation))


def _is_other(one: Any) -> bool:
    """Whether only the parser knows what a type takes: a Path, a duration, a type variable."""
    known = one is None or one in (int, float, bool, str) or isinstance(one, Component)
    return not (known or schema.is_list(one) or schema.is_dict(one) or typing.get_origin(one) is typing.Literal)


def _kinds(types: list[Any]) -> str:
    return " or ".join(dict.fromkeys(map(schema.kind_of, types)))


def _pairs(node: yaml.MappingNode) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """Keys and values, merged keys under those of the mapping itself; each key is there once."""
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise UserError("a key must be a word")
        if key.value in seen and key.value != "<<":
            raise UserError(f"key {key.value!r} is given twice")
        seen.add(key.value)
    Loader("").flatten_mapping(node)
    return list({key.value: (key, value) for key, value in node.value}.values())


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode) and not node.tag.endswith(":str"):
        return str(node.value)
    return repr(node.value) if isinstance(node, yaml.ScalarNode) else f"{flow(node):.80}"
