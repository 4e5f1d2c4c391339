"""Tiktoken: encodings of the tiktoken library, or the ranks of a file. (The file's name leaves the library its own.)

Knows: that library, its files of ranks, and the format that the tokenizers library has for them. Does not know: where
text comes from, files of ids, batches, models.
"""

import base64
import binascii
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lit_gpt.data.tokenizers.byte_level import unicode_to_byte
from lit_gpt.data.tokenizers.patterns import PATTERNS, PatternName
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.data.tokenizers.tokenizer_json import bytes_joined, files, merges
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
        separator: Special token between documents: it ends each and stands ahead of the first, and so serves as `bos`
            and as `eos` unless these are given. null for none.
        bos: Special token put ahead of every document; the separator by default.
        eos: Special token put after every document; the separator by default.
        pad: Special token for empty places; none by default.
        special: Further special tokens, by the names that a format or a mixture of texts asks for; none by default.
            What the encoding does not have comes behind its ids.
    """

    train_chars = None

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
        # Made again, it has the ranks from its state: neither the library's files nor its own need be there.
        self._arguments = {"encoding": None, "separator": separator, "bos": bos, "eos": eos, "pad": pad}
        self._vocab_state: dict[str, Any] = {}
        self._encoding: Any = None
        if pattern not in PATTERNS:
            raise UserError(f"pattern {pattern!r} of Tiktoken is not known; give one of {', '.join(PATTERNS)}")
        if path is None and pattern != "gpt2":
            raise UserError(f"pattern {pattern} of Tiktoken goes with a path; encoding {encoding} has its own")
        if path is not None and encoding not in (None, "gpt2"):
            raise UserError(f"Tiktoken has path {path} and encoding {encoding}, which are two; leave one out")
        if path is not None:
            self._restore(_of_file(Path(path).expanduser(), pattern))
        elif encoding is not None:
            self._restore(_of_library(encoding))

    def train(self, texts: Iterable[str]) -> None:
        """Refuses: the ranks are there already."""
        raise UserError("Tiktoken has its ranks already and learns nothing; take BPE to learn a vocabulary")

    def encode(self, text: str) -> list[int]:
        return self._ids(text).tolist()

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        return [self._ids(text).astype(np.int64) for text in texts]

    def _ids(self, text: str) -> np.ndarray:
        if self._encoding is None:
            raise UserError("this Tiktoken has no ranks yet; give data.tokenizer.encoding or data.tokenizer.path")
        text.encode()  # the library would put another character for half a surrogate pair
        ids: np.ndarray = self._encoding.encode_to_numpy(text, disallowed_special=())
        return ids

    @property
    def unused_ids(self) -> frozenset[int]:
        return frozenset(id for id, piece in enumerate(self._pieces) if not piece and id not in self._names)

    def hub_files(self) -> dict[str, str]:
        """The ranks as merges: a token is made of any two that there are, in the order of ranks.

        Where a token can be made of two pairs that overlap, in runs of one character, the tokenizers library may take
        the other pair than tiktoken, which takes the first.
        """
        special = {text: id for id, text in self._names.items()}
        return files(_as_merges(self._vocab_state, special), self._special_tokens, self.starts_with_bos)

    def _learned(self) -> dict[str, Any]:
        return dict(self._vocab_state)

    def _restore(self, learned: dict[str, Any]) -> None:
        ranks = _ranks(learned["ranks"])
        self._encoding = _library().Encoding(
            "ranks", pat_str=learned["regex"], mergeable_ranks=ranks, special_tokens={}
        )
        self._vocab_state = dict(learned)
        self.split_points = PATTERNS[learned["like"]].split_points if learned["like"] else None
        special: dict[str, int] = dict(learned["special"])
        pieces = [b""] * (max([*ranks.values(), *special.values()]) + 1)
        for token, rank in ranks.items():
            pieces[rank] = token
        for text in self._special_texts():
            if text not in special:
                special[text] = len(pieces)
                pieces.append(b"")
        self._settle(pieces, special)


def _of_library(name: str) -> dict[str, Any]:
    library = _library()
    if name not in library.list_encoding_names():
        raise UserError(
            f"encoding {name!r} of Tiktoken is not known; the library has {', '.join(library.list_encoding_names())}"
        )
    try:
        made = library.get_encoding(name)
    except (OSError, ValueError) as fault:
        what = "do not match their checksum" if isinstance(fault, ValueError) else "are neither here nor to be fetched"
        raise UserError(
            f"the ranks of encoding {name} {what}; set TIKTOKEN_CACHE_DIR to the cache of a machine that has them, give"
            " a file of ranks with data.tokenizer.path, or take Pretrained with a model's folder"
        ) from None
    special = {text: made.encode_single_token(text) for text in sorted(made.special_tokens_set)}
    return {
        "ranks": _written(made._mergeable_ranks),
        "regex": made._pat_str,
        "like": _LIKE.get(name),
        "special": special,
    }


def _of_file(file: Path, pattern: str) -> dict[str, Any]:
    try:
        lines = file.read_bytes().splitlines()
    except OSError as fault:
        raise UserError(f"path {file} of Tiktoken cannot be read ({fault.strerror}); give a file of ranks") from None
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
    return {"ranks": _written(ranks), "regex": PATTERNS[pattern].regex, "like": pattern, "special": {}}


def _written(ranks: dict[bytes, int]) -> str:
    """As the library's files have them, in the order of ranks."""
    return "".join(f"{base64.b64encode(t).decode()} {r}\n" for t, r in sorted(ranks.items(), key=lambda item: item[1]))


def _ranks(lines: str) -> dict[bytes, int]:
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines.splitlines())}


def _as_merges(learned: dict[str, Any], special: dict[str, int]) -> str:
    """The JSON of the tokenizers library."""
    character_of = {value: character for character, value in unicode_to_byte().items()}
    ranks = {"".join(character_of[value] for value in t): rank for t, rank in _ranks(learned["ranks"]).items()}
    if both := ranks.keys() & special.keys():
        raise UserError(f"special token {min(both)!r} is also a word of the ranks; give it a name that no text spells")
    # The other library's engine reads {1,3}+ as many times one to three, and $ as the end of a line.
    regex = learned["regex"].replace("{1,3}+", "{1,3}").replace("$", r"\z")
    return bytes_joined(ranks, merges({token: float(rank) for token, rank in ranks.items()}), special, regex)


def _library() -> Any:
    try:
        import tiktoken
    except ImportError:
        raise UserError("Tiktoken needs the tiktoken library: pip install 'lit-gpt[tiktoken]'") from None
    return tiktoken
