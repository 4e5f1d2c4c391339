"""The tokenizers made here: Byte, Char and BPE; and Saved, which finds one that was learned before.

Knows: how each learns and encodes, and the form in which other programs read it. Does not know: where text comes from,
files of ids, batches, models. What all have in common is in `tokenizer`, those made by others in `pretrained`.
"""

import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lit_gpt.data.added import bytes_of_tokens, refuse_ordinary_words, taught, with_added
from lit_gpt.data.byte_level import cut
from lit_gpt.data.hub_form import bytes_alone, characters_alone, files
from lit_gpt.data.in_parts import ids_in_parts
from lit_gpt.data.patterns import ANYWHERE, PATTERNS, PatternName
from lit_gpt.data.tokenizer import Tokenizer
from lit_gpt.errors import UserError

__all__ = ["BPE", "Byte", "Char", "Saved", "Tokenizer"]


class Byte(Tokenizer):
    """Ids 0 to 255 are the bytes of UTF-8 text; special tokens follow. Nothing to learn, nothing is ever unknown.

    Args:
        bos: Special token put ahead of every document; none by default.
        eos: Special token put after every document; none by default.
        pad: Special token for empty places; none by default.
        special: Further special tokens, by the names that a form or a mixture of texts asks for; none by default.
    """

    place = ANYWHERE
    learns_from = None

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
        self._settle(pieces, {text: 256 + place for place, text in enumerate(texts)})


class Char(Tokenizer):
    """One id per character of the text, in the order of code points; special tokens follow.

    Args:
        bos: Special token put ahead of every document; none by default.
        eos: Special token put after every document; none by default.
        pad: Special token for empty places; none by default.
        unk: Special token for characters that the text did not have; without it they are refused.
        special: Further special tokens, by the names that a form or a mixture of texts asks for; none by default.
    """

    sees_all_text = True
    place = ANYWHERE
    learns_from = None

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
        self._settle(pieces, {text: len(known) + place for place, text in enumerate(texts)})
        if self.unk is not None:
            # A character stood there: showing none would join what it kept apart.
            self._pieces[self.unk] = "\N{REPLACEMENT CHARACTER}".encode()


class BPE(Tokenizer):
    """Byte-level byte-pair encoding, learned from the training text; any text can be encoded and comes back unchanged.

    Sennrich et al. 2016 (arXiv:1508.07909) over bytes, by the tokenizers library. The vocabulary may be of any size:
    32,000 to 50,000 ids are common for large texts in one language.

    Args:
        vocab_size: Ids to learn, special tokens and the 256 bytes included; a short text gives fewer.
        separator: Special token between documents: it ends each and stands ahead of the first, and so serves as `bos`
            and as `eos` unless these are given. null for none.
        bos: Special token put ahead of every document; the separator by default.
        eos: Special token put after every document; the separator by default.
        pad: Special token for empty places; none by default.
        special: Further special tokens, by the names that a form or a mixture of texts asks for; none by default.
        learns_from: Most characters that the vocabulary is learned from, taken evenly through the training text; null
            for all of it.
        pattern: How text is split into words, across which no bytes are joined. gpt2: letters, digits and marks apart,
            each with the space ahead of it, runs of other white space for themselves. llama3: of at most three digits,
            a mark or tab may stand ahead of letters, line ends stay with the marks before them. qwen2: the same, each
            digit by itself. o200k: the same as llama3, and capitals begin a word. llama.cpp has them all; what it has
            to be told is in `lit_gpt.data.patterns`.
    """

    def __init__(
        self,
        vocab_size: int = 4096,
        separator: str | None = "<|endoftext|>",
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
        special: list[str] | None = None,
        learns_from: int | None = 200_000_000,
        pattern: PatternName = "gpt2",
    ) -> None:
        super().__init__(special, bos=bos or separator, eos=eos or separator, pad=pad)
        self._arguments = {"vocab_size": vocab_size, "separator": separator, "bos": bos, "eos": eos, "pad": pad}
        if pattern not in PATTERNS:
            raise UserError(f"pattern {pattern!r} of BPE is not known; give one of {', '.join(PATTERNS)}")
        if pattern != "gpt2":
            self._arguments["pattern"] = pattern
        self._words = PATTERNS[pattern]
        self.place = self._words.place
        self.vocab_size = vocab_size
        self._learn_from(learns_from)
        self._refuse_too_few()
        self._inner: Any = None
        self._learnt: dict[str, Any] = {}

    def _refuse_too_few(self) -> None:
        least, given = 256 + len(self._special_texts()), self._arguments["vocab_size"]
        if given < least:
            raise UserError(f"vocab_size {given} of BPE is below {least}, its bytes and special tokens; raise it")

    def train(self, texts: Iterable[str]) -> None:
        from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
        from tokenizers import Tokenizer as Inner

        inner = Inner(models.BPE(ignore_merges=self._words.takes_whole_words))
        if "pattern" in self._arguments:
            words = pre_tokenizers.Split(Regex(self._words.regex), "isolated")
            on_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            inner.pre_tokenizer = pre_tokenizers.Sequence([words, on_bytes])
        else:  # the library has GPT-2's, and other programs know it by that
            inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self._arguments["vocab_size"],
            special_tokens=self._special_texts(),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        inner.train_from_iterator((part for text in texts for part in cut(text, self._words.place)), trainer)
        refuse_ordinary_words(inner, self._special_texts())
        self._restore({**self._learnt, "json": inner.to_str()})

    def add_tokens(self, texts: Iterable[str]) -> dict[str, int]:
        old, special = self._learnt.get("added", []), self._learnt.get("special", [])
        new = [text for text in dict.fromkeys(texts) if text not in old or text in special]
        learned = with_added(self._learnt, new) if new else self._learnt
        if not new or not self.trained:
            self._learnt = learned
            return {}
        before = self._inner.get_vocab(with_added_tokens=True)
        self._restore(learned)
        return {text: self._inner.token_to_id(text) for text in new if text not in before}

    def _has_special(self, name: str) -> bool:
        return name in self._learnt.get("added", []) or super()._has_special(name)

    def _grow(self, names: list[str]) -> None:
        if self.trained:
            self._restore(with_added(self._learnt, names, special=True))
        else:
            self._take_special(names)
            self._refuse_too_few()

    def configuration(self) -> dict[str, Any]:
        own = {key: list(self._learnt[key]) for key in ("added", "special") if self._learnt.get(key)}
        return {**super().configuration(), **own}

    def hub_files(self) -> dict[str, str]:
        self._trained_inner()
        return files(self._inner.to_str(), self._special_tokens, self.starts_with_bos)

    def encode(self, text: str) -> list[int]:
        return self.encode_arrays([text])[0].tolist()

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [ids.tolist() for ids in self.encode_arrays(texts)]

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        return ids_in_parts(self._trained_inner(), texts, self.place)

    def _trained_inner(self) -> Any:
        if self._inner is None:
            raise UserError("this BPE tokenizer has not been trained; train it on text or load a saved one")
        return self._inner

    def _learned(self) -> dict[str, Any]:
        return dict(self._learnt) if self.trained else {}

    def _restore(self, learned: dict[str, Any]) -> None:
        from tokenizers import Tokenizer as Inner

        inner: Any = Inner.from_str(learned["json"])
        added, never_in_text = learned.get("added", []), learned.get("special", [])
        roles, in_text = self._special_tokens.values(), [text for text in added if text not in never_in_text]
        special = [text for text in self._special_texts() if text in roles or text not in in_text]
        special_ids: dict[str, int] = {text: inner.token_to_id(text) for text in special}
        self._learnt = {key: value for key, value in learned.items() if value}
        self._inner = taught(inner, added, never_in_text)
        self._in_text = {text: self._inner.token_to_id(text) for text in in_text}
        special_ids |= {text: self._inner.token_to_id(text) for text in never_in_text}
        place = self._words.place
        self.place = None if any(place.search(text, 1) for text in in_text) else place  # a token would be cut
        pieces = bytes_of_tokens(self._inner)
        for id in special_ids.values():
            pieces[id] = b""
        self._settle(pieces, special_ids)


class Saved(Tokenizer):
    """A tokenizer that was learned before: of a corpus, of a run, of a checkpoint, of a model made elsewhere.

    Args:
        path: A tokenizer's JSON file, a checkpoint (.ckpt), or a folder that holds either (a corpus, a run, a model of
            the Hugging Face hub, which gives Pretrained).
    """

    def __new__(cls, path: str) -> Tokenizer:  # type: ignore[misc]  # the class that was saved, not this one
        found = Path(path)
        if found.is_dir():
            inside = ("tokenizer.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt")
            found = next((found / name for name in inside if (found / name).exists()), found)
            if found.is_dir():
                raise UserError(f"{path} holds no tokenizer (no {', '.join(inside)}); give the file itself")
        if found.suffix != ".ckpt":
            return _of_others(found) or Tokenizer.load(found)
        import torch

        try:
            checkpoint = torch.load(found, map_location="cpu", weights_only=True, mmap=True)
        except FileNotFoundError:
            raise UserError(f"there is no checkpoint {found}; give the path of one that was saved") from None
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            raise UserError(f"{found} is not a readable checkpoint; give a .ckpt of a run") from None
        if not isinstance(checkpoint, dict) or "tokenizer" not in checkpoint:
            raise UserError(f"checkpoint {found} holds no tokenizer; give the tokenizer's own file")
        return Tokenizer.restore(checkpoint["tokenizer"])

    def __init__(self, path: str) -> None:  # read by the command line for its menu; never run
        raise AssertionError(path)


def _of_others(file: Path) -> Tokenizer | None:
    """The tokenizer of a tokenizer.json that the tokenizers library wrote, with what lies beside it; else None."""
    if file.name != "tokenizer.json":
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if (
        not isinstance(content, dict)
        or "class_path" in content
        or "model" not in content
        or "added_tokens" not in content
    ):
        return None
    from lit_gpt.data.pretrained import Pretrained

    return Pretrained.from_folder(file.parent)
