"""Ids and loss mask of a text in which special tokens stand, encoded at once: rendered conversations.

Stretches between special tokens are not independent of each other: some tokenizers put a space ahead of a text's first
word, some special tokens take in the white space beside them. So a text is encoded as a whole, and the offsets of its
tokens say which of them are trained on: those that hold a character of a span that is.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_gpt.data.chunks import Span
from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

Encoded = tuple[np.ndarray, np.ndarray]  # ids (N,) int64, whether each is trained on (N,) bool

#: Around the number of a special token, for texts that spell special tokens which are none.
_LEFT, _RIGHT = "\U000f0a1c", "\U000f0a1d"
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


class SegmentEncoder:
    """Encodes with a tokenizer of the tokenizers library.

    Args:
        inner: That tokenizer.
        special: Names of special tokens by id.
    """

    def __init__(self, inner: Any, special: dict[int, str]) -> None:
        self._content = json.loads(inner.to_str())
        # Offsets are wanted as they are; nothing is put around a text.
        self._content["post_processor"] = self._content["truncation"] = self._content["padding"] = None
        self._special = special
        self._open = self._made(self._content)
        self._shut: Any = None  # made when a text first needs it
        self._stand_ins: dict[str, str] = {}

    def encode(self, rows: Sequence[list[Span]]) -> list[Encoded]:
        """Ids and mask of each text.

        Args:
            rows: The spans of each text, special tokens by their names.

        Raises:
            UserError: A text cannot be encoded so that its special tokens, and no others, are in it.
        """
        texts = ["".join(span.text for span in spans) for spans in rows]
        made = []
        for spans, encoding in zip(rows, self._open.encode_batch(texts, add_special_tokens=False), strict=True):
            one = self._masked(spans, encoding, self._special)
            made.append(one if one is not None else self._spelled(spans))
        return made

    def _masked(self, spans: list[Span], encoding: Any, special: dict[int, str]) -> Encoded | None:
        """The ids with their mask; None where special tokens are not just where the spans have them."""
        ids = np.array(encoding.ids, np.int64)
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        ends = np.cumsum([len(span.text) for span in spans], dtype=np.int64)
        places = [(end - len(span.text), end, span) for end, span in zip(ends.tolist(), spans, strict=True)]
        wanted = [place for place in places if place[2].special]
        found = np.flatnonzero(np.isin(ids, [*special])) if special else np.empty(0, np.int64)
        if len(found) != len(wanted):
            return None
        scored = np.zeros(len(ids), bool)
        for start, end, span in places:
            if span.scored and not span.special:
                first, last = offsets[:, 0], offsets[:, 1]
                scored |= (first < end) & (last > start) | (first == last) & (first >= start) & (first < end)
        for at, (start, end, span) in zip(found.tolist(), wanted, strict=True):
            if special[int(ids[at])] != span.text or not (offsets[at, 0] <= start and end <= offsets[at, 1]):
                return None
            scored[at] = span.scored  # it may have taken in white space of its neighbors
        return ids, scored

    def _spelled(self, spans: list[Span]) -> Encoded:
        """The same for a text that spells special tokens: its own ones give way to texts that nobody writes."""
        if self._shut is None:
            self._shut = self._with_stand_ins()
        if any(_LEFT in span.text for span in spans):
            raise UserError(f"the text holds U+{ord(_LEFT):X}, a private character that is needed here; leave it out")
        names = {text: name for name, text in self._stand_ins.items()}
        rewritten = [span._replace(text=names.get(span.text, span.text)) if span.special else span for span in spans]
        text = "".join(span.text for span in rewritten)
        encoding = self._shut.encode(text, add_special_tokens=False)
        ids_of = {self._shut.token_to_id(name): name for name in self._stand_ins}
        made = self._masked(rewritten, encoding, ids_of)
        if made is None:
            raise UserError(
                "the tokenizer does not find the special tokens of the chat template in its text; leave the record"
                " out, or give another data.format.template"
            )
        ids, scored = made
        own = {name: id for id, name in self._special.items()}
        for id, name in ids_of.items():
            ids[ids == id] = own[self._stand_ins[name]]
        return ids, scored

    def _with_stand_ins(self) -> Any:
        from tokenizers import AddedToken

        inner = self._made(self._content)
        inner.encode_special_tokens = True  # what a text spells stays text
        known = {token["content"]: token for token in self._content["added_tokens"]}
        for number, name in enumerate(self._special.values()):
            stand_in = f"{_LEFT}{number}{_RIGHT}"
            flags = {flag: bool(known.get(name, {}).get(flag, False)) for flag in _FLAGS}
            inner.add_tokens([AddedToken(stand_in, special=False, **flags)])
            self._stand_ins[stand_in] = name
        return inner

    @staticmethod
    def _made(content: dict[str, Any]) -> Any:
        from tokenizers import Tokenizer as Inner

        return Inner.from_str(json.dumps(content))


def encode_between_special(tokenizer: "Tokenizer", rows: Sequence[list[Span]]) -> list[Encoded]:
    """Ids and mask of each text with a tokenizer in whose text no special token is ever found.

    What lies between two special tokens is encoded at once. Where its bytes cannot be told from its ids, each span is
    encoded by itself.

    Args:
        tokenizer: Any.
        rows: The spans of each text.
    """
    lengths = tokenizer.byte_lengths()
    sizes = None if lengths is None else np.array(lengths, np.int64)
    return [_by_stretches(tokenizer, sizes, spans) for spans in rows]


def _by_stretches(tokenizer: "Tokenizer", sizes: np.ndarray | None, spans: list[Span]) -> Encoded:
    ids: list[np.ndarray] = [np.empty(0, np.int64)]
    scored: list[np.ndarray] = [np.empty(0, bool)]
    at = 0
    while at < len(spans):
        if spans[at].special:
            ids.append(np.array([tokenizer.special_id(spans[at].text)], np.int64))
            scored.append(np.array([spans[at].scored]))
            at += 1
            continue
        stretch = []
        while at < len(spans) and not spans[at].special:
            stretch.append(spans[at])
            at += 1
        one, mask = _stretch(tokenizer, sizes, stretch)
        ids.append(one)
        scored.append(mask)
    return np.concatenate(ids), np.concatenate(scored)


def _stretch(tokenizer: "Tokenizer", sizes: np.ndarray | None, spans: list[Span]) -> Encoded:
    if len(spans) > 1 and sizes is not None:
        [ids] = tokenizer.encode_arrays(["".join(span.text for span in spans)])
        lasts = np.cumsum(sizes[ids])
        firsts = lasts - sizes[ids]
        ends = np.cumsum([len(span.text.encode("utf-8", "surrogatepass")) for span in spans])
        if len(ids) and lasts[-1] == ends[-1]:
            scored = np.zeros(len(ids), bool)
            for number, span in enumerate(spans):
                if span.scored:
                    scored |= (firsts < ends[number]) & (lasts > (ends[number - 1] if number else 0))
            return ids, scored
    arrays = tokenizer.encode_arrays([span.text for span in spans])
    masks = [np.full(len(ids), span.scored) for ids, span in zip(arrays, spans, strict=True)]
    return np.concatenate(arrays), np.concatenate(masks)
