"""Deduplication, exact or near (MinHash, LSH); the first of each is kept. Memory grows with the documents."""

import hashlib
import re
from array import array
from typing import Any

import numpy as np

from lit_gpt.data.chunks import Content, bytes_of
from lit_gpt.data.filters.filter import Filter
from lit_gpt.errors import UserError

# Of scripts that put no spaces between words each character is a word: Thai to Khmer, kana, Han.
_ALONE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(r"\w+")
_WORD_OR_ALONE = re.compile(f"[{_ALONE}]|[^\\W{_ALONE}]+")  # ten times slower
_IS_ALONE = re.compile(f"[{_ALONE}]")
_SURE = 0.9  # the least share of pairs right at the threshold that are to be compared at all


class ExactDuplicates(Filter):
    """Drops exact duplicates of earlier documents.

    Two records are equal where all their fields are: the same text with another label stays. Documents are told apart
    by 128 bits of BLAKE2b: among a billion, that two different ones are taken for equal has a chance of 1 in 10^21.
    Memory grows by some 105 bytes a document that stays (measured with 1,000,000).
    """

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    @property
    def reason(self) -> str:
        """For the report."""
        return "exact duplicates"

    def start(self) -> None:
        """Forgets all texts."""
        self._seen = set()

    def keeps(self, text: str) -> bool:
        """Whether it is the first with this text."""
        return self.keeps_document(text, text)

    def keeps_document(self, content: Content, text: str) -> bool:
        """Whether it is the first of its kind, fields that hold no text included."""
        key = hashlib.blake2b(bytes_of(content), digest_size=16).digest()
        known = key in self._seen
        self._seen.add(key)
        return not known


class NearDuplicates(Filter):
    """Drops near duplicates: documents that share most of their short stretches with an earlier one.

    Two documents are as similar as the stretches of `shingle` words that they share are many among all that either has
    (Jaccard's index); of a record its strings count, no numbers. Words are taken without case and punctuation, and in
    scripts without spaces, such as Chinese, each character is one. The index is estimated by MinHash (Broder 1997),
    pairs to compare are found by bands of equal hashes (LSH), so both may miss: a pair with index s is compared with a
    chance of 1 - (1 - s^r)^b for b bands of r hashes, chosen so that it is at least 0.9 at the threshold, and the
    estimate has a standard error of sqrt(s (1 - s) / permutations), so that of pairs right at the threshold about half
    are found. At the defaults, 16 bands of 8, of pairs with an index of 0.7 some 1 in 100 are left out, of 0.8 half, of
    0.9 all but 1 in 1,000. Equal arguments leave out the same documents on every machine. Memory grows by some 1,700
    bytes a document that stays (measured with 100,000).

    Args:
        threshold: The least index at which a document is a duplicate.
        shingle: Words in a stretch; shorter documents are one.
        permutations: Hashes by which the index is estimated; more are slower and more exact.
        seed: Of the hashes.
    """

    def __init__(self, threshold: float = 0.8, shingle: int = 5, permutations: int = 128, seed: int = 0) -> None:
        if not 0.3 <= threshold <= 1:
            raise UserError(f"filter NearDuplicates: threshold is {threshold}; give one from 0.3 to 1")
        for name, number in (("shingle", shingle), ("permutations", permutations)):
            if number < 1:
                raise UserError(f"filter NearDuplicates: {name} is {number}; give at least 1")
        if not 0 <= seed < 1 << 64:
            raise UserError(f"filter NearDuplicates: seed is {seed}; give one from 0 up to 2^64")
        self.threshold, self.shingle, self.permutations, self.seed = threshold, shingle, permutations, seed
        self._bands = bands(threshold, permutations)
        _library()
        self.start()

    @property
    def reason(self) -> str:
        """For the report, with the threshold."""
        return f"near duplicates ({self.threshold:g} of {self.shingle}-word stretches in common)"

    def start(self) -> None:
        """Forgets all texts."""
        self._index: Any = None
        self._sketches = array("H")

    def keeps(self, text: str) -> bool:
        """Whether no document before is as similar as the threshold."""
        library = _library()
        if self._index is None:
            self._index = library.RMinHashLSH(self.threshold, self.permutations, self._bands)
        hashes = library.RMinHash(self.permutations, self.seed)
        hashes.update(shingles(text, self.shingle))
        # Of each hash 16 bits are enough: two others agree in them once in 65,536 times.
        sketch = np.array(hashes.digest(), np.uint32).astype(np.uint16)
        if any(self._alike(number, sketch) for number in self._index.query(hashes)):
            return False
        self._index.insert(len(self._sketches) // self.permutations, hashes)
        self._sketches.frombytes(sketch.tobytes())
        return True

    def _alike(self, number: int, sketch: np.ndarray) -> bool:
        size = self.permutations
        other = np.frombuffer(self._sketches, np.uint16, size, number * size * self._sketches.itemsize)
        return bool(np.count_nonzero(other == sketch) >= self.threshold * size)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_index": None, "_sketches": array("H")}  # what was seen stays with the one that saw it


def shingles(text: str, size: int) -> set[str]:
    """Stretches of so many words; of characters where there are no words, the whole where it is shorter."""
    words = (_WORD_OR_ALONE if _IS_ALONE.search(text) else _WORD).findall(text.casefold()) or list(text)
    return {" ".join(words[at : at + size]) for at in range(max(len(words) - size + 1, 1))}


def bands(threshold: float, permutations: int) -> int:
    """The fewest bands of equal size by which nine of ten pairs right at the threshold are found."""
    for count in (count for count in range(1, permutations + 1) if permutations % count == 0):
        if 1 - (1 - threshold ** (permutations // count)) ** count >= _SURE:
            return count
    return permutations


def _library() -> Any:
    try:
        import rensa
    except ImportError:
        raise UserError(
            "filter NearDuplicates needs the package rensa; install it: pip install 'lit-gpt[dedup]'"
        ) from None
    return rensa
