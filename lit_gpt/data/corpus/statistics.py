"""Statistics of a prepared text: token counts, document lengths, overlap of held-out text with the training text.

Everything is read once, a block at a time. Memory is held for one count a token of the vocabulary, and for the n-grams
and documents of the texts that are held out; the training text may be of any size.
"""

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from lit_gpt.data.corpus.corpus import Corpus

NGRAM = 13  # tokens; as GPT-3's authors took words to find test texts in the training text (arXiv:2005.14165, C)
_BLOCK = 1 << 20  # tokens read together
_DOCUMENTS = 1 << 12  # documents read together
_MULTIPLIER = 0x9E3779B97F4A7C15
_MOST_BITS = 28  # of the table that is asked first: 256 MB

Advance = Callable[[int], None]


@dataclass
class Overlap:
    """What of a held-out text is in the training text too; documents without their bos and eos.

    ngram: tokens in an n-gram, none of which crosses the border of a document. ngrams: how many there are, equal ones
    each. shared: how many of these occur in the training text. documents, shared_documents: the same of whole
    documents. repeated: documents that are in the held-out text before.
    """

    ngram: int
    ngrams: int = 0
    shared: int = 0
    documents: int = 0
    shared_documents: int = 0
    repeated: int = 0


@dataclass
class Statistics:
    """Statistics of one split.

    counts: (V,) int64, how often each id occurs. lengths: (L,) int64, lengths in tokens of documents that occur, in
    order. times: (L,) int64, how many documents have each. trained_on: tokens in the loss. overlap: with the training
    text, of a text that is held out.
    """

    documents: int
    bytes: int
    counts: np.ndarray
    lengths: np.ndarray
    times: np.ndarray
    trained_on: int
    overlap: Overlap | None = None

    @property
    def tokens(self) -> int:
        """All tokens, special ones included."""
        return int(self.counts.sum())

    @property
    def ranked(self) -> np.ndarray:
        """Counts of the ids that occur, the largest first. Shape (ids,)."""
        return np.sort(self.counts[self.counts > 0])[::-1]

    def length_at(self, share: float) -> int:
        """The length that this share of the documents does not exceed: 0.5 for the median."""
        at = np.searchsorted(np.cumsum(self.times), share * self.times.sum())
        return int(self.lengths[min(int(at), len(self.lengths) - 1)]) if len(self.lengths) else 0

    def ids_for(self, share: float) -> int:
        """How many of the most common ids make up this share of the tokens."""
        return int(np.searchsorted(np.cumsum(self.ranked), share * self.tokens)) + 1 if self.tokens else 0

    def length_histogram(self) -> list[tuple[int, int, int]]:
        """First length, last length and number of documents, in bins that double: 1, 2-3, 4-7, ..."""
        if not len(self.lengths):
            return []
        bins = np.floor(np.log2(np.maximum(self.lengths, 1))).astype(int)
        first = int(bins[0])
        sums = np.bincount(bins - first, self.times).astype(int)
        spans = ((1 << first + place, (2 << first + place) - 1) for place in range(len(sums)))
        return [(start, end, int(many)) for (start, end), many in zip(spans, sums, strict=True)]


def statistics(
    corpora: dict[str, Corpus],
    training: str = "train",
    ngram: int = NGRAM,
    framing: tuple[int | None, int | None] = (None, None),
    advance: Advance = lambda tokens: None,
) -> dict[str, Statistics]:
    """Statistics of each split; for all but the training text, their overlap with it.

    Args:
        corpora: By split.
        training: Which split the others are compared with.
        ngram: Tokens in an n-gram.
        framing: bos and eos of the tokenizer, which are not compared.
        advance: Is told of each block how many tokens have been read.
    """
    held_out = {split: _HeldOut(corpus, ngram, framing) for split, corpus in corpora.items() if split != training}
    found = {}
    for split, corpus in corpora.items():
        others = list(held_out.values()) if split == training else []
        found[split] = _read(corpus, others, ngram, framing, advance)
    for split, one in held_out.items():
        found[split].overlap = one.overlap()
    return found


def _read(
    corpus: Corpus, others: "list[_HeldOut]", ngram: int, framing: tuple[int | None, int | None], advance: Advance
) -> Statistics:
    counts, trained_on, lengths = np.zeros(corpus.vocab_size, np.int64), 0, Counter[int]()
    for start in range(0, len(corpus), _BLOCK):
        end = min(start + _BLOCK, len(corpus))
        counts += np.bincount(corpus.ids[start:end], minlength=corpus.vocab_size)
        trained_on += end - start if corpus.loss_mask is None else int(np.count_nonzero(corpus.loss_mask[start:end]))
        hashes = _ngrams(corpus, start, end, ngram) if others else None
        for one in others:
            assert hashes is not None
            one.grams.mark(hashes)
        advance(end - start)
    for first in range(0, corpus.documents, _BLOCK):
        distinct, times = np.unique(np.diff(corpus.offsets[first : first + _BLOCK + 1]), return_counts=True)
        lengths.update(dict(zip(distinct.tolist(), times.tolist(), strict=True)))
    if others:
        for key in _documents(corpus, framing):
            for one in others:
                if key in one.documents:
                    one.found.add(key)
    values = sorted(lengths)
    many = np.array([lengths[value] for value in values], np.int64)
    return Statistics(corpus.documents, corpus.bytes, counts, np.array(values, np.int64), many, trained_on)


class _HeldOut:
    """The n-grams and documents of a text that is held out, and which of them were met elsewhere."""

    def __init__(self, corpus: Corpus, ngram: int, framing: tuple[int | None, int | None]) -> None:
        blocks = range(0, len(corpus), _BLOCK)
        hashes = [_ngrams(corpus, start, min(start + _BLOCK, len(corpus)), ngram) for start in blocks]
        self.ngram = ngram
        self.grams = _Marked(np.concatenate(hashes) if hashes else np.empty(0, np.uint64))
        self.documents = Counter(_documents(corpus, framing))
        self.found: set[bytes] = set()

    def overlap(self) -> Overlap:
        """Counts of what was met."""
        many = sum(self.documents.values())
        shared = sum(self.documents[key] for key in self.found)
        repeated = many - len(self.documents)
        return Overlap(self.ngram, self.grams.many, self.grams.shared, many, shared, repeated)


@dataclass
class _Marked:
    """Hashes of which some are marked. 64 bits: that one of a million is met by chance in a billion others has a chance
    of 1 in 18,000."""

    hashes: np.ndarray
    many: int = field(init=False)

    def __post_init__(self) -> None:
        self.many = len(self.hashes)
        self.keys, self._times = np.unique(self.hashes, return_counts=True)
        self.hashes = np.empty(0, np.uint64)
        self._met = np.zeros(len(self.keys), bool)
        # One look into a table by the first bits spares most of the others the search, which is ten times slower.
        bits = min(max(int(16 * len(self.keys)).bit_length(), 1), _MOST_BITS)
        self._shift = np.uint64(64 - bits)
        self._table = np.zeros(1 << bits, bool)
        self._table[self.keys >> self._shift] = True

    def mark(self, hashes: np.ndarray) -> None:
        """Notes which of the own hashes are among others."""
        if not len(self.keys):
            return
        likely = hashes[self._table[hashes >> self._shift]]
        places = np.minimum(np.searchsorted(self.keys, likely), len(self.keys) - 1)
        self._met[places[self.keys[places] == likely]] = True

    @property
    def shared(self) -> int:
        """How many are marked, each as often as it is there."""
        return int(self._times[self._met].sum())


def _ngrams(corpus: Corpus, start: int, end: int, size: int) -> np.ndarray:
    """Hashes of the n-grams that begin in a block and lie within one document. Shape (n-grams,), uint64."""
    past = min(end + size - 1, len(corpus))
    ids = corpus.ids[start:past]
    if len(ids) < size:
        return np.empty(0, np.uint64)
    hashes = _windows(_scattered(ids), size)
    whole = np.ones(len(hashes), bool)
    ends = corpus.offsets[bisect_right(corpus.offsets, start) : bisect_right(corpus.offsets, past)] - start
    # An n-gram that begins less than its size ahead of a document's end runs into the next one.
    for before in range(1, size):
        places = ends - before
        whole[places[(places >= 0) & (places < len(whole))]] = False
    return hashes[whole]


def _scattered(ids: np.ndarray) -> np.ndarray:
    """A random number for each id, the same for the same (SplitMix64). Shape (T,), uint64."""
    numbers = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(_MULTIPLIER)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _windows(numbers: np.ndarray, size: int) -> np.ndarray:
    """For each window its numbers as digits of a number to a large base, modulo 2^64. Shape (T - size + 1,)."""
    made, length = np.zeros(len(numbers) + 1, np.uint64), 0  # of windows of this length
    for bit in bin(size)[2:]:  # twice as long, and one longer where the size has the bit
        if length:
            made = made[: len(made) - length] * _power(length) + made[length:]
            length *= 2
        if bit == "1":
            made = made[: len(numbers) - length] * _power(1) + numbers[length:]
            length += 1
    return made


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(_MULTIPLIER, exponent, 1 << 64))


def _documents(corpus: Corpus, framing: tuple[int | None, int | None]) -> Iterator[bytes]:
    """128 bits for each document that is not empty, of its ids without bos and eos."""
    bos, eos = framing
    for first in range(0, corpus.documents, _DOCUMENTS):
        offsets = corpus.offsets[first : first + _DOCUMENTS + 1].tolist()
        ids, base = corpus.ids[offsets[0] : offsets[-1]], offsets[0]
        for start, end in zip(offsets, offsets[1:], strict=False):
            begin, past = start - base, end - base
            if begin < past and ids[begin] == bos:
                begin += 1
            if begin < past and ids[past - 1] == eos:
                past -= 1
            if begin < past:
                yield hashlib.blake2b(ids[begin:past], digest_size=16).digest()
