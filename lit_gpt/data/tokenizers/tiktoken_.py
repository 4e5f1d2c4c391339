"""Tiktoken: encodings of the tiktoken library, or a file of ranks. (`tiktoken` itself is the library's name.)"""

import base64
import binascii
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lit_gpt.data.tokenizers.byte_level import unicode_to_byte
from lit_gpt.data.tokenizers.patterns import PATTERNS, PatternName
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.data.tokenizers.tokenizer_json import byte_level_bpe, files, merges
from lit_gpt.errors import UserError

# Whose places for cutting an encoding has: its pattern differs from that only in how a text ends in white space.
_LIKE = {
    **dict.fromkeys(("gpt2", "r50k_base", "p50k_base", "p50k_edit"), "gpt2"),
    **dict.fromkeys(("cl100k_base",), "llama3"),
    **dict.fromkeys(("o200k_base", "o200k_harmony"), "o200k"),
}


class Tiktoken(Tokenizer):
    """An encoding of the tiktoken library, or ranks in a file of its format; nothing is learned, any text comes back.

    Its ranks are kept with the ids, so that a checkpoint needs neither the library's files nor the network.

    Args:
        encoding: One that the library has, such as gpt2, cl100k_base or o200k_base. It takes the ranks from the folder
            that TIKTOKEN_CACHE_DIR names, else fetches them.
        path: A file of ranks instead: a token in base64 and its rank on each line.
        pattern: How text is split into words with `path`; see BPE. An encoding has its own.
        separator: Special token between documents, after each and before the first; it is the `bos` and the `eos`
            unless these are given. null for none.
        bos: Special token before every document; the separator by default.
        eos: Special token after every document; the separator by default.
        pad: Special token for padding; none by default.
        special: Further special tokens, as a format or a mixture of sources needs them; none by default. What
            the encoding does not have comes behind its ids.
    """

    train_chars = None
    _how_to_train = "give data.tokenizer.encoding or data.tokenizer.path"

    def __init__(
        self,
        encoding: str | None = "gpt2",
        path: str | None = None,
        pattern: PatternName = "gpt2",
        separator: str | None = "<|endoftext|>",
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
        special: list[str] | None = None,
    ) -> None:
        super().__init__(special, bos=bos or separator, eos=eos or separator, pad=pad)
        # Restored, it has the ranks from its state, without any file.
        self._arguments = {"encoding": None, "separator": separator, "bos": bos, "eos": eos, "pad": pad}
        self._encoding: Any = None
        if pattern not in PATTERNS:
            raise UserError(f"pattern {pattern!r} of Tiktoken is not known; give one of {', '.join(PATTERNS)}")
        if path is None and pattern != "gpt2":
            raise UserError(f"pattern {pattern} of Tiktoken goes with a path; encoding {encoding} has its own")
        if path is not None and encoding not in (None, "gpt2"):
            raise UserError(f"Tiktoken has path {path} and encoding {encoding}, which exclude each other; remove one")
        if path is not None:
            self._restore(_of_file(Path(path).expanduser(), pattern))
        elif encoding is not None:
            self._restore(_of_library(encoding))

    def train(self, texts: Iterable[str]) -> None:
        """Refuses: the ranks are there already."""
        raise UserError("Tiktoken has its ranks already and learns nothing; take BPE to learn a vocabulary")

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        self._check_trained()
        arrays = []
        for text in texts:
            text.encode()  # raises for half a surrogate pair, for which the library would take another character
            arrays.append(self._encoding.encode_to_numpy(text, disallowed_special=()).astype(np.int64))
        return arrays

    def hub_files(self) -> dict[str, str]:
        """The ranks as merges of any two tokens that make a token, in the order of ranks.

        Where two such pairs overlap, in runs of one character, the tokenizers library may merge another one than
        tiktoken, which merges the first.
        """
        special = self._special_ids()
        characters = {value: character for character, value in unicode_to_byte().items()}
        ranks = _ranks(self._vocab_state["ranks"])
        ids = {"".join(characters[value] for value in token): rank for token, rank in ranks.items()}
        if both := ids.keys() & special.keys():
            raise UserError(
                f"special token {min(both)!r} is also a word of the ranks; give it a name that no text spells"
            )
        # The library's regex engine reads {1,3}+ as many times one to three, and $ as the end of a line.
        regex = self._vocab_state["regex"].replace("{1,3}+", "{1,3}").replace("$", r"\z")
        inner = byte_level_bpe(ids | special, merges(ids), special, regex)
        return files(inner, self._special_tokens, self.starts_with_bos)

    def _restore(self, vocab_state: dict[str, Any]) -> None:
        ranks, regex = _ranks(vocab_state["ranks"]), vocab_state["regex"]
        self._encoding = _library().Encoding("ranks", pat_str=regex, mergeable_ranks=ranks, special_tokens={})
        self._vocab_state = vocab_state
        self.split_points = PATTERNS[vocab_state["like"]].split_points if vocab_state["like"] else None
        special: dict[str, int] = dict(vocab_state["special"])
        token_bytes = [b""] * (max([*ranks.values(), *special.values()]) + 1)
        for token, rank in ranks.items():
            token_bytes[rank] = token
        for text in self._special_texts():
            if text not in special:
                special[text] = len(token_bytes)
                token_bytes.append(b"")
        self._set_vocabulary(token_bytes, special)


def _of_library(name: str) -> dict[str, Any]:
    library = _library()
    if name not in library.list_encoding_names():
        raise UserError(
            f"encoding {name!r} of Tiktoken is not known; the library has {', '.join(library.list_encoding_names())}"
        )
    try:
        encoding = library.get_encoding(name)
    except (OSError, ValueError) as error:
        reason = "do not match their checksum" if isinstance(error, ValueError) else "cannot be fetched"
        raise UserError(
            f"the ranks of encoding {name} {reason}; set TIKTOKEN_CACHE_DIR to a folder that holds them, give a"
            " file of ranks with data.tokenizer.path, or take Pretrained with a model's folder"
        ) from None
    special = {text: encoding.encode_single_token(text) for text in sorted(encoding.special_tokens_set)}
    ranks, regex = _as_lines(encoding._mergeable_ranks), encoding._pat_str
    return {"ranks": ranks, "regex": regex, "like": _LIKE.get(name), "special": special}


def _of_file(file: Path, pattern: str) -> dict[str, Any]:
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"path {file} of Tiktoken cannot be read ({error.strerror}); give a file of ranks") from None
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        if line:
            try:
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
            except (ValueError, binascii.Error):
                raise UserError(
                    f"{file}:{number} is not a token in base64 and its rank; give a file of ranks"
                ) from None
    missing = [value for value in range(256) if bytes([value]) not in ranks]
    if missing:
        raise UserError(
            f"{file} has no rank for {len(missing)} of the 256 bytes, such as {missing[0]}; give another file"
        )
    if len(set(ranks.values())) < len(ranks):
        raise UserError(f"{file} gives two tokens one rank; give another file")
    return {"ranks": _as_lines(ranks), "regex": PATTERNS[pattern].regex, "like": pattern, "special": {}}


def _as_lines(ranks: dict[bytes, int]) -> str:
    """A file of ranks of the library."""
    return "".join(f"{base64.b64encode(t).decode()} {r}\n" for t, r in sorted(ranks.items(), key=lambda item: item[1]))


def _ranks(lines: str) -> dict[bytes, int]:
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines.splitlines())}


def _library() -> Any:
    try:
        import tiktoken
    except ImportError:
        raise UserError("Tiktoken needs the tiktoken library: pip install 'lit-gpt[tiktoken]'") from None
    return tiktoken
