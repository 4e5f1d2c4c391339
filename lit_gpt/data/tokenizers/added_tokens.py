"""Inside a tokenizer of the tokenizers library: new tokens put into it, and the bytes that its tokens stand for.

Knows that library's vocabularies. Does not know: roles of special tokens, files, folders.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from lit_gpt.data.tokenizers.byte_level import unicode_to_byte
from lit_gpt.errors import UserError

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def taught(inner: Any, texts: Iterable[str], never_in_text: Iterable[str] = ()) -> Any:
    """The same tokenizer in which each text becomes one id wherever it is spelled, a special token's text included.

    New ones follow the highest id, in their order; text that spells any other special token stays text.

    Args:
        inner: The library's tokenizer.
        texts: What is added.
        never_in_text: Those of the texts that are special tokens: their ids are given, but no text gets them.

    Raises:
        UserError: a text is empty, or its id is taken.
    """
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Inner

    texts, never_in_text = list(texts), set(never_in_text)
    if not all(texts):
        raise UserError("data.add_tokens holds an empty text; leave it out")
    special = {token.content for token in inner.get_added_tokens_decoder().values() if token.special}
    if special & set(texts) - never_in_text:
        content = json.loads(inner.to_str())
        for token in content["added_tokens"]:
            token["special"] = token["special"] and token["content"] not in texts
        inner = Inner.from_str(json.dumps(content))
    for text in texts:
        known = set(inner.get_vocab().values()) if inner.token_to_id(text) is None else set()
        inner.add_tokens([AddedToken(text, special=text in never_in_text, normalized=False)])
        if inner.token_to_id(text) in known:
            raise UserError(
                f"data.add_tokens: {text!r} has no id of its own, as the tokenizer's ids have gaps; leave it out"
            )
    refuse_ordinary_words(inner, never_in_text)
    return inner


def refuse_ordinary_words(inner: Any, special: Iterable[str]) -> None:
    """Makes text that spells a special token stay text: what users write is not to steer the model.

    Raises:
        UserError: a special token's text is also a word of the vocabulary, so that it cannot.
    """
    inner.encode_special_tokens = True
    for text in special:
        if inner.token_to_id(text) in inner.encode(text, add_special_tokens=False).ids:
            raise UserError(
                f"special token {text!r} is an ordinary word of the tokenizer's text, which would get its id;"
                f" give it a name that no text spells, such as '<|{text.strip('<|>')}|>'"
            )


def with_added(learned: dict[str, Any], texts: Iterable[str], special: bool = False) -> dict[str, Any]:
    """A tokenizer's state with further tokens, each id as it was: `added` are all in order, `special` some of them.

    Args:
        learned: As of `Tokenizer.state`.
        texts: What is added.
        special: Whether text that spells them stays text.
    """
    old, hidden = learned.get("added", []), learned.get("special", [])
    hidden = [*hidden, *texts] if special else [text for text in hidden if text not in texts]
    made = {key: value for key, value in learned.items() if key != "special"}
    return {**made, "added": list(dict.fromkeys([*old, *texts])), **({"special": hidden} if hidden else {})}


def token_bytes(inner: Any) -> list[bytes]:
    """What each id stands for, specials included; empty for ids that no token has."""
    decoders = set(_types(json.loads(_without_vocabulary(inner))["decoder"]))
    vocabulary = inner.get_vocab(with_added_tokens=True)
    pieces = [b""] * (max(vocabulary.values(), default=-1) + 1)
    byte_of = unicode_to_byte()
    for token, id in vocabulary.items():
        pieces[id] = _bytes(token, decoders, byte_of)
    for id, token in inner.get_added_tokens_decoder().items():
        pieces[id] = token.content.encode()
    return pieces


def decodes_bytes_alone(inner: Any) -> bool:
    """Whether text is no more than the bytes of its ids, one after the other."""
    return set(_types(json.loads(_without_vocabulary(inner))["decoder"])) == {"ByteLevel"}


def is_lossless(inner: Any) -> bool:
    """Whether ids stand for all bytes of any text, as can be said of byte-level tokenizers that change nothing."""
    content = json.loads(_without_vocabulary(inner))
    steps = list(_steps(content["pre_tokenizer"], "pretokenizers"))
    byte_level = [step for step in steps if step["type"] == "ByteLevel"]
    splits = [step for step in steps if step["type"] in ("Split", "Digits", "Punctuation")]
    return (
        content["model"]["type"] == "BPE"
        and content["normalizer"] is None
        and len(byte_level) == 1
        and len(byte_level) + len(splits) == len(steps)
        and not byte_level[0]["add_prefix_space"]
        and all(step.get("behavior") != "Removed" for step in splits)
        and set(_types(content["decoder"])) == {"ByteLevel"}
        and all(inner.token_to_id(character) is not None for character in unicode_to_byte())
        and not any(token["lstrip"] or token["rstrip"] for token in content["added_tokens"] if not token["special"])
    )


def _bytes(token: str, decoders: set[str], byte_of: dict[str, int]) -> bytes:
    if "ByteLevel" in decoders:
        if all(character in byte_of for character in token):
            return bytes(byte_of[character] for character in token)
        return token.encode()
    if "ByteFallback" in decoders and (byte := _BYTE.fullmatch(token)):
        return bytes([int(byte[1], 16)])
    return (token.replace("▁", " ") if decoders & {"Metaspace", "Replace"} else token).encode()


def _without_vocabulary(inner: Any) -> str:
    """The tokenizer's JSON; the vocabulary, which may be of many megabytes, is cut out of it."""
    return re.sub(r'"vocab":.*$', '"vocab":{}}}', inner.to_str(), count=1, flags=re.DOTALL)


def _steps(part: Any, inside: str) -> Iterator[dict[str, Any]]:
    if part is not None:
        yield from part[inside] if part["type"] == "Sequence" else [part]


def _types(part: Any) -> Iterator[str]:
    """The types of a part of the JSON and of all parts inside it."""
    if isinstance(part, dict):
        if isinstance(part.get("type"), str):
            yield part["type"]
        for value in part.values():
            yield from _types(value)
    elif isinstance(part, list):
        for value in part:
            yield from _types(value)
