"""Tokens added to a tokenizer of the tokenizers library, and the bytes that its tokens stand for."""

import json
import re
from collections.abc import Iterable
from typing import Any

from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.tokenizers.byte_level import unicode_to_byte
from lit_gpt.errors import UserError

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def add_tokens_in_text(inner: Any, texts: Iterable[str], special: Iterable[str] = ()) -> Any:
    """The same tokenizer in which each text is one token wherever it occurs, a special token's text included.

    New ids follow the highest one, in order; text that spells any other special token stays text.

    Args:
        inner: The library's tokenizer.
        texts: The tokens.
        special: Those of them that are special tokens, which no text contains.

    Raises:
        UserError: a text is empty, or its id is taken.
    """
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Inner

    texts, special = list(texts), set(special)
    if not all(texts):
        raise UserError("data.add_tokens holds an empty text; remove it")
    known_special = {token.content for token in inner.get_added_tokens_decoder().values() if token.special}
    if known_special & set(texts) - special:
        content = json.loads(inner.to_str())
        for token in content["added_tokens"]:
            token["special"] = token["special"] and token["content"] not in texts
        inner = Inner.from_str(json.dumps(content))
    for text in texts:
        taken = set(inner.get_vocab().values()) if inner.token_to_id(text) is None else set()
        inner.add_tokens([AddedToken(text, special=text in special, normalized=False)])
        if inner.token_to_id(text) in taken:
            raise UserError(
                f"data.add_tokens: {text!r} gets the id of another token, as the tokenizer's ids have gaps; remove it"
            )
    refuse_ordinary_words(inner, special)
    return inner


def refuse_ordinary_words(inner: Any, special: Iterable[str]) -> None:
    """Makes text that spells a special token stay text, so that what users write cannot steer the model.

    Raises:
        UserError: a special token's text is also a word of the vocabulary.
    """
    inner.encode_special_tokens = True
    for text in special:
        if inner.token_to_id(text) in inner.encode(text, add_special_tokens=False).ids:
            raise UserError(
                f"special token {text!r} is an ordinary word of the tokenizer's text, which would get its id;"
                f" give it a name that no text spells, such as '<|{text.strip('<|>')}|>'"
            )


def with_added(vocab_state: dict[str, Any], texts: Iterable[str], special: bool = False) -> dict[str, Any]:
    """The state with further tokens: `added` has all in order, `special` those that text cannot spell."""
    added, hidden = vocab_state.get("added", []), vocab_state.get("special", [])
    hidden = [*hidden, *texts] if special else [text for text in hidden if text not in texts]
    kept = {key: value for key, value in vocab_state.items() if key != "special"}
    return {**kept, "added": list(dict.fromkeys([*added, *texts])), **({"special": hidden} if hidden else {})}


def pipeline_of(inner: Any) -> dict[str, Any]:
    """tokenizer.json without the vocabulary, which can be many megabytes."""
    content: dict[str, Any] = parse_json(inner.to_str())
    content["model"] = {key: value for key, value in content["model"].items() if key not in ("vocab", "merges")}
    return content


def steps_of(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or decoder of tokenizer.json, whose sequences have sequences in them."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    inside = next(part[key] for key in ("normalizers", "pretokenizers", "decoders") if key in part)
    return [step for one in inside for step in steps_of(one)]


def vocabulary_bytes(inner: Any) -> list[bytes]:
    """The bytes of each id, specials included; empty for ids that no token has."""
    decoders = {step["type"] for step in steps_of(pipeline_of(inner)["decoder"])}
    vocabulary = inner.get_vocab(with_added_tokens=True)
    token_bytes = [b""] * (max(vocabulary.values(), default=-1) + 1)
    byte_of = unicode_to_byte()
    for token, id in vocabulary.items():
        token_bytes[id] = _bytes(token, decoders, byte_of)
    for id, token in inner.get_added_tokens_decoder().items():
        token_bytes[id] = token.content.encode()
    return token_bytes


def decodes_bytes_alone(pipeline: dict[str, Any]) -> bool:
    """Whether decoding is joining the bytes of the ids."""
    return pipeline["decoder"] is not None and pipeline["decoder"]["type"] == "ByteLevel"


def is_lossless(inner: Any, pipeline: dict[str, Any]) -> bool:
    """Whether decoding gives any text back, as can be said of byte-level tokenizers that do not normalize."""
    steps = steps_of(pipeline["pre_tokenizer"])
    byte_level = [step for step in steps if step["type"] == "ByteLevel"]
    splits = [step for step in steps if step["type"] in ("Split", "Digits", "Punctuation")]
    return (
        pipeline["model"]["type"] == "BPE"
        and pipeline["normalizer"] is None
        and len(byte_level) == 1
        and len(byte_level) + len(splits) == len(steps)
        and not byte_level[0]["add_prefix_space"]
        and all(step.get("behavior") != "Removed" for step in splits)
        and decodes_bytes_alone(pipeline)
        and all(inner.token_to_id(character) is not None for character in unicode_to_byte())
        and not any(token["lstrip"] or token["rstrip"] for token in pipeline["added_tokens"] if not token["special"])
    )


def _bytes(token: str, decoders: set[str], byte_of: dict[str, int]) -> bytes:
    if "ByteLevel" in decoders:
        if all(character in byte_of for character in token):
            return bytes(byte_of[character] for character in token)
        return token.encode()
    if "ByteFallback" in decoders and (byte := _BYTE.fullmatch(token)):
        return bytes([int(byte[1], 16)])
    return (token.replace("▁", " ") if decoders & {"Metaspace", "Replace"} else token).encode()
