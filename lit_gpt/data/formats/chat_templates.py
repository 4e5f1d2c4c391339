"""Chat templates with fixed markers before and after each turn: ChatML, Llama3, Gemma, Phi3, Markers.

Preparation adds bos ahead of every document, so these templates do not. Messages are never searched for special
tokens, so that a message cannot forge the end of a turn.
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
    """The base of all chat templates. A subclass implements `segments`, `special_tokens` and `stops`."""

    #: Whether preparation adds bos and eos around the text; else the template writes them.
    framed: ClassVar[bool] = True
    #: Whether the whole text is encoded at once, with any tokenizer.
    whole_text: ClassVar[bool] = False

    def __call__(self) -> "Template":
        """Returns self, so that an instance works as a factory."""
        return self

    @property
    def name(self) -> str:
        """The name in errors."""
        return type(self).__name__

    @property
    def reads_parts(self) -> bool:
        """Whether it renders content that is a list of parts."""
        return False

    @property
    def notes(self) -> list[str]:
        """Lines to print before preparation."""
        return []

    def reads(self, field: str) -> bool:
        """Whether it reads a field of a message or record, besides role and content."""
        return False

    def with_variables(self, variables: dict[str, Any]) -> "Template":
        """The same template with values for the variables that it reads.

        Raises:
            UserError: It does not read one of them.
        """
        if variables:
            raise UserError(f"{self.name} reads no template_variables; remove them, or give a Jinja template")
        return self

    @property
    def special_tokens(self) -> list[str]:
        """Special tokens that the tokenizer must have."""
        raise not_implemented(self, "special_tokens")

    @property
    def stops(self) -> list[str]:
        """Special tokens that end an answer."""
        raise not_implemented(self, "stops")

    @property
    def stop_texts(self) -> list[str]:
        """Texts that end an answer, if no special token does."""
        return []

    def for_tokenizer(self, tokenizer: "Tokenizer") -> "Template":
        """The template with what it takes from the tokenizer."""
        return self

    def segments(self, messages: list[Message], others: dict[str, Any], ask: bool = False) -> list[Segment]:
        """The segments of a conversation; answers are trained on, with the special token that ends each.

        Args:
            messages: The turns, each with its role and content.
            others: Further fields of the record, such as the tools.
            ask: Append the header of an assistant's answer, as `add_generation_prompt` does.
        """
        raise not_implemented(self, "segments")

    def program(self, bos: str | None) -> str | dict[str, str] | None:
        """The equivalent Jinja template, or several by name, for export; None if there is none.

        Args:
            bos: The tokenizer's bos, if it has one; each conversation begins with it, as in preparation.
        """
        return None

    def configuration(self) -> dict[str, Any]:
        """Class path and arguments."""
        arguments = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        return {"class_path": class_path(type(self)), "init_args": arguments}


class Turns(Template):
    """The base of templates with the same markers around every turn."""

    #: Before and after a turn, with {role} for its role.
    before: ClassVar[str]
    after: ClassVar[str]
    #: Special tokens in the markers; {role} is replaced too.
    special: ClassVar[list[str]]
    #: Name of each role in the markers. Other roles are refused.
    roles: ClassVar[dict[str, str]] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
    #: Whether whitespace around a message is stripped.
    trim: ClassVar[bool] = False

    @property
    def special_tokens(self) -> list[str]:
        names = [name.replace("{role}", role) for name in self.special for role in self.roles.values()]
        return list(dict.fromkeys(names))

    @property
    def stops(self) -> list[str]:
        return [segment.text for segment in self._marker(self.after, "assistant", False) if segment.special][:1]

    @property
    def stop_texts(self) -> list[str]:
        return [] if self.stops else [self.after.replace("{role}", self.roles.get("assistant", "assistant"))]

    def segments(self, messages: list[Message], others: dict[str, Any], ask: bool = False) -> list[Segment]:
        if others:
            raise UserError(f"{type(self).__name__} does not read {', '.join(others)}; give a Jinja template")
        segments: list[Segment] = []
        for number, message in enumerate(messages, start=1):
            role, content = message["role"], message.get("content", "")
            if role not in self.roles:
                raise UserError(
                    f"message {number} has role {role!r}; {type(self).__name__} knows {', '.join(self.roles)}"
                )
            if message.get("tool_calls"):
                raise UserError(f"message {number} calls tools, which {type(self).__name__} does not render")
            trained = trained_on(message)
            segments += self._marker(self.before, role, False)
            segments.append(Segment(content.strip() if self.trim else content, trained=trained))
            segments += _trained_to_stop(self._marker(self.after, role, trained))
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

    def _marker(self, marker: str, role: str, trained: bool) -> list[Segment]:
        name = self.roles.get(role, role)
        special = [token.replace("{role}", name) for token in self.special]
        return [segment._replace(trained=trained) for segment in split(marker.replace("{role}", name), special)]


class Markers(Turns):
    """A chat template from two markers.

    Args:
        before: Marker before a turn; {role} is its role: system, user, assistant or tool.
        after: Marker after a turn; after an answer it is trained on up to its last special token, or all of it.
        special: Special tokens in the markers; by default the tokenizer's.
    """

    def __init__(self, before: str, after: str, special: list[str] | None = None) -> None:
        if not after:
            raise UserError("template.after is empty, so an answer would have no end; give a marker such as <|im_end|>")
        self._special_given = special is not None
        # Instance attributes shadow those of the class.
        vars(self).update(before=before, after=after, special=list(special or []))

    def for_tokenizer(self, tokenizer: "Tokenizer") -> Template:
        """With the tokenizer's special tokens, if none were given."""
        return self if self._special_given else Markers(self.before, self.after, special_names(tokenizer))

    @property
    def special_tokens(self) -> list[str]:
        markers = [marker.replace("{role}", role) for marker in (self.before, self.after) for role in self.roles]
        return [name for name in super().special_tokens if any(name in marker for marker in markers)]


class ChatML(Turns):
    """ChatML, as of Qwen and many others: <|im_start|>user, a newline, the message, <|im_end|>."""

    before = "<|im_start|>{role}\n"
    after = "<|im_end|>\n"
    special = ["<|im_start|>", "<|im_end|>"]


class Llama3(Turns):
    """The chat template of Llama 3: <|start_header_id|>user<|end_header_id|>, a blank line, the message, <|eot_id|>."""

    before = "<|start_header_id|>{role}<|end_header_id|>\n\n"
    after = "<|eot_id|>"
    special = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    trim = True


class Gemma(Turns):
    """The chat template of Gemma: <start_of_turn>user, a newline, the message, <end_of_turn>; no system role."""

    before = "<start_of_turn>{role}\n"
    after = "<end_of_turn>\n"
    special = ["<start_of_turn>", "<end_of_turn>"]
    roles = {"user": "user", "assistant": "model"}
    trim = True


class Phi3(Turns):
    """The chat template of Phi 3: <|user|>, a newline, the message, <|end|>."""

    before = "<|{role}|>\n"
    after = "<|end|>\n"
    special = ["<|{role}|>", "<|end|>"]
    roles = {"system": "system", "user": "user", "assistant": "assistant"}


def _concatenated(marker: str, name: str) -> list[str]:
    """The terms of a Jinja expression for a marker; `name` is the term for the role."""
    first, *others = marker.split("{role}")
    terms = [_quoted(first)] if first else []
    for other in others:
        terms += [name, *([_quoted(other)] if other else [])]
    return terms


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def special_names(tokenizer: "Tokenizer") -> list[str]:
    """A tokenizer's special tokens, in the order of their ids."""
    return [tokenizer.token(id) for id in sorted(tokenizer.special_ids)]


def split(text: str, special: list[str]) -> list[Segment]:
    """A text split at the special tokens in it; the longest token takes precedence."""
    return list(_split(text, tuple(special)))


@lru_cache(maxsize=8)
def any_of(names: tuple[str, ...]) -> re.Pattern[str]:
    """Matches any of these names, the longest if several match."""
    return re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)) or "(?!)")


@lru_cache(maxsize=64)
def _split(text: str, special: tuple[str, ...]) -> tuple[Segment, ...]:
    segments, done = [], 0
    for name in any_of(special).finditer(text):
        segments += [Segment(text[done : name.start()]), Segment(name[0], special=True)]
        done = name.end()
    return tuple(segment for segment in (*segments, Segment(text[done:])) if segment.text)


def _trained_to_stop(segments: list[Segment]) -> list[Segment]:
    """Masks what follows the last special token of the marker after an answer."""
    last = max((at for at, segment in enumerate(segments) if segment.special), default=len(segments))
    return [segment._replace(trained=segment.trained and at <= last) for at, segment in enumerate(segments)]
