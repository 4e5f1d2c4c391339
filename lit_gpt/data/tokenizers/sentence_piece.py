"""SentencePiece: pieces of text with the spaces in them, trained or loaded with the sentencepiece library."""

import base64
import io
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lit_gpt.data.tokenizers.patterns import BEFORE_A_SPACE_LINE_OR_MARK
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.data.tokenizers.tokenizer_json import character_bpe, files, merges
from lit_gpt.errors import UserError

_SPACE = "▁"  # what the library writes for a space
_SENTENCE = 1000  # characters to train on at once; of at most 4 bytes each, the library takes 4192
_CACHED_PARTS = 1 << 17  # parts of text whose ids are cached
_CACHED_CHARS = 64
_DEFAULTS = {"vocab_size": 4096, "model": "unigram", "split_digits": True, "character_coverage": 0.9995}


class SentencePiece(Tokenizer):
    """Pieces of text, spaces included, by the sentencepiece library (Kudo and Richardson 2018, arXiv:1808.06226).

    What is learned here changes nothing about a text: what no piece spells is spelled by bytes, so any text comes back.
    No piece goes over a line's end, or from a letter to a space or mark. Learning uses one thread, as its result is not
    the same with more; a unigram model needs some 20 bytes of memory for each character.

    Args:
        vocab_size: Ids to learn, special tokens and 256 bytes included; a short text gives fewer.
        model: unigram: the likeliest pieces under a model of single pieces (Kudo 2018, arXiv:1804.10959). bpe: pieces
            joined in the order learned.
        separator: Special token between documents, after each and before the first; it is the `bos` and the `eos`
            unless these are given, or a loaded model has its own. null for none.
        bos: Special token before every document; the separator by default.
        eos: Special token after every document; the separator by default.
        pad: Special token for padding; none by default.
        unk: Name of the piece for what cannot be spelled, which the library wants; <unk> by default. Where the model
            was learned here, no text needs it.
        special: Further special tokens, as a format or a mixture of sources needs them; none by default.
        train_chars: Most characters that the vocabulary is learned from, taken evenly through the training text; null
            for all of it.
        split_digits: Whether each digit is a piece of its own.
        character_coverage: Share of the text's characters that get a piece of their own; rarer ones are spelled by
            bytes.
        path: A .model file of the library to load, with its own way to treat spaces and characters; nothing is learned.
    """

    _min_ids = 257

    def __init__(
        self,
        vocab_size: int = 4096,
        model: Literal["unigram", "bpe"] = "unigram",
        separator: str | None = "<|endoftext|>",
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
        unk: str | None = None,
        special: list[str] | None = None,
        train_chars: int | None = 200_000_000,
        split_digits: bool = True,
        character_coverage: float = 0.9995,
        path: str | None = None,
    ) -> None:
        super().__init__(special, bos=bos or separator, eos=eos or separator, pad=pad, unk=unk or "<unk>")
        values = (vocab_size, model, split_digits, character_coverage)
        training = dict(zip(_DEFAULTS, values, strict=True))
        # Restored, it does not need the file of the path.
        self._arguments = {**training, "separator": separator, "bos": bos, "eos": eos, "pad": pad, "unk": unk}
        if model not in ("unigram", "bpe"):
            raise UserError(f"model {model!r} of SentencePiece is not known; give unigram or bpe")
        if not 0.9 <= character_coverage <= 1:
            raise UserError(f"character_coverage {character_coverage} of SentencePiece is not between 0.9 and 1")
        self.vocab_size = vocab_size
        self._set_train_chars(train_chars)
        self._model: Any = None
        self._cache: dict[str, Any] = {}  # ids of parts of text
        if path is None:
            self._check_vocab_size()
            return
        for name, value in training.items():
            if value != _DEFAULTS[name]:
                raise UserError(
                    f"{name} {value} of SentencePiece is for training, and path {path} is trained already; remove one"
                )
        self._restore({"model": base64.b64encode(_read(path)).decode(), "lossless": False})

    def train(self, texts: Iterable[str]) -> None:
        roles: dict[str, Any] = {"unk_id": 0, "unk_piece": self._special_tokens["unk"]}
        names = [text for text in self._special_texts() if text != roles["unk_piece"]]
        # The library gives each token one role; a separator, which has two, is its eos.
        for role in ("pad", "eos", "bos"):
            text = self._special_tokens.get(role)
            if text is None or text in roles.values() or text not in names:
                roles[f"{role}_id"] = -1
            else:
                roles |= {f"{role}_id": 1 + names.index(text), f"{role}_piece": text}
        controls = [text for text in names if text not in roles.values()]
        written = io.BytesIO()
        try:
            _library().SentencePieceTrainer.train(
                sentence_iterator=_sentences(texts),
                model_writer=written,
                model_type=self._arguments["model"],
                **{name: self._arguments[name] for name in ("vocab_size", "split_digits", "character_coverage")},
                control_symbols=controls,
                **roles,
                byte_fallback=True,
                normalization_rule_name="identity",
                add_dummy_prefix=False,
                remove_extra_whitespaces=False,
                allow_whitespace_only_pieces=True,
                hard_vocab_limit=False,
                num_threads=1,
                minloglevel=2,
            )
        except (RuntimeError, OSError) as error:
            reason = str(error).rpartition("] ")[2].strip().rstrip(".") or str(error).strip()
            raise UserError(
                f"SentencePiece cannot learn {self._arguments['vocab_size']} ids from this text ({reason}); give more"
                " text, another vocab_size, or a smaller character_coverage"
            ) from None
        self._restore({"model": base64.b64encode(written.getvalue()).decode(), "lossless": True})

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        self._check_trained()
        return [np.frombuffer(self._ids(text), dtype=np.uint32).astype(np.int64) for text in texts]

    def _ids(self, text: str) -> "array[int]":
        if not self._vocab_state["lossless"]:
            return array("I", self._model.encode(text))
        # Each part by itself, as no piece goes over its ends: sums of the unigram model's scores stay short, so that
        # rounding does not choose other pieces in a long text than in its parts.
        assert self.split_points is not None
        ids, cache = array("I"), self._cache
        for part in self.split_points.split(text):
            part_ids = cache.get(part)
            if part_ids is None:
                part_ids = self._part_ids(part)
                if len(part) <= _CACHED_CHARS:
                    if len(cache) >= _CACHED_PARTS:
                        cache.clear()
                    cache[part] = part_ids
            ids.extend(part_ids)
        return ids

    def _part_ids(self, part: str) -> "array[int]":
        # The library takes its own mark of a space for one, so text that has the mark is spelled by bytes.
        ids = array("I")
        for number, between in enumerate(part.split(_SPACE)):
            ids.extend(self._byte_ids(_SPACE) if number else [])
            found = self._model.encode(between)
            if b"".join([self._token_bytes[id] for id in found]) != between.encode():
                found = self._byte_ids(between)
            ids.extend(found)
        return ids

    def _byte_ids(self, text: str) -> list[int]:
        return [self._first_byte + byte for byte in text.encode()]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids without special tokens; of a loaded model as the library joins it."""
        ids = list(ids)
        joined = super().decode(ids)  # refuses what is past the vocabulary
        if not self.trained or self._vocab_state["lossless"]:
            return joined
        return str(self._model.decode([id for id in ids if id not in self._special_names]))

    def byte_lengths(self) -> list[int] | None:
        return [len(token) for token in self._token_bytes] if self._vocab_state.get("lossless") else None

    def hub_files(self) -> dict[str, str]:
        """A bpe model as merges of characters, spaces among them.

        Where two pairs that make a piece overlap, in runs of one character, the tokenizers library may merge another
        one than this library, which merges the first.
        """
        self._check_trained()
        if not self._vocab_state["lossless"] or self._arguments["model"] != "bpe":
            why = "a unigram model" if self._vocab_state["lossless"] else "a loaded model"
            raise UserError(
                f"SentencePiece cannot be written as a tokenizer.json of the same ids from {why}; train with"
                " data.tokenizer.model bpe, or take the model's own tokenizer.json with Pretrained"
            )
        model = self._model
        normal = [id for id in range(model.get_piece_size()) if id not in self._special_names and not model.is_byte(id)]
        pieces = {self._token_bytes[id].decode(): id for id in normal}
        order = {piece: -model.get_score(id) for piece, id in pieces.items()}
        ids = pieces | {f"<0x{value:02X}>": self._first_byte + value for value in range(256)}
        inner = character_bpe(ids, merges(order), self._special_ids(), self._special_tokens["unk"])
        return files(inner, self._special_tokens, self.starts_with_bos)

    @property
    def model_bytes(self) -> bytes:
        """The library's .model file, without special tokens that were added later."""
        self._check_trained()
        return base64.b64decode(self._vocab_state["model"])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_cache": {}}

    def _restore(self, vocab_state: dict[str, Any]) -> None:
        try:
            model = _library().SentencePieceProcessor(model_proto=base64.b64decode(vocab_state["model"]))
        except (RuntimeError, OSError):
            raise UserError("this is not a model of the sentencepiece library; give a .model file of it") from None
        self._model, self._vocab_state, lossless = model, vocab_state, vocab_state["lossless"]
        self.split_points = BEFORE_A_SPACE_LINE_OR_MARK if lossless else None
        size = model.get_piece_size()
        token_bytes = [_bytes(model, id) for id in range(size)]
        special = {model.id_to_piece(id): id for id in range(size) if model.is_control(id) or model.is_unknown(id)}
        if not lossless:
            # A loaded model's own tokens take precedence over the separator, which it does not know; typed names over
            # both.
            roles = {"bos": model.bos_id(), "eos": model.eos_id(), "pad": model.pad_id(), "unk": model.unk_id()}
            for role, id in roles.items():
                if id >= 0 and not self._arguments[role]:
                    self._special_tokens[role] = model.id_to_piece(id)
        for text in self._special_texts():
            if text not in special:
                special[text] = len(token_bytes)
                token_bytes.append(b"")
        self._cache.clear()
        self._first_byte = model.piece_to_id("<0x00>")
        self._set_vocabulary(token_bytes, special)
        if not lossless:
            self._token_bytes[model.unk_id()] = "\N{REPLACEMENT CHARACTER}".encode()


def _bytes(model: Any, id: int) -> bytes:
    if model.is_control(id) or model.is_unknown(id) or model.is_unused(id):
        return b""
    piece: str = model.id_to_piece(id)
    return bytes([int(piece[3:5], 16)]) if model.is_byte(id) else piece.replace(_SPACE, " ").encode()


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    """Lines, long ones in parts that end before a space where they can."""
    for text in texts:
        for line in text.split("\n"):
            start = 0
            while len(line) - start > _SENTENCE:
                end = line.rfind(" ", start + 1, start + _SENTENCE)
                end = start + _SENTENCE if end < 0 else end
                yield line[start:end]
                start = end
            if start < len(line):
                yield line[start:]


def _read(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise UserError(f"path {path} of SentencePiece cannot be read ({error.strerror}); give a .model file") from None


def _library() -> Any:
    try:
        import sentencepiece
    except ImportError:
        raise UserError("SentencePiece needs the sentencepiece library: pip install 'lit-gpt[sentencepiece]'") from None
    return sentencepiece
