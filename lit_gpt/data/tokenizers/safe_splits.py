"""Split points of long texts: where a text can be split so that its parts are encoded exactly as in the whole.

A text of one word to the tokenizers library, as SentencePiece-like models have it, costs some 200 bytes of memory a
character; parts are encoded in parallel and cost little. Where nothing is proven, a text stays whole.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from lit_gpt.data.tokenizers.patterns import BEFORE_A_SPACE_OR_MARK, PATTERNS

_PART = 1 << 14  # characters; small enough to spread one text over all cores
_LONG = 1 << 11  # characters without a change between letters, spaces and marks that make a word too long
_RUN = re.compile(rf"\w{{{_LONG}}}|\s{{{_LONG}}}|[^\w\s]{{{_LONG}}}")
_REGEXES = {words.regex for words in PATTERNS.values()}
# ▁ is what a space becomes, so that two of them may be one token.
_BEFORE_A_SPACE = re.compile(r"(?<=[^\s▁])(?= )")


def is_long(text: str) -> bool:
    """Whether `split_text` would split a text."""
    return len(text) > _PART


def split_text(text: str, split_points: re.Pattern[str]) -> Iterator[str]:
    """Parts of a text; at least one, empty for an empty text.

    Args:
        text: Any.
        split_points: As of `Tokenizer.split_points`.
    """
    start = 0
    while len(text) - start > _PART:
        match = split_points.search(text, start + _PART)
        if match is None:
            break
        yield text[start : match.start()]
        start = match.start()
    yield text[start:]


def split_long_words(text: str) -> Iterator[str]:
    """Parts of a text to train on, in which no word has thousands of characters.

    The library joins pairs in a time that grows with the square of a word's length: a word of 80,000 letters took 9 s,
    one of 4 million would take hours.
    """
    start = 0
    for at in range(_LONG, len(text), _LONG):
        if _RUN.match(text, at):
            yield text[start:at]
            start = at
    yield text[start:]


def continuation_tokenizer(inner: Any) -> Any:
    """The tokenizer for all parts but the first: the same, or one that puts nothing ahead of a text.

    None where a text must not be split. Where it may be, `split_points_of` tells.
    """
    from tokenizers import Tokenizer as Inner

    content = json.loads(inner.to_str())
    normalizer, splitting = (
        _flat(content["normalizer"], "normalizers"),
        _flat(content["pre_tokenizer"], "pretokenizers"),
    )
    in_text = [token for token in content["added_tokens"] if not token["special"]]
    awkward = any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in in_text)
    model = content["model"]
    awkward |= any(model.get(name) for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
    split_points = _split_points(normalizer, splitting)
    if model["type"] != "BPE" or awkward or any(split_points.search(token["content"], 1) for token in in_text):
        return None
    if _on_bytes(normalizer, splitting):
        return inner
    if not _on_spaces(normalizer, splitting) or any(re.search("[^▁]▁", token) for token in model["vocab"]):
        return None
    ahead = [part for part in normalizer if part["type"] == "Prepend"] + [
        part for part in splitting if part["type"] == "Metaspace" and part["prepend_scheme"] != "never"
    ]
    if not ahead:
        return inner
    if in_text:  # what follows such a token gets its own space, in one way or another
        return None
    content["normalizer"] = {"type": "Sequence", "normalizers": [p for p in normalizer if p["type"] != "Prepend"]}
    for part in splitting:
        if part["type"] == "Metaspace":
            part["prepend_scheme"] = "never"
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": splitting} if splitting else None
    later = Inner.from_str(json.dumps(content))
    later.no_truncation()
    later.no_padding()
    later.encode_special_tokens = True
    return later


def split_points_of(inner: Any) -> re.Pattern[str]:
    """Where a text can be split, if it can be at all."""
    content = json.loads(inner.to_str())
    return _split_points(_flat(content["normalizer"], "normalizers"), _flat(content["pre_tokenizer"], "pretokenizers"))


def _split_points(normalizer: list[dict[str, Any]], splitting: list[dict[str, Any]]) -> re.Pattern[str]:
    return BEFORE_A_SPACE_OR_MARK if _on_bytes(normalizer, splitting) else _BEFORE_A_SPACE


def _on_bytes(normalizer: list[dict[str, Any]], splitting: list[dict[str, Any]]) -> bool:
    if any(part["type"] != "NFC" for part in normalizer) or not splitting:
        return False
    *words, last = splitting
    if last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return False
    split = [
        part["pattern"].get("Regex") for part in words if part["type"] == "Split" and part["behavior"] == "Isolated"
    ]
    known = all(pattern in _REGEXES for pattern in split) and not any(part.get("invert") for part in words)
    others = [part for part in words if part["type"] not in ("Split", "Digits")]
    return (
        known
        and not others
        and len(split) == sum(part["type"] == "Split" for part in words)
        and (bool(split) or bool(last["use_regex"]))
    )


def _on_spaces(normalizer: list[dict[str, Any]], splitting: list[dict[str, Any]]) -> bool:
    """Whether spaces become ▁, and nothing else happens to a text."""
    replaces = [part for part in normalizer if part == {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    marks = [part for part in splitting if part["type"] == "Metaspace" and part["replacement"] == "▁"]
    at_spaces = [part for part in splitting if part["type"] == "Split" and part["pattern"] == {"String": " "}]
    prepends = [part for part in normalizer if part == {"type": "Prepend", "prepend": "▁"}]
    return (
        len(replaces) + len(marks) == 1
        and len(replaces) + len(prepends) == len(normalizer)
        and len(marks) + len(at_spaces) == len(splitting)
        and (not at_spaces or bool(replaces))
        and (not prepends or normalizer[0] in prepends)
    )


def _flat(part: Any, inside: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    return list(part[inside]) if part["type"] == "Sequence" else [part]
