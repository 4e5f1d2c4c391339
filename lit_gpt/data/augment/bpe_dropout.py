"""BPE dropout: subword regularization with dropped merges; seeded, unlike the dropout of the tokenizers library."""

import math
import random
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.augment.augment import Augment, trained_lengths
from lit_gpt.data.sequences.datasets import IGNORED, Batch
from lit_gpt.data.tokenizers.byte_level import unicode_to_byte
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError

_SAMPLE = 0x5EED
_LONG = 200  # merges: time grows with their square
_KNOWN = 50_000  # words


class BPEDropout(Augment):
    """Subword regularization: each merge of the tokenizer is dropped with a probability, so that words come in pieces.

    Provilkov et al. 2020, "BPE-dropout" (arXiv:1910.13267). Decoded, a sequence is the same text; it gets longer, and
    tokens that no longer fit are dropped in this epoch, which is measured on some sequences at the start. Words do not
    change where a sequence's border or a change of the loss mask goes through them, where the tokenizer spells them by
    other rules than its merges, and past 200 merges. It works for all formats and comes before augmentations that
    change inputs alone; tokenizers are BPE, and Pretrained where that is byte-level BPE. It runs in Python: give
    data.num_workers.

    Args:
        rate: Probability of dropping a merge, each time that it could be made.
    """

    rewrites_targets = True

    def __init__(self, rate: float = 0.1) -> None:
        if not 0 <= rate < 1:
            raise UserError(f"rate {rate} of BPEDropout is not at least 0 and below 1; give a number such as 0.1")
        self.rate = rate
        self.tokens = self.dropped = 0  # in this process; dropped at the ends of sequences
        self._json = ""
        self._merges: Merges | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_merges": None}

    def open(self, tokenizer: Tokenizer) -> None:
        try:
            self._json = tokenizer.hub_files()["tokenizer.json"]
            self._merges = Merges.read(self._json)
        except (UserError, KeyError):
            self._merges = None
        if self._merges is None:
            name = type(tokenizer).__name__
            raise UserError(f"BPEDropout needs a tokenizer of byte-level BPE, not {name}; take data.tokenizer BPE")

    def apply(self, batch: Batch, keys: np.ndarray) -> Batch:
        if not self.rate:
            return batch
        if self._merges is None:
            self._merges = Merges.read(self._json)
        inputs, targets = batch.inputs.numpy(), batch.targets.numpy()
        segments = None if batch.segments is None else batch.segments.numpy()
        for row, (end, key) in enumerate(zip(trained_lengths(targets).tolist(), keys.tolist(), strict=True)):
            if end:
                row_segments = None if segments is None else segments[row]
                self._respell(inputs[row], targets[row], row_segments, end, random.Random(key))
        return batch

    def notes(self, sample: Batch) -> list[str]:
        copy = Batch(*(None if part is None else part.clone() for part in sample))  # type: ignore[arg-type]
        self.tokens = self.dropped = 0
        self.apply(copy, np.arange(len(copy.inputs), dtype=np.uint64) + np.uint64(_SAMPLE))
        share = self.dropped / max(self.tokens, 1)
        return [f"BPEDropout at rate {self.rate} drops about {share:.1%} of the tokens at the ends of sequences"]

    def _respell(
        self, inputs: np.ndarray, targets: np.ndarray, segments: np.ndarray | None, end: int, draws: random.Random
    ) -> None:
        """Changes one sequence in place, up to its last target at `end`."""
        width, at, number = len(inputs), 0, 0
        old = inputs[:end].copy(), targets[:end].copy()
        for start, stop in _runs(None if segments is None else segments[:end], end):
            ids, trained = _chain(old[0][start:stop], old[1][start:stop])
            ids, trained = map(np.array, self._spelled(ids, trained, draws))
            size = len(ids) - 1
            fits = min(size, width - at)
            inputs[at : at + fits] = ids[:fits]
            targets[at : at + fits] = np.where(trained[1:], ids[1:], IGNORED)[:fits]
            if segments is not None:
                segments[at : at + fits] = number
            self.tokens += size
            self.dropped += size - fits
            at, number = at + fits, number + 1
        inputs[at:], targets[at:] = 0, IGNORED
        if segments is not None:
            segments[at:] = number

    def _spelled(self, ids: np.ndarray, trained: np.ndarray, draws: random.Random) -> tuple[list[int], list[bool]]:
        """Ids of one segment spelled anew, and which of them are trained on."""
        assert self._merges is not None
        old, mask = ids.tolist(), trained.tolist()
        done = 1  # the first token is no target, so its word does not change
        spelled, spelled_mask = old[:1], mask[:1]
        for first, last, merges in zip(*self._merges.words(ids, 1), strict=True):
            # Merges that are made before the first one is dropped.
            before = int(math.log(1.0 - draws.random()) / math.log(1.0 - self.rate))
            if before >= merges or merges > _LONG or len(set(mask[first:last])) > 1:
                continue
            pieces = self._merges.split(tuple(old[first:last]), before, self.rate, draws)
            if pieces is None:
                continue
            spelled += old[done:first] + pieces
            spelled_mask += mask[done:first] + [mask[first]] * len(pieces)
            done = last
        return spelled + old[done:], spelled_mask + mask[done:]


class Merges(NamedTuple):
    """The merges of a byte-level BPE tokenizer."""

    rank: dict[tuple[int, int], tuple[int, int]]  # pair of ids -> number of the merge, and the merged id
    pieces: dict[int, bytes]  # of ids of text
    byte: list[int]  # id of each byte
    sizes: np.ndarray  # bytes of each id, 0 for those of no text, (V,)
    into_words: Any  # the library's pre-tokenizer
    known: dict[tuple[int, ...], list[list[int]] | None]  # cache of words: their ids after each merge

    @staticmethod
    def read(content: str) -> "Merges | None":
        """The merges of a tokenizer.json; None unless it is byte-level BPE."""
        from tokenizers import Tokenizer as Inner

        parsed = parse_json(content)
        model, splitting = parsed["model"], parsed["pre_tokenizer"] or {}
        steps = splitting.get("pretokenizers", [splitting])
        odd = any(model.get(key) for key in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"))
        odd = odd or any(step.get("add_prefix_space") for step in steps)
        if model.get("type") != "BPE" or odd or not any(step.get("type") == "ByteLevel" for step in steps):
            return None
        ids, byte_of = model["vocab"], unicode_to_byte()
        added = {token["id"] for token in parsed["added_tokens"]}
        pieces = {
            id: bytes(byte_of[character] for character in token)
            for token, id in ids.items()
            if id not in added and token and all(character in byte_of for character in token)
        }
        if not model["merges"] or any(character not in ids for character in byte_of):
            return None
        pairs = [pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"]]
        rank = {(ids[a], ids[b]): (number, ids[a + b]) for number, (a, b) in enumerate(pairs)}
        sizes = np.zeros(max([*ids.values(), *added]) + 1, np.int64)
        sizes[list(pieces)] = [len(piece) for piece in pieces.values()]
        alone = {value: ids[character] for character, value in byte_of.items()}
        return Merges(
            rank, pieces, [alone[value] for value in range(256)], sizes, Inner.from_str(content).pre_tokenizer, {}
        )

    def words(self, ids: np.ndarray, start: int) -> tuple[list[int], list[int], list[int]]:
        """Whole words among ids from `start` on: first index, index past the last, and number of merges.

        Without words that have no merges, or do not begin and end at a token.
        """
        sizes = self.sizes[ids]
        ordinary = np.flatnonzero(sizes[start:]) + start
        words: list[np.ndarray] = [np.empty((3, 0), np.int64)]
        for run in np.split(ordinary, np.flatnonzero(np.diff(ordinary) > 1) + 1) if len(ordinary) else []:
            text, skipped = self._text(ids[run].tolist())
            lengths = [len(word) for word, _ in self.into_words.pre_tokenize_str(text)] if text else []
            if sum(lengths) != len(text.encode()):  # the pre-tokenizer changed the text
                continue
            borders = skipped + np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
            tokens = np.concatenate(([0], np.cumsum(sizes[run])))
            places = np.searchsorted(tokens, borders)
            fits = tokens[np.minimum(places, len(tokens) - 1)] == borders
            first, last = run[0] + places[:-1], run[0] + places[1:]
            merges = np.diff(borders) - (last - first)  # each makes one token of two
            words.append(np.stack((first, last, merges))[:, fits[:-1] & fits[1:] & (merges > 0)])
        first, last, merges = np.concatenate(words, 1).tolist()
        return first, last, merges

    def _text(self, ids: list[int]) -> tuple[str, int]:
        """The whole characters of ids, and the number of bytes ahead of them; "" unless the middle is UTF-8."""
        data, skipped = b"".join(self.pieces[id] for id in ids), 0
        while skipped < min(len(data), 3) and data[skipped] & 0xC0 == 0x80:
            skipped += 1
        try:
            return data[skipped:].decode(), skipped
        except UnicodeDecodeError as error:
            cut_off = len(data) - skipped - error.start <= 3
            return (data[skipped : skipped + error.start].decode() if cut_off else ""), skipped

    def split(self, word: tuple[int, ...], before: int, rate: float, draws: random.Random) -> list[int] | None:
        """A word with merges dropped at random; None unless these merges spell it.

        Args:
            word: Its ids.
            before: Merges that are made before the first one is dropped.
            rate: Probability of dropping one from then on.
            draws: The random generator.
        """
        if word not in self.known:
            if len(self.known) > _KNOWN:
                self.known.clear()
            usual = self.usual([self.byte[value] for id in word for value in self.pieces[id]])
            # Another result: a border goes through the word, or it is spelled by other rules.
            self.known[word] = usual if tuple(usual[-1]) == word else None
        states = self.known[word]
        if states is None:
            return None
        ids = list(states[before])
        possible = self._possible(ids)
        possible.remove(min(possible))
        while True:
            while possible and draws.random() < rate:
                possible.remove(min(possible))
            if not possible:
                return ids
            self._merge(ids, min(possible))
            possible = self._possible(ids)

    def usual(self, ids: list[int]) -> list[list[int]]:
        """The ids of a word after each merge, from its bytes on, where none is dropped."""
        states = [ids]
        while possible := self._possible(states[-1]):
            states.append(list(states[-1]))
            self._merge(states[-1], min(possible))
        return states

    def _possible(self, ids: list[int]) -> list[tuple[tuple[int, int], int]]:
        """Possible merges, the smallest first to be made: (number, merged id), index."""
        return [(self.rank[pair], at) for at, pair in enumerate(pairwise(ids)) if pair in self.rank]

    def _merge(self, ids: list[int], chosen: tuple[tuple[int, int], int]) -> None:
        (_, merged), at = chosen
        ids[at : at + 2] = [merged]


def _runs(segments: np.ndarray | None, end: int) -> list[tuple[int, int]]:
    """First and past-the-last index of each segment."""
    if segments is None:
        return [(0, end)]
    edges = [0, *(np.flatnonzero(np.diff(segments)) + 1).tolist(), end]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _chain(inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of a segment, the last target included where there is one, and which of them are trained on."""
    trained = targets != IGNORED
    if trained[-1]:
        return np.append(inputs, targets[-1]), np.concatenate(([True], trained))
    return inputs, np.concatenate(([True], trained[:-1]))
