"""Token ids and loss masks of texts that have special tokens in them, such as rendered conversations.

Segments between special tokens are not independent of each other: some tokenizers put a space ahead of a text's first
word, some special tokens take in the white space beside them. So a text is encoded as a whole, and the offsets of its
tokens decide the mask: a token is trained on if it has a character of a segment that is.
"""

import json
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_gpt.data.chunks import Segment
from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

Encoded = tuple[np.ndarray, np.ndarray]  # ids (N,) int64, loss mask (N,) bool

#: Around the number of a special token, in texts that also spell special tokens as ordinary text.
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
        # Offsets have to be those of the text itself.
        self._content["post_processor"] = self._content["truncation"] = self._content["padding"] = None
        self._special = special
        self._inner = self._load()
        self._with_stand_ins: Any = None  # made when a text first needs it
        self._stand_ins: dict[str, str] = {}

    def encode(self, rows: Sequence[list[Segment]]) -> list[Encoded]:
        """Ids and mask of each text, given by its segments.

        Raises:
            UserError: a text cannot be encoded so that its special tokens, and no others, are in it.
        """
        texts = ["".join(segment.text for segment in segments) for segments in rows]
        encodings = self._inner.encode_batch(texts, add_special_tokens=False)
        return [
            self._masked(segments, encoding, self._special) or self._encode_with_stand_ins(segments)
            for segments, encoding in zip(rows, encodings, strict=True)
        ]

    def _masked(self, segments: list[Segment], encoding: Any, special: dict[int, str]) -> Encoded | None:
        """Ids and mask; None where the special tokens found are not those of the segments."""
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

    def _encode_with_stand_ins(self, segments: list[Segment]) -> Encoded:
        """The same for a text that spells special tokens: private characters stand in for those of its segments."""
        if self._with_stand_ins is None:
            self._with_stand_ins = self._add_stand_ins()
        if any(_LEFT in segment.text for segment in segments):
            raise UserError(f"the text has U+{ord(_LEFT):X}, a private character that is needed here; remove it")
        stand_ins = {text: stand_in for stand_in, text in self._stand_ins.items()}
        segments = [
            segment._replace(text=stand_ins.get(segment.text, segment.text)) if segment.special else segment
            for segment in segments
        ]
        encoding = self._with_stand_ins.encode("".join(segment.text for segment in segments), add_special_tokens=False)
        names = {self._with_stand_ins.token_to_id(stand_in): stand_in for stand_in in self._stand_ins}
        encoded = self._masked(segments, encoding, names)
        if encoded is None:
            raise UserError(
                "the tokenizer does not find the special tokens of the chat template in its text; remove the record,"
                " or give another data.format.template"
            )
        ids, loss_mask = encoded
        special_ids = {text: id for id, text in self._special.items()}
        for id, stand_in in names.items():
            ids[ids == id] = special_ids[self._stand_ins[stand_in]]
        return ids, loss_mask

    def _add_stand_ins(self) -> Any:
        from tokenizers import AddedToken

        inner = self._load()
        inner.encode_special_tokens = True  # special tokens that a text spells stay text
        known = {token["content"]: token for token in self._content["added_tokens"]}
        for number, text in enumerate(self._special.values()):
            stand_in = f"{_LEFT}{number}{_RIGHT}"
            flags = {flag: bool(known.get(text, {}).get(flag, False)) for flag in _FLAGS}
            inner.add_tokens([AddedToken(stand_in, special=False, **flags)])
            self._stand_ins[stand_in] = text
        return inner

    def _load(self) -> Any:
        from tokenizers import Tokenizer as Inner

        return Inner.from_str(json.dumps(self._content))


def encode_between_special(tokenizer: "Tokenizer", rows: Sequence[list[Segment]]) -> list[Encoded]:
    """Ids and mask of each text with a tokenizer that finds no special tokens in text.

    What is between two special tokens is encoded at once; where the bytes of ids are not known, each segment by itself.
    """
    lengths = tokenizer.byte_lengths()
    sizes = None if lengths is None else np.array(lengths, np.int64)
    encoded = []
    for segments in rows:
        parts: list[Encoded] = [(np.empty(0, np.int64), np.empty(0, bool))]
        for special, group in groupby(segments, lambda segment: segment.special):
            if special:
                parts += [(np.array([tokenizer.special_id(s.text)], np.int64), np.array([s.trained])) for s in group]
            else:
                parts.append(_encode_group(tokenizer, sizes, list(group)))
        ids, masks = zip(*parts, strict=True)
        encoded.append((np.concatenate(ids), np.concatenate(masks)))
    return encoded


def _encode_group(tokenizer: "Tokenizer", sizes: np.ndarray | None, segments: list[Segment]) -> Encoded:
    if len(segments) > 1 and sizes is not None:
        [ids] = tokenizer.encode_arrays(["".join(segment.text for segment in segments)])
        lasts = np.cumsum(sizes[ids])
        firsts = lasts - sizes[ids]
        ends = np.cumsum([len(segment.text.encode("utf-8", "surrogatepass")) for segment in segments])
        if len(ids) and lasts[-1] == ends[-1]:
            loss_mask = np.zeros(len(ids), bool)
            for start, end, segment in zip([0, *ends], ends, segments, strict=False):
                if segment.trained:
                    loss_mask |= (firsts < end) & (lasts > start)
            return ids, loss_mask
    arrays = tokenizer.encode_arrays([segment.text for segment in segments])
    masks = [np.full(len(ids), segment.trained) for ids, segment in zip(arrays, segments, strict=True)]
    return np.concatenate(arrays), np.concatenate(masks)
