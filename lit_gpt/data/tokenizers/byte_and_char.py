"""Byte and Char: tokenizers of UTF-8 bytes and of characters."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from lit_gpt.data.tokenizers.byte_level import unicode_to_byte
from lit_gpt.data.tokenizers.patterns import ANYWHERE
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.data.tokenizers.tokenizer_json import byte_level_bpe, characters, files
from lit_gpt.errors import UserError


class Byte(Tokenizer):
    """Ids 0 to 255 are the bytes of UTF-8 text; special tokens follow. Nothing to learn, nothing is ever unknown.

    Args:
        bos: Special token before every document; none by default.
        eos: Special token after every document; none by default.
        pad: Special token for padding; none by default.
        special: Further special tokens, as a format or a mixture of sources needs them; none by default.
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

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64) for text in texts]

    def hub_files(self) -> dict[str, str]:
        inner = byte_level_bpe(unicode_to_byte(), [], self._special_ids(), None)
        return files(inner, self._special_tokens, self.starts_with_bos)

    def _restore(self, vocab_state: dict[str, Any]) -> None:
        texts = self._special_texts()
        token_bytes = [bytes([value]) for value in range(256)] + [b""] * len(texts)
        self._set_vocabulary(token_bytes, {text: 256 + number for number, text in enumerate(texts)})


class Char(Tokenizer):
    """One id per character of the text, in the order of code points; special tokens follow.

    Args:
        bos: Special token before every document; none by default.
        eos: Special token after every document; none by default.
        pad: Special token for padding; none by default.
        unk: Special token for characters that the text did not have; without it they are refused.
        special: Further special tokens, as a format or a mixture of sources needs them; none by default.
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

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> np.ndarray:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)
        # One row past the last known character is for all beyond it.
        ids = self._ids[np.minimum(points, len(self._ids) - 1)]
        unknown = np.flatnonzero(ids < 0)
        if len(unknown) and self.unk is None:
            character = text[unknown[0]]
            raise UserError(
                f"character {character!r} (U+{ord(character):04X}) at position {unknown[0]} is not among the"
                f" tokenizer's {len(self._alphabet)} characters; remove it, or train Char with an unk"
            )
        ids[unknown] = -1 if self.unk is None else self.unk
        return ids

    def hub_files(self) -> dict[str, str]:
        """A character that is not known is refused there too, by an error of the library's."""
        ids = {character: id for id, character in enumerate(self._alphabet)}
        inner = characters(ids, self._special_ids(), self._special_tokens.get("unk"))
        return files(inner, self._special_tokens, self.starts_with_bos)

    def _restore(self, vocab_state: dict[str, Any]) -> None:
        self._vocab_state, self._alphabet = vocab_state, vocab_state["alphabet"]
        known = [ord(character) for character in self._alphabet]
        self._ids = np.full(max(known, default=-1) + 2, -1, dtype=np.int64)
        self._ids[known] = np.arange(len(known))
        texts = self._special_texts()
        token_bytes = [character.encode("utf-8", "surrogatepass") for character in self._alphabet] + [b""] * len(texts)
        self._set_vocabulary(token_bytes, {text: len(known) + number for number, text in enumerate(texts)})
        if self.unk is not None:
            # Decoded to nothing, it would join its neighbors.
            self._token_bytes[self.unk] = "\N{REPLACEMENT CHARACTER}".encode()
