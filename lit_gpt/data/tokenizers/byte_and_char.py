"""Byte and Char: tokenizers that need little or no learning.

Knows: bytes, characters, the format in which other programs read them. Does not know: where text comes from, models.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from lit_gpt.data.tokenizers.patterns import ANYWHERE
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.data.tokenizers.tokenizer_json import bytes_alone, characters_alone, files
from lit_gpt.errors import UserError


class Byte(Tokenizer):
    """Ids 0 to 255 are the bytes of UTF-8 text; special tokens follow. Nothing to learn, nothing is ever unknown.

    Args:
        bos: Special token put ahead of every document; none by default.
        eos: Special token put after every document; none by default.
        pad: Special token for empty places; none by default.
        special: Further special tokens, by the names that a format or a mixture of texts asks for; none by default.
    """

    split_points = ANYWHERE
    train_chars = None

    def __init__(
        self,
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
        special: list[str] | None = None,
    ) -> None:
        super().__init__(special, bos=bos, eos=eos, pad=pad)
        self._arguments = {"bos": bos, "eos": eos, "pad": pad}
        self._restore({})

    def train(self, texts: Iterable[str]) -> None:
        """Does nothing: bytes are known beforehand."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64) for text in texts]

    def hub_files(self) -> dict[str, str]:
        return files(bytes_alone(self._special_texts()), self._special_tokens, self.starts_with_bos)

    def _restore(self, learned: dict[str, Any]) -> None:
        texts = self._special_texts()
        pieces = [bytes([value]) for value in range(256)] + [b""] * len(texts)
        self._settle(pieces, {text: 256 + number for number, text in enumerate(texts)})


class Char(Tokenizer):
    """One id per character of the text, in the order of code points; special tokens follow.

    Args:
        bos: Special token put ahead of every document; none by default.
        eos: Special token put after every document; none by default.
        pad: Special token for empty places; none by default.
        unk: Special token for characters that the text did not have; without it they are refused.
        special: Further special tokens, by the names that a format or a mixture of texts asks for; none by default.
    """

    trains_on_all_splits = True
    split_points = ANYWHERE
    train_chars = None

    def __init__(
        self,
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
        unk: str | None = None,
        special: list[str] | None = None,
    ) -> None:
        super().__init__(special, bos=bos, eos=eos, pad=pad, unk=unk)
        self._arguments = {"bos": bos, "eos": eos, "pad": pad, "unk": unk}
        self._alphabet = ""
        self._ids = np.empty(0, dtype=np.int64)

    def train(self, texts: Iterable[str]) -> None:
        seen: set[str] = set()
        for text in texts:
            seen.update(text)
        self._restore({"alphabet": "".join(sorted(seen))})

    def encode(self, text: str) -> list[int]:
        return self.encode_arrays([text])[0].tolist()

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> np.ndarray:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)
        # One row past the last known character stands for all that lie beyond it.
        ids = self._ids[np.minimum(points, len(self._ids) - 1)]
        unknown = np.flatnonzero(ids < 0)
        if len(unknown) and self.unk is None:
            character = text[unknown[0]]
            raise UserError(
                f"character {character!r} (U+{ord(character):04X}) at position {unknown[0]} is not among the"
                f" tokenizer's {len(self._alphabet)} characters; leave it out, or train Char with an unk"
            )
        ids[unknown] = -1 if self.unk is None else self.unk
        return ids

    def hub_files(self) -> dict[str, str]:
        """A character that is not known is refused there too, by an error of the library's."""
        inner = characters_alone(self._alphabet, self._special_texts(), self._special_tokens.get("unk"))
        return files(inner, self._special_tokens, self.starts_with_bos)

    def _learned(self) -> dict[str, Any]:
        return {"alphabet": self._alphabet}

    def _restore(self, learned: dict[str, Any]) -> None:
        self._alphabet = learned["alphabet"]
        known = [ord(character) for character in self._alphabet]
        self._ids = np.full(max(known, default=-1) + 2, -1, dtype=np.int64)
        self._ids[known] = np.arange(len(known))
        texts = self._special_texts()
        pieces = [character.encode("utf-8", "surrogatepass") for character in self._alphabet] + [b""] * len(texts)
        self._settle(pieces, {text: len(known) + number for number, text in enumerate(texts)})
        if self.unk is not None:
            # A character stood there: showing none would join what it kept apart.
            self._pieces[self.unk] = "\N{REPLACEMENT CHARACTER}".encode()
