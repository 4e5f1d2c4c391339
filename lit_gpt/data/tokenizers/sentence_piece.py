"""SentencePiece: pieces of text with the spaces in them, learned or loaded.

Knows: the sentencepiece library. Does not know: where text comes from, files of ids, batches, models.
"""

import base64
import io
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lit_gpt.data.tokenizers.patterns import BEFORE_A_SPACE_LINE_OR_MARK
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.data.tokenizers.tokenizer_json import characters_joined, files, merges
from lit_gpt.errors import UserError

_SPACE = "▁"  # what the library writes for a space
_STRETCH = 1000  # characters of a sentence that is learned from; of at most 4 bytes each, the library takes 4192
_REMEMBERED = 1 << 17  # stretches of text whose ids are kept at hand
_SHORT = 64


class SentencePiece(Tokenizer):
    """Pieces of text, spaces included, by the sentencepiece library (Kudo and Richardson 2018, arXiv:1808.06226).

    What is learned here changes nothing about a text: what no piece spells is spelled by bytes, so any text comes back.
    No piece goes over a line's end, or from a letter to a space or mark. Learning uses one thread, as its result is not
    the same with more; a unigram model needs some 20 bytes of memory for each character.

    Args:
        vocab_size: Ids to learn, special tokens and 256 bytes included; a short text gives fewer.
        model: unigram: the likeliest pieces under a model of single pieces (Kudo 2018, arXiv:1804.10959). bpe: pieces
            joined in the order learned.
        separator: Special token between documents: it ends each and stands ahead of the first, and so serves as `bos`
            and as `eos` unless these are given, or a loaded model has its own. null for none.
        bos: Special token put ahead of every document; the separator by default.
        eos: Special token put after every document; the separator by default.
        pad: Special token for empty places; none by default.
        unk: Name of the piece for what cannot be spelled, which the library wants; <unk> by default. Where the model
            was learned here, no text needs it.
        special: Further special tokens, by the names that a format or a mixture of texts asks for; none by default.
        train_chars: Most characters that the vocabulary is learned from, taken evenly through the training text; null
            for all of it.
        split_digits: Whether each digit is a piece of its own.
        character_coverage: Share of the text's characters that get a piece of their own; rarer ones are spelled by
            bytes.
        path: A .model file of the library to load, with its own way to treat spaces and characters; nothing is learned.
    """

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
        how = {
            "vocab_size": vocab_size,
            "model": model,
            "split_digits": split_digits,
            "character_coverage": character_coverage,
        }
        # The file may be gone when the tokenizer is made again.
        self._arguments = {**how, "separator": separator, "bos": bos, "eos": eos, "pad": pad, "unk": unk}
        if model not in ("unigram", "bpe"):
            raise UserError(f"model {model!r} of SentencePiece is not known; give unigram or bpe")
        if not 0.9 <= character_coverage <= 1:
            raise UserError(f"character_coverage {character_coverage} of SentencePiece is not between 0.9 and 1")
        self.vocab_size = vocab_size
        self._set_train_chars(train_chars)
        self._model: Any = None
        self._vocab_state: dict[str, Any] = {}
        self._known: dict[str, Any] = {}  # ids of stretches of text
        if path is None:
            self._refuse_too_few()
            return
        defaults = {"vocab_size": 4096, "model": "unigram", "split_digits": True, "character_coverage": 0.9995}
        for name, value in how.items():
            if value != defaults[name]:
                raise UserError(
                    f"{name} {value} of SentencePiece is to learn with, path {path} is learned; leave one out"
                )
        self._restore({"model": base64.b64encode(_read(path)).decode(), "lossless": False})

    def _refuse_too_few(self) -> None:
        least, given = 257 + len(self._special_texts()), self._arguments["vocab_size"]
        if given < least:
            raise UserError(
                f"vocab_size {given} of SentencePiece is below {least}, its bytes and special tokens; raise it"
            )

    def train(self, texts: Iterable[str]) -> None:
        roles: dict[str, Any] = {"unk_id": 0, "unk_piece": self._special_tokens["unk"]}
        names = [text for text in self._special_texts() if text != roles["unk_piece"]]
        # The library has one name for each role and each token; a separator, which has two, is its end.
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
                vocab_size=self._arguments["vocab_size"],
                model_type=self._arguments["model"],
                split_digits=self._arguments["split_digits"],
                character_coverage=self._arguments["character_coverage"],
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
        except (RuntimeError, OSError) as fault:
            reason = str(fault).rpartition("] ")[2].strip().rstrip(".") or str(fault).strip()
            raise UserError(
                f"SentencePiece cannot learn {self._arguments['vocab_size']} ids from this text ({reason}); give more"
                " text, another vocab_size, or a smaller character_coverage"
            ) from None
        self._restore({"model": base64.b64encode(written.getvalue()).decode(), "lossless": True})

    # -- text and ids ------------------------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        return self._ids(text).tolist()

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        return [np.frombuffer(self._ids(text), dtype=np.uint32).astype(np.int64) for text in texts]

    def _ids(self, text: str) -> "array[int]":
        model = self._loaded()
        if not self._vocab_state["lossless"]:
            return array("I", model.encode(text))
        # Each stretch by itself, as no piece goes over its ends: sums of the unigram model's scores stay short, so that
        # rounding does not choose other pieces in a long text than in its parts.
        assert self.split_points is not None
        ids, known = array("I"), self._known
        for stretch in self.split_points.split(text):
            found = known.get(stretch)
            if found is None:
                found = self._ids_of_stretch(stretch)
                if len(stretch) <= _SHORT:
                    if len(known) >= _REMEMBERED:
                        known.clear()
                    known[stretch] = found
            ids.extend(found)
        return ids

    def _ids_of_stretch(self, stretch: str) -> "array[int]":
        # The library takes its own mark of a space for one, so text that has the mark is spelled by bytes.
        ids = array("I")
        for number, part in enumerate(stretch.split(_SPACE)):
            ids.extend(self._bytes_of_mark if number else [])
            found = self._model.encode(part)
            whole = part.encode()
            if b"".join([self._pieces[id] for id in found]) != whole:
                found = [self._first_byte + byte for byte in whole]
            ids.extend(found)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; of a loaded model as the library joins it. Special tokens are left out."""
        listed = list(ids)
        joined = super().decode(listed)  # refuses what is past the vocabulary
        if not self.trained or self._vocab_state["lossless"]:
            return joined
        return str(self._model.decode([id for id in listed if id not in self._names]))

    def byte_lengths(self) -> list[int] | None:
        return [len(piece) for piece in self._pieces] if self._vocab_state.get("lossless") else None

    @property
    def unused_ids(self) -> frozenset[int]:
        return frozenset(id for id in range(self.vocab_size) if id not in self._names and not self._pieces[id])

    def hub_files(self) -> dict[str, str]:
        """A bpe model as merges of characters, spaces among them.

        Where a piece can be made of two pairs that overlap, in runs of one character, the tokenizers library may take
        the other pair than this one, which takes the first.
        """
        model = self._loaded()
        if not self._vocab_state["lossless"] or self._arguments["model"] != "bpe":
            why = "a unigram model" if self._vocab_state["lossless"] else "a loaded model"
            raise UserError(
                f"SentencePiece cannot be written as a tokenizer.json of the same ids from {why}; learn with"
                " data.tokenizer.model bpe, or take the model's own tokenizer.json with Pretrained"
            )
        normal = [id for id in range(model.get_piece_size()) if id not in self._names and not model.is_byte(id)]
        order = {self._pieces[id].decode(): -model.get_score(id) for id in normal}
        ids = {piece: id for id, piece in zip(normal, order, strict=True)}
        ids |= {f"<0x{value:02X}>": self._first_byte + value for value in range(256)}
        special = {text: id for id, text in self._names.items()}
        return files(
            characters_joined(ids, merges(order), special, self._special_tokens["unk"]),
            self._special_tokens,
            self.starts_with_bos,
        )

    @property
    def model_bytes(self) -> bytes:
        """What the library calls a .model file; special tokens that were added later are not in it."""
        self._loaded()
        return base64.b64decode(self._vocab_state["model"])

    # -- made and made again -----------------------------------------------------------------------------------------

    def _loaded(self) -> Any:
        if self._model is None:
            raise UserError("this SentencePiece tokenizer has not been trained; train it on text or load a saved one")
        return self._model

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_known": {}}

    def _grow(self, names: list[str]) -> None:
        super()._grow(names)
        if not self.trained:
            self._refuse_too_few()

    def _learned(self) -> dict[str, Any]:
        return dict(self._vocab_state)

    def _restore(self, learned: dict[str, Any]) -> None:
        try:
            model = _library().SentencePieceProcessor(model_proto=base64.b64decode(learned["model"]))
        except (RuntimeError, OSError):
            raise UserError(
                "this is not a model of the sentencepiece library; give a .model file that it wrote"
            ) from None
        self._model, self._vocab_state = model, dict(learned)
        self.split_points = BEFORE_A_SPACE_LINE_OR_MARK if learned["lossless"] else None
        size = model.get_piece_size()
        pieces = [_bytes(model, id) for id in range(size)]
        special = {model.id_to_piece(id): id for id in range(size) if model.is_control(id) or model.is_unknown(id)}
        self._take_roles_of_the_model()
        for text in self._special_texts():
            if text not in special:
                special[text] = len(pieces)
                pieces.append(b"")
        self._known.clear()
        self._first_byte = model.piece_to_id("<0x00>")
        self._settle(pieces, special)
        if learned["lossless"]:
            self._bytes_of_mark = [self._first_byte + byte for byte in _SPACE.encode()]
        else:
            self._pieces[model.unk_id()] = "\N{REPLACEMENT CHARACTER}".encode()

    def _take_roles_of_the_model(self) -> None:
        """A loaded model's own tokens go before the separator, which it does not know; typed names go before both."""
        model = self._model
        if self._vocab_state["lossless"]:
            return
        own = {"bos": model.bos_id(), "eos": model.eos_id(), "pad": model.pad_id(), "unk": model.unk_id()}
        for role, id in own.items():
            if id >= 0 and not self._arguments[role]:
                self._special_tokens[role] = model.id_to_piece(id)


def _bytes(model: Any, id: int) -> bytes:
    if model.is_control(id) or model.is_unknown(id) or model.is_unused(id):
        return b""
    piece: str = model.id_to_piece(id)
    return bytes([int(piece[3:5], 16)]) if model.is_byte(id) else piece.replace(_SPACE, " ").encode()


def _sentences(texts: Iterable[str]) -> Iterator[str]:
    """Lines, long ones in stretches that end ahead of a space where they can."""
    for text in texts:
        for line in text.split("\n"):
            start = 0
            while len(line) - start > _STRETCH:
                end = line.rfind(" ", start + 1, start + _STRETCH)
                end = start + _STRETCH if end < 0 else end
                yield line[start:end]
                start = end
            if start < len(line):
                yield line[start:]


def _read(path: str) -> bytes:
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as fault:
        raise UserError(f"path {path} of SentencePiece cannot be read ({fault.strerror}); give a .model file") from None


def _library() -> Any:
    try:
        import sentencepiece
    except ImportError:
        raise UserError("SentencePiece needs the sentencepiece library: pip install 'lit-gpt[sentencepiece]'") from None
    return sentencepiece
