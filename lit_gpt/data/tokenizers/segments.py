"""Ids and loss mask of a text in which special tokens stand, encoded at once: rendered conversations.

Stretches between special tokens are not independent of each other: some tokenizers put a space ahead of a text's first
word, some special tokens take in the white space beside them. So a text is encoded as a whole, and the offsets of its
tokens say which of them are trained on: those that hold a character of a segment that is.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_gpt.data.chunks import Segment
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

    def encode(self, rows: Sequence[list[Segment]]) -> list[Encoded]:
        """Ids and mask of each text.

        Args:
            rows: The segments of each text, special tokens by their names.

        Raises:
            UserError: A text cannot be encoded so that its special tokens, and no others, are in it.
        """
        texts = ["".join(segment.text for segment in segments) for segments in rows]
        made = []
        for segments, encoding in zip(rows, self._open.encode_batch(texts, add_special_tokens=False), strict=True):
            one = self._masked(segments, encoding, self._special)
            made.append(one if one is not None else self._spelled(segments))
        return made

    def _masked(self, segments: list[Segment], encoding: Any, special: dict[int, str]) -> Encoded | None:
        """The ids with their mask; None where special tokens are not just where the segments have them."""
        ids = np.array(encoding.ids, np.int64)
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        ends = np.cumsum([len(segment.text) for segment in segments], dtype=np.int64)
        places = [(end - len(segment.text), end, segment) for end, segment in zip(ends.tolist(), segments, strict=True)]
        wanted = [place for place in places if place[2].special]
        found = np.flatnonzero(np.isin(ids, [*special])) if special else np.empty(0, np.int64)
        if len(found) != len(wanted):
            return None
        loss_mask = np.zeros(len(ids), bool)
        for start, end, segment in places:
            if segment.trained and not segment.special:
                first, last = offsets[:, 0], offsets[:, 1]
                loss_mask |= (first < end) & (last > start) | (first == last) & (first >= start) & (first < end)
        for at, (start, end, segment) in zip(found.tolist(), wanted, strict=True):
            if special[int(ids[at])] != segment.text or not (offsets[at, 0] <= start and end <= offsets[at, 1]):
                return None
            loss_mask[at] = segment.trained  # it may have taken in white space of its neighbors
        return ids, loss_mask

    def _spelled(self, segments: list[Segment]) -> Encoded:
        """The same for a text that spells special tokens: its own ones give way to texts that nobody writes."""
        if self._shut is None:
            self._shut = self._with_stand_ins()
        if any(_LEFT in segment.text for segment in segments):
            raise UserError(f"the text holds U+{ord(_LEFT):X}, a private character that is needed here; leave it out")
        names = {text: name for name, text in self._stand_ins.items()}
        rewritten = [
            segment._replace(text=names.get(segment.text, segment.text)) if segment.special else segment
            for segment in segments
        ]
        text = "".join(segment.text for segment in rewritten)
        encoding = self._shut.encode(text, add_special_tokens=False)
        ids_of = {self._shut.token_to_id(name): name for name in self._stand_ins}
        made = self._masked(rewritten, encoding, ids_of)
        if made is None:
            raise UserError(
                "the tokenizer does not find the special tokens of the chat template in its text; leave the record"
                " out, or give another data.format.template"
            )
        ids, loss_mask = made
        own = {name: id for id, name in self._special.items()}
        for id, name in ids_of.items():
            ids[ids == id] = own[self._stand_ins[name]]
        return ids, loss_mask

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


def encode_between_special(tokenizer: "Tokenizer", rows: Sequence[list[Segment]]) -> list[Encoded]:
    """Ids and mask of each text with a tokenizer in whose text no special token is ever found.

    What lies between two special tokens is encoded at once. Where its bytes cannot be told from its ids, each
    segment is encoded by itself.

    Args:
        tokenizer: Any.
        rows: The segments of each text.
    """
    lengths = tokenizer.byte_lengths()
    sizes = None if lengths is None else np.array(lengths, np.int64)
    return [_by_stretches(tokenizer, sizes, segments) for segments in rows]


def _by_stretches(tokenizer: "Tokenizer", sizes: np.ndarray | None, segments: list[Segment]) -> Encoded:
    ids: list[np.ndarray] = [np.empty(0, np.int64)]
    loss_mask: list[np.ndarray] = [np.empty(0, bool)]
    at = 0
    while at < len(segments):
        if segments[at].special:
            ids.append(np.array([tokenizer.special_id(segments[at].text)], np.int64))
            loss_mask.append(np.array([segments[at].trained]))
            at += 1
            continue
        stretch = []
        while at < len(segments) and not segments[at].special:
            stretch.append(segments[at])
            at += 1
        one, mask = _stretch(tokenizer, sizes, stretch)
        ids.append(one)
        loss_mask.append(mask)
    return np.concatenate(ids), np.concatenate(loss_mask)


def _stretch(tokenizer: "Tokenizer", sizes: np.ndarray | None, segments: list[Segment]) -> Encoded:
    if len(segments) > 1 and sizes is not None:
        [ids] = tokenizer.encode_arrays(["".join(segment.text for segment in segments)])
        lasts = np.cumsum(sizes[ids])
        firsts = lasts - sizes[ids]
        ends = np.cumsum([len(segment.text.encode("utf-8", "surrogatepass")) for segment in segments])
        if len(ids) and lasts[-1] == ends[-1]:
            loss_mask = np.zeros(len(ids), bool)
            for number, segment in enumerate(segments):
                if segment.trained:
                    loss_mask |= (firsts < ends[number]) & (lasts > (ends[number - 1] if number else 0))
            return ids, loss_mask
    arrays = tokenizer.encode_arrays([segment.text for segment in segments])
    masks = [np.full(len(ids), segment.trained) for ids, segment in zip(arrays, segments, strict=True)]
    return np.concatenate(arrays), np.concatenate(masks)
