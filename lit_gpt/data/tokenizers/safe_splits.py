"""Split points of long texts: where a text can be split so that its parts are encoded exactly as in the whole.

A text of one word to the tokenizers library, as SentencePiece-like models have it, costs some 200 bytes of memory a
character; parts are encoded in parallel and cost little. Where nothing is proven, a text stays whole.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from lit_gpt.data.tokenizers.added_tokens import steps_of
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


def split_for_training(texts: Iterable[str], split_points: re.Pattern[str]) -> Iterator[str]:
    """Parts of texts to train on, in which no word has thousands of characters.

    The library joins pairs in a time that grows with the square of a word's length: a word of 80,000 letters took 9 s,
    one of 4 million would take hours.
    """
    for text in texts:
        for part in split_text(text, split_points):
            start = 0
            for at in range(_LONG, len(part), _LONG):
                if _RUN.match(part, at):
                    yield part[start:at]
                    start = at
            yield part[start:]


def find_splits(inner: Any) -> tuple[Any, re.Pattern[str] | None]:
    """The tokenizer for all parts of a text but the first, and where texts can be split; (None, None) for nowhere.

    That tokenizer is the same, or one that puts nothing ahead of a text.
    """
    from tokenizers import Tokenizer as Inner

    content = json.loads(inner.to_str())
    normalizer, splitting, model = steps_of(content["normalizer"]), steps_of(content["pre_tokenizer"]), content["model"]
    on_bytes = _on_bytes(normalizer, splitting)
    split_points = BEFORE_A_SPACE_OR_MARK if on_bytes else _BEFORE_A_SPACE
    in_text = [token for token in content["added_tokens"] if not token["special"]]
    if (
        model["type"] != "BPE"
        or any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in in_text)
        or any(model.get(name) for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
        or any(split_points.search(token["content"], 1) for token in in_text)
    ):
        return None, None
    if on_bytes:
        return inner, split_points
    if not _on_spaces(normalizer, splitting) or any(re.search("[^▁]▁", token) for token in model["vocab"]):
        return None, None
    prepends = [step for step in normalizer if step["type"] == "Prepend"]
    metaspaces = [step for step in splitting if step["type"] == "Metaspace" and step["prepend_scheme"] != "never"]
    if not prepends and not metaspaces:
        return inner, split_points
    if in_text:  # what follows such a token gets its own space, in one way or another
        return None, None
    rest = [step for step in normalizer if step["type"] != "Prepend"]
    for step in metaspaces:
        step["prepend_scheme"] = "never"
    content["normalizer"] = {"type": "Sequence", "normalizers": rest}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": splitting} if splitting else None
    content["truncation"] = content["padding"] = None
    continuation = Inner.from_str(json.dumps(content))
    continuation.encode_special_tokens = True
    return continuation, split_points


def _on_bytes(normalizer: list[dict[str, Any]], splitting: list[dict[str, Any]]) -> bool:
    """Whether a known pattern splits words, at which byte-level BPE is done."""
    if any(step["type"] != "NFC" for step in normalizer) or not splitting:
        return False
    *words, last = splitting
    if last["type"] != "ByteLevel" or last["add_prefix_space"] or any(step.get("invert") for step in words):
        return False
    splits = [step for step in words if step["type"] == "Split"]
    return (
        all(step["type"] in ("Split", "Digits") for step in words)
        and all(step["behavior"] == "Isolated" and step["pattern"].get("Regex") in _REGEXES for step in splits)
        and (bool(splits) or bool(last["use_regex"]))
    )


def _on_spaces(normalizer: list[dict[str, Any]], splitting: list[dict[str, Any]]) -> bool:
    """Whether spaces become ▁, and nothing else happens to a text."""
    replaces = [step for step in normalizer if step == {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    marks = [step for step in splitting if step["type"] == "Metaspace" and step["replacement"] == "▁"]
    at_spaces = [step for step in splitting if step["type"] == "Split" and step["pattern"] == {"String": " "}]
    prepends = [step for step in normalizer if step == {"type": "Prepend", "prepend": "▁"}]
    return (
        len(replaces) + len(marks) == 1
        and len(replaces) + len(prepends) == len(normalizer)
        and len(marks) + len(at_spaces) == len(splitting)
        and (not at_spaces or bool(replaces))
        and (not prepends or normalizer[0] in prepends)
    )
