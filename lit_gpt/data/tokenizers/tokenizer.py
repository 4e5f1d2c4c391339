"""Tokenizer: what every way from text to token ids and back has to offer.

Knows: special tokens, how ids become text one at a time, plain data from which a tokenizer is made again.
Does not know: any one tokenizer, where text comes from, files of ids, batches, models.

Special tokens are never recognized inside text: a text that spells one is encoded as the ordinary characters it is.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lit_gpt import atomic_io
from lit_gpt.config.class_paths import class_path as path_of
from lit_gpt.config.class_paths import import_class
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.config.trust import check_untrusted_arguments
from lit_gpt.data.chunks import Segment
from lit_gpt.data.tokenizers.byte_level import TokenStream
from lit_gpt.data.tokenizers.segments import Encoded, encode_between_special
from lit_gpt.errors import UserError, not_implemented


class Tokenizer:
    """The base of all tokenizers: ids below `vocab_size` stand for bytes of text or for special tokens.

    A subclass sets `_pieces` (the bytes of each id, empty for special tokens) and writes `encode`, `train`, `_learned`
    and `_restore`.
    """

    vocab_size: int = 0
    trained: bool = False
    #: True where the alphabet has to cover the validation and test texts too (characters cannot be spelt otherwise).
    trains_on_all_splits: bool = False
    #: Where a long text can be split so that its parts are encoded as in the whole; None for nowhere.
    split_points: re.Pattern[str] | None = None
    #: Most characters that the vocabulary is learned from, taken evenly through the text; None for all.
    train_chars: int | None = 200_000_000

    #: Whether every conversation is encoded as one text, as other programs do with the same tokenizer.
    encodes_whole_texts: bool = False

    def __init__(self, special: Iterable[str] | None = None, **special_tokens: str | None) -> None:
        self._arguments: dict[str, Any] = {}
        self._special_tokens = {role: text for role, text in special_tokens.items() if text}
        self._own_special: list[str] = []
        self._take_special(special or [])
        self.bos: int | None = None
        self.eos: int | None = None
        self.pad: int | None = None
        self.unk: int | None = None
        self._pieces: list[bytes] = []
        self._names: dict[int, str] = {}
        self._in_text: dict[str, int] = {}  # tokens that were added to be found in text

    def __call__(self) -> "Tokenizer":
        """Returns self, so that an instance works as a factory."""
        return self

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if (inner := state.get("_inner")) is not None:
            inner.encode_special_tokens = True  # which the tokenizers library forgets when it is pickled

    # -- what a subclass writes --------------------------------------------------------------------------------------

    def train(self, texts: Iterable[str]) -> None:
        """Learns the vocabulary from texts."""
        raise not_implemented(self, "train")

    def encode(self, text: str) -> list[int]:
        """Ids of a text, with no special tokens added."""
        raise not_implemented(self, "encode")

    def _learned(self) -> dict[str, Any]:
        return {}

    def _restore(self, learned: dict[str, Any]) -> None:
        raise not_implemented(self, "_restore")

    # -- what every tokenizer can do ---------------------------------------------------------------------------------

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Ids of several texts."""
        return [self.encode(text) for text in texts]

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        """Ids of several texts as int64 arrays, for corpora."""
        return [np.asarray(ids, dtype=np.int64) for ids in self.encode_batch(texts)]

    def encode_segments(self, rows: Sequence[list[Segment]]) -> list[Encoded]:
        """Ids of several texts in which special tokens stand, each encoded at once, and which are trained on.

        Raises:
            UserError: a text cannot be encoded.
        """
        return encode_between_special(self, rows)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special tokens are left out, bytes that are not UTF-8 become U+FFFD."""
        return b"".join(self._piece(id) for id in ids).decode("utf-8", "replace")

    def token(self, id: int) -> str:
        """How one id is shown: the name of a special token, else its text."""
        return self._names[id] if id in self._names else self._piece(id).decode("utf-8", "replace")

    def stream(self) -> TokenStream:
        """A decoder for ids that come one at a time."""
        return TokenStream(self._pieces)

    def add_tokens(self, texts: Iterable[str]) -> dict[str, int]:
        """Makes texts become one id each wherever they are spelled; returns those that had no id, with the new ones.

        A tokenizer that is still to be trained adds them then, and returns none.

        Raises:
            UserError: this tokenizer cannot have any.
        """
        raise UserError(
            f"{type(self).__name__} takes no new tokens; leave data.add_tokens out, or use BPE or Pretrained"
        )

    def with_special(self, names: Iterable[str]) -> "Tokenizer":
        """Itself, with special tokens of these names; those that are there stay as they are.

        A tokenizer that is still to be trained makes room for them then; one that is trained gets them behind its ids.
        """
        if new := [name for name in dict.fromkeys(names) if not self._has_special(name)]:
            self._grow(new)
        return self

    def special_id(self, name: str) -> int:
        """The id of the special token of a name; it is in no text, so it has to be asked for.

        Tokens that `add_tokens` made are found too.

        Raises:
            UserError: there is none.
        """
        for id, text in self._names.items():
            if text == name:
                return id
        if name in self._in_text:
            return self._in_text[name]
        raise UserError(
            f"{type(self).__name__} has no special token {name!r}; add it with --data.tokenizer.special '[{name}]'"
        )

    def hub_files(self) -> dict[str, str]:
        """Name and text of the files from which the transformers library makes a tokenizer with the same ids.

        Raises:
            UserError: there are none.
        """
        raise UserError(
            f"{type(self).__name__} cannot be written as a tokenizer.json; use Byte, Char, BPE or Pretrained"
        )

    def byte_lengths(self) -> list[int] | None:
        """UTF-8 bytes of text that each id stands for (special tokens 0); None where text can be lost (`unk`)."""
        return None if self.unk is not None else [len(piece) for piece in self._pieces]

    @property
    def roles(self) -> dict[str, str]:
        """Names of bos, eos, pad and unk, those that it has; also of one that is still to be trained."""
        ids = {role: getattr(self, role) for role in ("bos", "eos", "pad", "unk")}
        return self._special_tokens | {role: self.token(id) for role, id in ids.items() if id is not None}

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that stand for no text."""
        return frozenset(self._names)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a text that is written."""
        return frozenset(id for id in (self.eos, self.bos) if id is not None)

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids that end a text, to be said to other programs: `bos`, which begins the next one, is none of them."""
        return frozenset() if self.eos is None else frozenset([self.eos])

    @property
    def chat_templates(self) -> dict[str, str]:
        """The chat templates that came with the tokenizer, by name; a single one is "default"."""
        return {}

    @property
    def unused_ids(self) -> frozenset[int]:
        """Ids below `vocab_size` that no token has."""
        return frozenset()

    @property
    def starts_with_bos(self) -> bool:
        """Whether documents are trained on with `bos` ahead of them, so that prompts want it too."""
        return self.bos is not None

    def configuration(self) -> dict[str, Any]:
        """Class and arguments, as far as they decide what will be learned."""
        # What was not there in earlier versions is left out where it changes nothing, so that fingerprints stay.
        own: dict[str, Any] = {"special": list(self._own_special)} if self._own_special else {}
        if "train_chars" in vars(self) and self.train_chars != type(self).train_chars:
            own["train_chars"] = self.train_chars
        return {"class_path": path_of(type(self)), "init_args": {**self._arguments, **own}}

    def state(self) -> dict[str, Any]:
        """Plain data from which `restore` makes the same tokenizer again."""
        return {**self.configuration(), "learned": self._learned()}

    @staticmethod
    def restore(
        state: dict[str, Any], trusted: Iterable[str] = (), file: str | Path = "the tokenizer's state"
    ) -> "Tokenizer":
        """The tokenizer that `state()` described.

        Args:
            state: What `state()` returned.
            trusted: Packages outside lit_gpt from which the class may be imported, besides those that LIT_GPT_TRUST
                names. A class that the program itself has imported already needs no mention.
            file: Where the state stands, for errors.

        Raises:
            UserError: not such a state, or its class is not trusted or not there.
        """
        try:
            class_path, arguments, learned = state["class_path"], state["init_args"], state["learned"]
        except (KeyError, TypeError):
            raise UserError("this is not a tokenizer's state: it lacks class_path, init_args or learned") from None
        if not isinstance(arguments, dict):
            raise UserError(f"{file} holds a damaged tokenizer: its init_args are no names with values")
        cls, arguments = _find_class(class_path, tuple(trusted), file), dict(arguments)
        if cls.__module__.startswith("lit_gpt."):
            # All that is learned is in the state: nothing is read from the places that it names.
            arguments |= {name: None for name in ("path", "encoding") if name in arguments}
        check_untrusted_arguments(arguments, cls, file, "tokenizer", trusted)
        try:
            tokenizer: Tokenizer = cls(**arguments)
            tokenizer._restore(learned)
        except Exception as fault:  # of a forged or cut state, any
            if isinstance(fault, UserError):
                raise
            told = f"{type(fault).__name__}: {' '.join(str(fault).split())[:200]}"
            raise UserError(f"{file} holds a damaged {cls.__name__} tokenizer ({told}); get it again") from fault
        return tokenizer

    def fingerprint(self) -> str:
        """A hash of the whole state: equal fingerprints give equal ids."""
        return hashlib.sha256(json.dumps(self.state(), sort_keys=True).encode()).hexdigest()[:32]

    def save(self, path: str | Path) -> None:
        """Writes the state as JSON."""
        content = json.dumps(self.state(), ensure_ascii=False).encode(errors="surrogatepass")
        with atomic_io.staged_file(Path(path)) as file:
            file.write(content)

    @staticmethod
    def load(path: str | Path) -> "Tokenizer":
        """Reads what `save` wrote."""
        try:
            state = parse_json(Path(path).read_text(encoding="utf-8", errors="surrogatepass"))
            if not isinstance(state, dict) or "class_path" not in state:
                raise ValueError("it names no class_path")
        except FileNotFoundError:
            raise UserError(f"there is no tokenizer file {path}; give the path of one that was saved") from None
        except ValueError as fault:  # not UTF-8, not JSON, or of something else
            raise UserError(f"{path} is not a saved tokenizer ({fault}); give the path of one that was saved") from None
        return Tokenizer.restore(state, file=path)

    # -- for subclasses ----------------------------------------------------------------------------------------------

    def _piece(self, id: int) -> bytes:
        if not 0 <= id < len(self._pieces):
            raise UserError(f"token id {id} is past the tokenizer's vocabulary of {len(self._pieces)}")
        return self._pieces[id]

    def _special_texts(self) -> list[str]:
        """Each special token once: in the order of its roles, then the user's."""
        return list(dict.fromkeys([*self._special_tokens.values(), *self._own_special]))

    def _take_special(self, names: Iterable[str]) -> None:
        """Adds the user's special tokens to what is learned or settled next."""
        names = list(names)
        if not all(names):
            raise UserError(f"special of {type(self).__name__} holds an empty name; leave it out")
        self._own_special = list(dict.fromkeys([*self._own_special, *names]))

    def _set_train_chars(self, characters: int | None) -> None:
        if characters is not None and characters < 1:
            raise UserError(
                f"train_chars {characters} of {type(self).__name__} is no number of characters; give 1 or more, or null"
            )
        self.train_chars = characters

    def _has_special(self, name: str) -> bool:
        if not self.trained:
            return name in self._special_texts()
        try:
            self.special_id(name)
        except UserError:
            return False
        return True

    def _grow(self, names: list[str]) -> None:
        """Takes special tokens that are not there yet; what is learned stays, their ids follow."""
        self._take_special(names)
        if self.trained:
            self._restore(self._learned())

    def _settle(self, pieces: list[bytes], special_ids: dict[str, int]) -> None:
        """Takes the finished vocabulary: bytes of each id, ids of the special tokens' texts."""
        self._pieces = pieces
        self._names = {id: text for text, id in special_ids.items()}
        for role, text in self._special_tokens.items():
            setattr(self, role, special_ids[text])
        self.vocab_size = len(pieces)
        self.trained = True


def _find_class(class_path: Any, trusted: Iterable[str], file: str | Path) -> type[Tokenizer]:
    known = {path_of(cls): cls for cls in _all_subclasses(Tokenizer)}
    if isinstance(class_path, str):
        if class_path in known:
            return known[class_path]
        module, _, name = class_path.rpartition(".")
        if module.startswith("lit_gpt.data."):  # written when its file lay elsewhere
            class_path = f"lit_gpt.data.{name}"
    return import_class(class_path, file, Tokenizer, trusted)


def _all_subclasses(cls: type[Tokenizer]) -> Iterator[type[Tokenizer]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _all_subclasses(sub)
