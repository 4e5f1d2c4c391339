"""Text to token ids and back.

Knows: special tokens, how ids become text one at a time.
Does not know: where text comes from, files of ids, batches, models.

Special tokens are never recognised inside text: a text that spells one is encoded as the ordinary characters it is.
"""

import hashlib
import importlib
import json
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lit_gpt.data.byte_level import TokenStream, byte_of_character, cut
from lit_gpt.errors import UserError
from lit_gpt.trust import trusted_by_user


class Tokenizer:
    """The base of all tokenizers: ids below `vocab_size` stand for bytes of text or for special tokens.

    A subclass sets `_pieces` (the bytes of each id, empty for special tokens) and writes `encode`, `train`, `_learned`
    and `_restore`.
    """

    vocab_size: int = 0
    trained: bool = False
    #: True where the alphabet has to cover the validation and test texts too (characters cannot be spelt otherwise).
    sees_all_text: bool = False

    def __init__(self, **special_tokens: str | None) -> None:
        self._arguments: dict[str, Any] = {}
        self._special_tokens = {role: text for role, text in special_tokens.items() if text}
        self.bos: int | None = None
        self.eos: int | None = None
        self.pad: int | None = None
        self.unk: int | None = None
        self._pieces: list[bytes] = []
        self._names: dict[int, str] = {}

    def __call__(self) -> "Tokenizer":
        """Itself, so that a made tokenizer may stand where a class to be made is expected."""
        return self

    # -- what a subclass writes --------------------------------------------------------------------------------------

    def train(self, texts: Iterable[str]) -> None:
        """Learns the vocabulary from texts."""
        raise NotImplementedError

    def encode(self, text: str) -> list[int]:
        """Ids of a text, with no special tokens added."""
        raise NotImplementedError

    def _learned(self) -> dict[str, Any]:
        return {}

    def _restore(self, learned: dict[str, Any]) -> None:
        raise NotImplementedError

    # -- what every tokenizer can do ---------------------------------------------------------------------------------

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Ids of several texts."""
        return [self.encode(text) for text in texts]

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        """Ids of several texts as int64 arrays, for corpora."""
        return [np.asarray(ids, dtype=np.int64) for ids in self.encode_batch(texts)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special tokens are left out, bytes that are not UTF-8 become U+FFFD."""
        return b"".join(self._piece(id) for id in ids).decode("utf-8", "replace")

    def token(self, id: int) -> str:
        """How one id is shown: the name of a special token, else its text."""
        return self._names[id] if id in self._names else self._piece(id).decode("utf-8", "replace")

    def stream(self) -> TokenStream:
        """A decoder for ids that come one at a time."""
        return TokenStream(self._pieces)

    def byte_lengths(self) -> list[int] | None:
        """UTF-8 bytes of text that each id stands for (special tokens 0); None where text can be lost (`unk`)."""
        return None if self.unk is not None else [len(piece) for piece in self._pieces]

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that stand for no text."""
        return frozenset(self._names)

    @property
    def starts_with_bos(self) -> bool:
        """Whether documents are trained on with `bos` ahead of them, so that prompts want it too."""
        return self.bos is not None

    def configuration(self) -> dict[str, Any]:
        """Class and arguments, as far as they decide what will be learned."""
        return {"class_path": _class_path(type(self)), "init_args": dict(self._arguments)}

    def state(self) -> dict[str, Any]:
        """Plain data from which `restore` makes the same tokenizer again."""
        return {**self.configuration(), "learned": self._learned()}

    @staticmethod
    def restore(state: dict[str, Any], trusted: Iterable[str] = ()) -> "Tokenizer":
        """The tokenizer that `state()` described.

        Args:
            state: What `state()` returned.
            trusted: Packages outside lit_gpt from which the class may be imported, besides those that LIT_GPT_TRUST
                names. A class that the program itself has imported already needs no mention.

        Raises:
            UserError: not such a state, or its class is not trusted or not there.
        """
        try:
            class_path, arguments, learned = state["class_path"], state["init_args"], state["learned"]
        except (KeyError, TypeError):
            raise UserError("this is not a tokenizer's state: it lacks class_path, init_args or learned") from None
        tokenizer = _find_class(class_path, trusted)(**arguments)
        tokenizer._restore(learned)
        return tokenizer

    def fingerprint(self) -> str:
        """A hash of the whole state: equal fingerprints give equal ids."""
        return hashlib.sha256(json.dumps(self.state(), sort_keys=True).encode()).hexdigest()[:32]

    def save(self, path: str | Path) -> None:
        """Writes the state as JSON."""
        Path(path).write_text(json.dumps(self.state(), ensure_ascii=False), encoding="utf-8", errors="surrogatepass")

    @staticmethod
    def load(path: str | Path) -> "Tokenizer":
        """Reads what `save` wrote."""
        try:
            state = json.loads(Path(path).read_text(encoding="utf-8", errors="surrogatepass"))
            if not isinstance(state, dict) or "class_path" not in state:
                raise ValueError("it names no class_path")
        except FileNotFoundError:
            raise UserError(f"there is no tokenizer file {path}; give the path of one that was saved") from None
        except ValueError as fault:  # not UTF-8, not JSON, or of something else
            raise UserError(f"{path} is not a saved tokenizer ({fault}); give the path of one that was saved") from None
        return Tokenizer.restore(state)

    # -- for subclasses ----------------------------------------------------------------------------------------------

    def _piece(self, id: int) -> bytes:
        if not 0 <= id < len(self._pieces):
            raise UserError(f"token id {id} is past the tokenizer's vocabulary of {len(self._pieces)}")
        return self._pieces[id]

    def _special_texts(self) -> list[str]:
        """Each special token once, in the order of its roles."""
        return list(dict.fromkeys(self._special_tokens.values()))

    def _settle(self, pieces: list[bytes], special_ids: dict[str, int]) -> None:
        """Takes the finished vocabulary: bytes of each id, ids of the special tokens' texts."""
        self._pieces = pieces
        self._names = {id: text for text, id in special_ids.items()}
        for role, text in self._special_tokens.items():
            setattr(self, role, special_ids[text])
        self.vocab_size = len(pieces)
        self.trained = True


class Byte(Tokenizer):
    """Ids 0 to 255 are the bytes of UTF-8 text; special tokens follow. Nothing to learn, nothing is ever unknown.

    Args:
        bos: Special token put ahead of every document; none by default.
        eos: Special token put after every document; none by default.
        pad: Special token for empty places; none by default.
    """

    def __init__(self, bos: str | None = None, eos: str | None = None, pad: str | None = None) -> None:
        super().__init__(bos=bos, eos=eos, pad=pad)
        self._arguments = {"bos": bos, "eos": eos, "pad": pad}
        self._restore({})

    def train(self, texts: Iterable[str]) -> None:
        """Does nothing: bytes are known beforehand."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8"))

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        return [np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64) for text in texts]

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
    """

    sees_all_text = True

    def __init__(
        self, bos: str | None = None, eos: str | None = None, pad: str | None = None, unk: str | None = None
    ) -> None:
        super().__init__(bos=bos, eos=eos, pad=pad, unk=unk)
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

    Sennrich et al. 2016 (arXiv:1508.07909) over bytes, with the pre-tokenizing pattern of GPT-2, by the tokenizers
    library.

    Args:
        vocab_size: Ids to learn, special tokens and the 256 bytes included; a short text gives fewer.
        separator: Special token between documents: it ends each and stands ahead of the first, and so serves as `bos`
            and as `eos` unless these are given. null for none.
        bos: Special token put ahead of every document; the separator by default.
        eos: Special token put after every document; the separator by default.
        pad: Special token for empty places; none by default.
    """

    def __init__(
        self,
        vocab_size: int = 4096,
        separator: str | None = "<|endoftext|>",
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
    ) -> None:
        super().__init__(bos=bos or separator, eos=eos or separator, pad=pad)
        self._arguments = {"vocab_size": vocab_size, "separator": separator, "bos": bos, "eos": eos, "pad": pad}
        least = 256 + len(self._special_texts())
        if vocab_size < least:
            raise UserError(f"vocab_size {vocab_size} of BPE is below {least}, its bytes and special tokens; raise it")
        self.vocab_size = vocab_size
        self._inner: Any = None

    def train(self, texts: Iterable[str]) -> None:
        from tokenizers import Tokenizer as Inner
        from tokenizers import decoders, models, pre_tokenizers, trainers

        inner = Inner(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self._arguments["vocab_size"],
            special_tokens=self._special_texts(),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        inner.train_from_iterator((part for text in texts for part in cut(text)), trainer)
        self._restore({"json": inner.to_str()})

    def encode(self, text: str) -> list[int]:
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        if self._inner is None:
            raise UserError("this BPE tokenizer has not been trained; train it on text or load a saved one")
        parts = [list(cut(text)) for text in texts]
        encoded = iter(self._inner.encode_batch_fast([part for ps in parts for part in ps], add_special_tokens=False))
        return [[id for _ in ps for id in next(encoded).ids] for ps in parts]

    def _learned(self) -> dict[str, Any]:
        return {} if self._inner is None else {"json": self._inner.to_str()}

    def _restore(self, learned: dict[str, Any]) -> None:
        from tokenizers import Tokenizer as Inner

        self._inner = Inner.from_str(learned["json"])
        # Text that spells a special token must stay text: what users write is not to steer the model.
        self._inner.encode_special_tokens = True
        special_ids = {text: self._inner.token_to_id(text) for text in self._special_texts()}
        byte_of = byte_of_character()
        pieces = [
            b""
            if id in special_ids.values()
            else bytes(byte_of[character] for character in self._inner.id_to_token(id))
            for id in range(self._inner.get_vocab_size())
        ]
        self._settle(pieces, special_ids)


class Saved(Tokenizer):
    """A tokenizer that was learned before: of a corpus, of a run, of a checkpoint.

    Args:
        path: A tokenizer's JSON file, a checkpoint (.ckpt), or a folder that holds either (a corpus, a run).
    """

    def __new__(cls, path: str) -> Tokenizer:  # type: ignore[misc]  # the class that was saved, not this one
        found = Path(path)
        if found.is_dir():
            inside = ("tokenizer.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt")
            found = next((found / name for name in inside if (found / name).exists()), found)
            if found.is_dir():
                raise UserError(f"{path} holds no tokenizer (no {', '.join(inside)}); give the file itself")
        if found.suffix != ".ckpt":
            return Tokenizer.load(found)
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


def _class_path(cls: type[Tokenizer]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _find_class(class_path: str, trusted: Iterable[str]) -> type[Tokenizer]:
    known = {_class_path(cls): cls for cls in _all_subclasses(Tokenizer)}
    if class_path in known:
        return known[class_path]
    module, _, name = class_path.rpartition(".")
    package = module.partition(".")[0]
    if package not in {"lit_gpt", *trusted, *trusted_by_user()}:
        raise UserError(
            f"tokenizer class {class_path} is code outside lit_gpt and is not imported from a file's word alone;"
            f" if you trust the package, say so with LIT_GPT_TRUST={package}, or import it first"
        )
    try:
        cls = getattr(importlib.import_module(module), name, None)
    except ImportError as fault:
        raise UserError(f"tokenizer class {class_path} cannot be imported ({fault}); is it on PYTHONPATH?") from None
    if not (isinstance(cls, type) and issubclass(cls, Tokenizer)):
        raise UserError(f"{class_path} is not a tokenizer class; this version of lit_gpt does not have it")
    return cls


def _all_subclasses(cls: type[Tokenizer]) -> Iterator[type[Tokenizer]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _all_subclasses(sub)
