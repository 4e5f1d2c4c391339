"""Tokenizer base class: encode, decode, special tokens, and the plain state that a tokenizer is restored from.

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
    """The base of all tokenizers: ids below `vocab_size` are of bytes of text or of special tokens.

    A subclass writes `train`, `_restore`, and `encode` or `encode_arrays`.
    """

    vocab_size: int = 0
    trained: bool = False
    #: True where the alphabet has to cover the validation and test texts too.
    trains_on_all_splits: bool = False
    #: Where a long text can be split so that its parts are encoded as in the whole; None for nowhere.
    split_points: re.Pattern[str] | None = None
    #: Most characters that the vocabulary is learned from, taken evenly through the text; None for all.
    train_chars: int | None = 200_000_000
    #: Whether every conversation is encoded as one text, as other programs do with the same tokenizer.
    encodes_whole_texts: bool = False
    _min_ids = 0  # of a vocabulary to be trained, besides special tokens
    _how_to_train = "train it on text or load a saved one"

    def __init__(self, special: Iterable[str] | None = None, **special_tokens: str | None) -> None:
        self._arguments: dict[str, Any] = {}
        self._special_tokens = {role: text for role, text in special_tokens.items() if text}
        self._user_special: list[str] = []
        self._take_special(special or [])
        self.bos: int | None = None
        self.eos: int | None = None
        self.pad: int | None = None
        self.unk: int | None = None
        self._token_bytes: list[bytes] = []  # of each id; empty for special tokens
        self._special_names: dict[int, str] = {}
        self._in_text: dict[str, int] = {}  # tokens that were added to be found in text
        self._vocab_state: dict[str, Any] = {}  # plain data; all that was learned or loaded

    def __call__(self) -> "Tokenizer":
        """Returns self, so that an instance works as a factory."""
        return self

    # -- what a subclass writes --------------------------------------------------------------------------------------

    def train(self, texts: Iterable[str]) -> None:
        """Learns the vocabulary from texts."""
        raise not_implemented(self, "train")

    def _restore(self, vocab_state: dict[str, Any]) -> None:
        """Takes a finished vocabulary: keeps the state, and ends with `_set_vocabulary`."""
        raise not_implemented(self, "_restore")

    def encode(self, text: str) -> list[int]:
        """Ids of a text, with no special tokens added."""
        return self.encode_arrays([text])[0].tolist()

    # -- what every tokenizer can do ---------------------------------------------------------------------------------

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Ids of several texts."""
        return [ids.tolist() for ids in self.encode_arrays(texts)]

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        """Ids of several texts as int64 arrays, for corpora."""
        return [np.asarray(self.encode(text), dtype=np.int64) for text in texts]

    def encode_segments(self, rows: Sequence[list[Segment]]) -> list[Encoded]:
        """Ids and loss masks of texts with special tokens in them, each text encoded as a whole.

        Raises:
            UserError: a text cannot be encoded.
        """
        return encode_between_special(self, rows)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids without special tokens; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(map(self.bytes_of, ids)).decode("utf-8", "replace")

    def token(self, id: int) -> str:
        """The name of a special token, else the text of the id."""
        return self._special_names.get(id) or self.bytes_of(id).decode("utf-8", "replace")

    def bytes_of(self, id: int) -> bytes:
        """The bytes of text that an id stands for; none for a special token."""
        if not 0 <= id < len(self._token_bytes):
            raise UserError(f"token id {id} is past the tokenizer's vocabulary of {len(self._token_bytes)}")
        return self._token_bytes[id]

    def stream(self) -> TokenStream:
        """A decoder for ids that come one at a time."""
        return TokenStream(self._token_bytes)

    def add_tokens(self, texts: Iterable[str]) -> dict[str, int]:
        """Makes texts one token each wherever they occur; returns the new ids.

        A tokenizer that is not trained yet adds them in training, and returns none.

        Raises:
            UserError: this tokenizer cannot add tokens.
        """
        raise UserError(f"{type(self).__name__} takes no new tokens; remove data.add_tokens, or use BPE or Pretrained")

    def with_special(self, names: Iterable[str]) -> "Tokenizer":
        """Returns self with special tokens of these names added; those that exist keep their ids.

        The new ones follow the ids of a trained vocabulary; otherwise training makes room for them.
        """
        if new := [name for name in dict.fromkeys(names) if not self._has_special(name)]:
            self._add_special(new)
        return self

    def special_id(self, name: str) -> int:
        """The id of a special token, or of one that `add_tokens` made, by its text.

        Raises:
            UserError: there is none.
        """
        for id, text in self._special_names.items():
            if text == name:
                return id
        if name in self._in_text:
            return self._in_text[name]
        raise UserError(
            f"{type(self).__name__} has no special token {name!r}; add it with --data.tokenizer.special '[{name}]'"
        )

    def hub_files(self) -> dict[str, str]:
        """Files, by name, from which the transformers library builds a tokenizer of the same ids.

        Raises:
            UserError: there are none.
        """
        raise UserError(
            f"{type(self).__name__} cannot be written as a tokenizer.json; use Byte, Char, BPE or Pretrained"
        )

    def byte_lengths(self) -> list[int] | None:
        """UTF-8 bytes of each id (special tokens 0); None where text can be lost (`unk`)."""
        return None if self.unk is not None else [len(token) for token in self._token_bytes]

    @property
    def roles(self) -> dict[str, str]:
        """Texts of bos, eos, pad and unk, as far as they exist; known before training."""
        ids = {role: getattr(self, role) for role in ("bos", "eos", "pad", "unk")}
        return self._special_tokens | {role: self.token(id) for role, id in ids.items() if id is not None}

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of special tokens."""
        return frozenset(self._special_names)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end generation."""
        return frozenset(id for id in (self.eos, self.bos) if id is not None)

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids that end generation in other programs: unlike `stop_ids`, without `bos`, which begins the next text."""
        return frozenset() if self.eos is None else frozenset([self.eos])

    @property
    def chat_templates(self) -> dict[str, str]:
        """Chat templates that came with the tokenizer, by name; a single one is "default"."""
        return {}

    @property
    def unused_ids(self) -> frozenset[int]:
        """Ids below `vocab_size` that no token has."""
        empty = (id for id, token in enumerate(self._token_bytes) if not token)
        return frozenset(id for id in empty if id not in self._special_names)

    @property
    def starts_with_bos(self) -> bool:
        """Whether documents, and so prompts, begin with `bos`."""
        return self.bos is not None

    def configuration(self) -> dict[str, Any]:
        """Class and arguments that decide the ids."""
        # Defaults are left out, so that fingerprints do not change with new arguments.
        own: dict[str, Any] = {"special": list(self._user_special)} if self._user_special else {}
        if "train_chars" in vars(self) and self.train_chars != type(self).train_chars:
            own["train_chars"] = self.train_chars
        return {"class_path": path_of(type(self)), "init_args": {**self._arguments, **own}}

    def state(self) -> dict[str, Any]:
        """Plain data for `restore`."""
        return {**self.configuration(), "learned": dict(self._vocab_state) if self.trained else {}}

    @staticmethod
    def restore(
        state: dict[str, Any], trusted: Iterable[str] = (), file: str | Path = "the tokenizer's state"
    ) -> "Tokenizer":
        """The tokenizer that `state()` described.

        Args:
            state: Of `state()`.
            trusted: Packages outside lit_gpt from which the class may be imported, besides those that LIT_GPT_TRUST
                names. A class that the program itself has imported already needs no mention.
            file: The file of the state, for errors.

        Raises:
            UserError: not such a state, or its class is not trusted or does not exist.
        """
        try:
            class_path, arguments, learned = state["class_path"], state["init_args"], state["learned"]
        except (KeyError, TypeError):
            raise UserError("this is not a tokenizer's state: it lacks class_path, init_args or learned") from None
        if not isinstance(arguments, dict):
            raise UserError(f"{file} holds a damaged tokenizer: its init_args are no names with values")
        known = {path_of(cls): cls for cls in _all_subclasses(Tokenizer)}
        cls = known.get(str(class_path)) or import_class(class_path, file, Tokenizer, trusted)
        arguments = dict(arguments)
        if cls.__module__.startswith("lit_gpt."):
            # All that is learned is in the state: nothing is read from the paths that it names.
            arguments |= {name: None for name in ("path", "encoding") if name in arguments}
        check_untrusted_arguments(arguments, cls, file, "tokenizer", trusted)
        try:
            tokenizer: Tokenizer = cls(**arguments)
            tokenizer._restore(learned)
        except UserError:
            raise
        except Exception as error:  # any, of a forged or truncated state
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise UserError(f"{file} holds a damaged {cls.__name__} tokenizer ({reason}); get it again") from error
        return tokenizer

    def fingerprint(self) -> str:
        """A hash of the whole state: equal fingerprints give equal ids."""
        return hashlib.sha256(json.dumps(self.state(), sort_keys=True).encode()).hexdigest()[:32]

    def save(self, path: str | Path) -> None:
        """Writes the state as JSON, atomically."""
        content = json.dumps(self.state(), ensure_ascii=False).encode(errors="surrogatepass")
        with atomic_io.staged_file(Path(path)) as file:
            file.write(content)

    @staticmethod
    def load(path: str | Path) -> "Tokenizer":
        """Reads a file of `save`."""
        try:
            state = parse_json(Path(path).read_text(encoding="utf-8", errors="surrogatepass"))
            if not isinstance(state, dict) or "class_path" not in state:
                raise ValueError("it has no class_path")
        except FileNotFoundError:
            raise UserError(f"there is no tokenizer file {path}; give the path of one that was saved") from None
        except ValueError as error:  # not UTF-8, not JSON, or of something else
            raise UserError(f"{path} is not a saved tokenizer ({error}); give the path of one that was saved") from None
        return Tokenizer.restore(state, file=path)

    # -- for subclasses ----------------------------------------------------------------------------------------------

    def _check_trained(self) -> None:
        if not self.trained:
            raise UserError(f"this {type(self).__name__} tokenizer has not been trained; {self._how_to_train}")

    def _special_texts(self) -> list[str]:
        """Each special token once, roles first."""
        return list(dict.fromkeys([*self._special_tokens.values(), *self._user_special]))

    def _special_ids(self) -> dict[str, int]:
        return {text: id for id, text in self._special_names.items()}

    def _take_special(self, names: Iterable[str]) -> None:
        names = list(names)
        if not all(names):
            raise UserError(f"special of {type(self).__name__} holds an empty name; remove it")
        self._user_special = list(dict.fromkeys([*self._user_special, *names]))

    def _check_vocab_size(self) -> None:
        size, minimum = self._arguments["vocab_size"], self._min_ids + len(self._special_texts())
        if size < minimum:
            needed = f"special tokens and {self._min_ids} more ids"
            raise UserError(f"vocab_size {size} of {type(self).__name__} is below {minimum}, its {needed}; raise it")

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

    def _add_special(self, names: list[str]) -> None:
        self._take_special(names)
        if self.trained:
            self._restore(self._vocab_state)
        elif "vocab_size" in self._arguments:
            self._check_vocab_size()

    def _set_vocabulary(self, token_bytes: list[bytes], special_ids: dict[str, int]) -> None:
        """Takes the finished vocabulary: bytes of each id, ids of the special tokens' texts."""
        self._token_bytes = token_bytes
        self._special_names = {id: text for text, id in special_ids.items()}
        for role, text in self._special_tokens.items():
            setattr(self, role, special_ids[text])
        self.vocab_size = len(token_bytes)
        self.trained = True


def _all_subclasses(cls: type[Tokenizer]) -> Iterator[type[Tokenizer]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _all_subclasses(sub)
