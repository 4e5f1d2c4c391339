"""How the turns of a conversation are laid out: the markers before and after each.

Knows: markers, roles, which of the markers are special tokens, how to write a layout in Jinja. Does not know: records,
ids, files, how such programs run (see jinja_template).

The markers are data, so that a template of one's own is written in YAML. The bos of a tokenizer goes ahead of every
document, so no template has to put it there. What messages say is never searched for special tokens: nobody can forge
the end of a turn.
"""

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from lit_gpt.config.class_paths import class_path
from lit_gpt.data.chunks import Segment
from lit_gpt.data.formats.messages import Message, trained_on
from lit_gpt.errors import UserError, not_implemented

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer


class Template:
    """The base of all templates of conversations. A subclass writes `segments`, `special_tokens` and `stops`."""

    #: Whether bos and eos are put around the text; else it says by itself where they stand.
    framed: ClassVar[bool] = True
    #: Whether the ids are those of the whole text encoded at once, with any tokenizer.
    whole_text: ClassVar[bool] = False

    def __call__(self) -> "Template":
        """Itself, so that a made template may stand where a class to be made is expected."""
        return self

    @property
    def name(self) -> str:
        """What errors call it."""
        return type(self).__name__

    @property
    def reads_parts(self) -> bool:
        """Whether it takes content that is a list of parts as it is."""
        return False

    @property
    def notes(self) -> list[str]:
        """Lines to print before documents are laid out."""
        return []

    def has_place(self, field: str) -> bool:
        """Whether it reads a field of a message or a record, besides role and content."""
        return False

    def with_variables(self, given: dict[str, Any]) -> "Template":
        """The same template with values for the variables that it reads.

        Raises:
            UserError: It does not read one of them.
        """
        if given:
            raise UserError(f"{self.name} reads no template_variables; leave them out, or give a template of Jinja")
        return self

    @property
    def special_tokens(self) -> list[str]:
        """Names of the special tokens that the tokenizer has to have."""
        raise not_implemented(self, "special_tokens")

    @property
    def stops(self) -> list[str]:
        """Names of the special tokens that end an answer."""
        raise not_implemented(self, "stops")

    @property
    def stop_texts(self) -> list[str]:
        """Texts that end an answer, where no special token does."""
        return []

    def for_tokenizer(self, tokenizer: "Tokenizer") -> "Template":
        """The template with what it takes from the tokenizer."""
        return self

    def segments(self, messages: list[Message], others: dict[str, Any], ask: bool = False) -> list[Segment]:
        """The conversation laid out; answers are scored, with the special token that ends each.

        Args:
            messages: The turns, each with its role and content.
            others: Further fields of the record, such as the tools.
            ask: End with what stands ahead of an answer of the assistant.
        """
        raise not_implemented(self, "segments")

    def program(self, bos: str | None) -> str | dict[str, str] | None:
        """The layout as a chat template of the Hugging Face world, for other programs; None where it has none.

        Several templates are given by name.

        Args:
            bos: Name of the tokenizer's bos, where it has one: as in preparation, each conversation begins with it.
        """
        return None

    def configuration(self) -> dict[str, Any]:
        """Class and arguments: what decides the segments."""
        arguments = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        return {"class_path": class_path(type(self)), "init_args": arguments}


class Turns(Template):
    """The base of templates that put the same markers around every turn."""

    #: Ahead of a turn and after it, with {role} for whose it is.
    before: ClassVar[str]
    after: ClassVar[str]
    #: Special tokens in the markers, with {role} too.
    special: ClassVar[list[str]]
    #: What the markers call each role. Others are refused.
    roles: ClassVar[dict[str, str]] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
    #: Whether white space around a message is left out.
    trim: ClassVar[bool] = False

    @property
    def special_tokens(self) -> list[str]:
        """Special tokens of the markers, for every role."""
        names = [one.replace("{role}", role) for one in self.special for role in self.roles.values()]
        return list(dict.fromkeys(names))

    @property
    def stops(self) -> list[str]:
        """The first special token after an answer."""
        return [segment.text for segment in self._marker(self.after, "assistant", False) if segment.special][:1]

    @property
    def stop_texts(self) -> list[str]:
        """The marker after an answer, where it is plain text."""
        return [] if self.stops else [self.after.replace("{role}", self.roles.get("assistant", "assistant"))]

    def segments(self, messages: list[Message], others: dict[str, Any], ask: bool = False) -> list[Segment]:
        """Marker, message, marker, for each turn."""
        if others:
            raise UserError(f"{type(self).__name__} has no place for {', '.join(others)}; give a template of Jinja")
        segments: list[Segment] = []
        for number, message in enumerate(messages, start=1):
            role, content = message["role"], message.get("content", "")
            if role not in self.roles:
                raise UserError(f"message {number} is of {role!r}; {type(self).__name__} knows {', '.join(self.roles)}")
            if message.get("tool_calls"):
                raise UserError(f"message {number} calls tools, for which {type(self).__name__} has no place")
            answers = trained_on(message)
            segments += self._marker(self.before, role, False)
            segments.append(Segment(content.strip() if self.trim else content, trained=answers))
            segments += _up_to_the_end(self._marker(self.after, role, answers))
        return [*segments, *self._marker(self.before, "assistant", False)] if ask else segments

    def program(self, bos: str | None) -> str | None:
        name = 'names[message["role"]]'
        before, after = (_concatenated(marker, name) for marker in (self.before, self.after))
        content = 'message["content"]' + (" | trim" if self.trim else "")
        known = f"{type(self).__name__} knows the roles {', '.join(self.roles)}"
        refuse = f"raise_exception({_quoted(known)})"
        ask = self.before.replace("{role}", self.roles.get("assistant", "assistant"))
        ahead = bos is not None and self._marker(self.before, "user", False)[:1] != [Segment(bos, True, False)]
        lines = [
            *(["{{- bos_token -}}"] if ahead else []),
            f"{{%- set names = {json.dumps(self.roles)} -%}}",
            "{%- for message in messages -%}",
            f'{{%- if message["role"] not in names -%}}{{{{- {refuse} -}}}}{{%- endif -%}}',
            f"{{{{- {' + '.join([*before, content, *after])} -}}}}",
            "{%- endfor -%}",
            f"{{%- if add_generation_prompt -%}}{{{{- {_quoted(ask)} -}}}}{{%- endif -%}}",
        ]
        return "\n".join(lines) + "\n"

    def _marker(self, marker: str, role: str, scored: bool) -> list[Segment]:
        """A marker's text and its special tokens."""
        name = self.roles.get(role, role)
        special = [one.replace("{role}", name) for one in self.special]
        return [segment._replace(trained=scored) for segment in split(marker.replace("{role}", name), special)]


class Markers(Turns):
    """The same markers around every turn, as they are given here.

    Args:
        before: Ahead of a turn; {role} is whose it is: system, user, assistant or tool.
        after: After a turn; an answer is learned as far as the last special token in it, or all of it.
        special: Names of the special tokens in the layout; by default those that the tokenizer has.
    """

    def __init__(self, before: str, after: str, special: list[str] | None = None) -> None:
        if not after:
            raise UserError("template.after is empty, so an answer would have no end; give a marker such as <|im_end|>")
        self._known = special is not None
        # Over those of the class, for this template alone.
        vars(self).update(before=before, after=after, special=list(special or []))

    def for_tokenizer(self, tokenizer: "Tokenizer") -> Template:
        """With the tokenizer's special tokens where none were given."""
        return self if self._known else Markers(self.before, self.after, special_names(tokenizer))

    @property
    def special_tokens(self) -> list[str]:
        """Those that do occur."""
        markers = [marker.replace("{role}", role) for marker in (self.before, self.after) for role in self.roles]
        return [name for name in super().special_tokens if any(name in marker for marker in markers)]


class ChatML(Turns):
    """ChatML, as Qwen and many others have it: <|im_start|>user, a line's end, the message, <|im_end|>."""

    before = "<|im_start|>{role}\n"
    after = "<|im_end|>\n"
    special = ["<|im_start|>", "<|im_end|>"]


class Llama3(Turns):
    """The layout of Llama 3: <|start_header_id|>user<|end_header_id|>, an empty line, the message, <|eot_id|>."""

    before = "<|start_header_id|>{role}<|end_header_id|>\n\n"
    after = "<|eot_id|>"
    special = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    trim = True


class Gemma(Turns):
    """The layout of Gemma: <start_of_turn>user, a line's end, the message, <end_of_turn>; it has no system's turn."""

    before = "<start_of_turn>{role}\n"
    after = "<end_of_turn>\n"
    special = ["<start_of_turn>", "<end_of_turn>"]
    roles = {"user": "user", "assistant": "model"}
    trim = True


class Phi3(Turns):
    """The layout of Phi 3: <|user|>, a line's end, the message, <|end|>."""

    before = "<|{role}|>\n"
    after = "<|end|>\n"
    special = ["<|{role}|>", "<|end|>"]
    roles = {"system": "system", "user": "user", "assistant": "assistant"}


def _concatenated(marker: str, name: str) -> list[str]:
    """A marker as terms of Jinja, with a term for the role's name."""
    first, *others = marker.split("{role}")
    terms = [_quoted(first)] if first else []
    for other in others:
        terms += [name, *([_quoted(other)] if other else [])]
    return terms


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def special_names(tokenizer: "Tokenizer") -> list[str]:
    """Names of a tokenizer's special tokens, in the order of their ids."""
    return [tokenizer.token(id) for id in sorted(tokenizer.special_ids)]


def split(text: str, special: list[str]) -> list[Segment]:
    """A text cut at the names of special tokens in it; the longest name goes first."""
    return list(_cut(text, tuple(special)))


@lru_cache(maxsize=8)
def any_of(names: tuple[str, ...]) -> re.Pattern[str]:
    """Finds any of these names, the longest where several begin."""
    return re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or "(?!)")


@lru_cache(maxsize=64)
def _cut(text: str, special: tuple[str, ...]) -> tuple[Segment, ...]:
    """Remembered: a conversation has the same few markers again and again."""
    segments, done = [], 0
    for name in any_of(special).finditer(text):
        segments += [Segment(text[done : name.start()]), Segment(name[0], special=True)]
        done = name.end()
    return tuple(segment for segment in (*segments, Segment(text[done:])) if segment.text)


def _up_to_the_end(segments: list[Segment]) -> list[Segment]:
    """What follows the special token that ends an answer is not learned."""
    last = max((at for at, segment in enumerate(segments) if segment.special), default=len(segments))
    return [segment._replace(trained=segment.trained and at <= last) for at, segment in enumerate(segments)]
