"""Pretrained: a tokenizer that others made, of the tokenizers library, as it lies beside a model's weights.

Knows: how such a tokenizer is asked, and written out again. Does not know: folders (see `hub_folder`), models.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lit_gpt.data.chunks import Segment
from lit_gpt.data.tokenizers.added_tokens import decodes_bytes_alone, is_lossless, taught, token_bytes, with_added
from lit_gpt.data.tokenizers.batched_encode import encode_in_batches
from lit_gpt.data.tokenizers.hub_folder import (
    MAIN,
    ROLES,
    SETTINGS,
    parsed,
    read_folder,
    templates_of,
    with_vocabulary,
    without_vocabulary,
)
from lit_gpt.data.tokenizers.safe_splits import continuation_tokenizer, is_long, split_points_of
from lit_gpt.data.tokenizers.segments import Encoded, SegmentEncoder
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.data.tokenizers.tokenizer_json import GENERIC, as_json
from lit_gpt.data.tokenizers.transformers_classes import effective_class, rebuilt
from lit_gpt.errors import UserError


class Pretrained(Tokenizer):
    """A tokenizer that others made: the tokenizer.json beside a model, or its vocab.json and merges.txt.

    Its settings, chat template and generation settings are kept with it. Nothing is learned anew, and no code that
    lies in the folder is run.

    Args:
        path: The folder, as it comes from the Hugging Face hub.
        as_transformers: Ids are those of the transformers library, some of whose classes split text in their own way,
            whatever tokenizer.json says. false takes tokenizer.json at its word, as most other programs do.
    """

    encodes_whole_texts = True

    def __init__(self, path: str | None = None, as_transformers: bool = True) -> None:
        super().__init__()
        self._inner: Any = None
        self._vocab_state: dict[str, Any] = {}
        self._known_cutting: tuple[Any, re.Pattern[str] | None] | None = None
        self._known_whole: SegmentEncoder | None = None
        # The folder may be gone when the tokenizer is made again.
        self._arguments = {} if as_transformers else {"as_transformers": False}
        if path is not None:
            self._restore(read_folder(Path(path), None, as_transformers))

    @classmethod
    def from_folder(
        cls, folder: str | Path, config: dict[str, Any] | None = None, as_transformers: bool = True
    ) -> "Pretrained":
        """The tokenizer of a folder.

        Args:
            folder: Where tokenizer.json lies.
            config: What the model's config.json says; read from the folder by default.
            as_transformers: See the class.

        Raises:
            UserError: a file is missing or is not what its name says.
        """
        tokenizer = cls(as_transformers=as_transformers)
        tokenizer._restore(read_folder(Path(folder), config, as_transformers))
        return tokenizer

    def train(self, texts: Iterable[str]) -> None:
        """Refuses: there is nothing to learn."""
        raise UserError("Pretrained is a tokenizer that is there already; give its folder with data.tokenizer.path")

    def encode(self, text: str) -> list[int]:
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [ids.tolist() for ids in self.encode_arrays(texts)]

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        inner = self._loaded()
        if not any(map(is_long, texts)):
            return encode_in_batches(inner, texts, None)
        later, split_points = self._cutting()
        return encode_in_batches(inner, texts, split_points, later)

    def encode_segments(self, rows: Sequence[list[Segment]]) -> list[Encoded]:
        if self._known_whole is None:
            self._known_whole = SegmentEncoder(self._loaded(), self._names)
        return self._known_whole.encode(rows)

    def _cutting(self) -> tuple[Any, re.Pattern[str] | None]:
        """The tokenizer of later parts, and where they begin; found when it is asked for, as it takes a while."""
        if self._known_cutting is None:
            later = continuation_tokenizer(self._loaded())
            self._known_cutting = (later, split_points_of(self._inner) if later else None)
        return self._known_cutting

    @property
    def split_points(self) -> re.Pattern[str] | None:  # type: ignore[override]
        """Where parts are encoded as in the whole by themselves; nowhere where something is put ahead of a text."""
        if self._inner is None:
            return None
        later, split_points = self._cutting()
        return split_points if later is self._inner else None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids as the library joins it; special tokens are left out."""
        listed = list(ids)
        joined = super().decode(listed)  # refuses what is past the vocabulary
        if self._bytes_alone:
            return joined
        return str(self._loaded().decode([id for id in listed if id not in self._names], skip_special_tokens=True))

    def add_tokens(self, texts: Iterable[str]) -> dict[str, int]:
        before = self._loaded().get_vocab(with_added_tokens=True)
        old, special = self._vocab_state.get("added", []), self._vocab_state.get("special", [])
        new = [text for text in dict.fromkeys(texts) if text not in old or text in special]
        if new:
            self._restore(with_added(self._vocab_state, new))
        return {text: self._inner.token_to_id(text) for text in new if text not in before}

    def _grow(self, names: list[str]) -> None:
        self._loaded()
        self._restore(with_added(self._vocab_state, names, special=True))

    def byte_lengths(self) -> list[int] | None:
        return [len(piece) for piece in self._pieces] if self._lossless else None

    @property
    def stop_ids(self) -> frozenset[int]:
        """All ends of a text that the model's settings name; `bos` is none of them by itself."""
        return frozenset(self._vocab_state["stop"])

    @property
    def end_ids(self) -> frozenset[int]:
        return self.stop_ids

    @property
    def unused_ids(self) -> frozenset[int]:
        return self._unused

    @property
    def starts_with_bos(self) -> bool:
        """Whether the tokenizer itself puts `bos` ahead of a text."""
        return self._bos_ahead

    @property
    def chat_templates(self) -> dict[str, str]:
        return templates_of(self._vocab_state.get("files", {}), None)

    def hub_files(self) -> dict[str, str]:
        """The files as they were read, with the tokens that were added here; code that they named is left out.

        Where the class that they name would make other ids, they name the class that takes tokenizer.json as it is.
        """
        inner, files = self._loaded(), dict(self._vocab_state["files"])
        settings, content = parsed(files, None, SETTINGS), json.loads(files[MAIN])
        settings.pop("auto_map", None)
        pipeline = without_vocabulary(inner)
        read = {token["id"] for token in (self._vocab_state["pipeline"] or content)["added_tokens"]}
        new = [token for token in pipeline["added_tokens"] if token["id"] not in read]
        if not self._class_agrees(settings, content):
            settings["tokenizer_class"] = GENERIC
            if self._vocab_state["pipeline"] is not None:
                content = with_vocabulary(self._vocab_state["pipeline"], content)
        if new:
            content["added_tokens"] = [*content["added_tokens"], *new]
            if "added_tokens_decoder" in settings:
                plain = {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in new}
                settings["added_tokens_decoder"] = {**settings["added_tokens_decoder"], **plain}
        if content != json.loads(files[MAIN]):
            files[MAIN] = as_json(content)
        if settings != parsed(files, None, SETTINGS):
            files[SETTINGS] = as_json(settings)
        return files

    def _class_agrees(self, settings: dict[str, Any], content: dict[str, Any]) -> bool:
        """Whether the class that the settings name makes these ids whatever the model's type is."""
        named = str(settings.get("tokenizer_class") or "")
        if named in (GENERIC, "TokenizersBackend"):
            return self._vocab_state["pipeline"] is None
        name = effective_class(named, None, '"ByteLevel"' in json.dumps(content.get("pre_tokenizer")))
        if name is None or content["model"].get("type") != "BPE":
            return False
        from tokenizers import Tokenizer as Inner

        def way(inner: Any) -> dict[str, Any]:
            whole = without_vocabulary(inner)
            kept = {key: whole[key] for key in ("normalizer", "pre_tokenizer", "model")}
            # No prefix, no suffix is said in two ways.
            kept["model"] = {key: value or None for key, value in kept["model"].items()}
            return kept

        built = Inner.from_str(json.dumps(rebuilt(name, content, settings)))
        return way(built) == way(self._inner)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_known_cutting": None, "_known_whole": None}

    # -- made and made again -----------------------------------------------------------------------------------------

    def _loaded(self) -> Any:
        if self._inner is None:
            raise UserError("Pretrained has no tokenizer yet; give its folder with data.tokenizer.path")
        return self._inner

    def _learned(self) -> dict[str, Any]:
        return self._vocab_state

    def _restore(self, learned: dict[str, Any]) -> None:
        from tokenizers import Tokenizer as Inner

        text = learned["files"][MAIN]
        if learned["pipeline"] is not None:
            text = json.dumps(with_vocabulary(learned["pipeline"], json.loads(text)))
        inner = Inner.from_str(text)
        inner.no_truncation()
        inner.no_padding()
        roles: dict[str, int] = learned["roles"]
        special = {id: token.content for id, token in inner.get_added_tokens_decoder().items() if token.special}
        special |= {id: inner.id_to_token(id) for id in (*roles.values(), *learned["stop"])}
        never_in_text = learned.get("special", [])
        inner = taught(inner, learned.get("added", []), never_in_text)
        special |= {inner.token_to_id(text): text for text in never_in_text}
        in_text = [text for text in learned.get("added", []) if text not in never_in_text]
        shown = {inner.token_to_id(text) for text in in_text} - {*roles.values(), *learned["stop"]}
        pieces = token_bytes(inner)
        self._unused = frozenset(range(len(pieces))) - set(inner.get_vocab(with_added_tokens=True).values())
        self._lossless, self._bytes_alone = is_lossless(inner), decodes_bytes_alone(inner)
        self._inner, self._vocab_state, self._known_cutting, self._known_whole = inner, learned, None, None
        self._names = {id: text for id, text in special.items() if id not in shown}
        self._in_text = {token.content: id for id, token in inner.get_added_tokens_decoder().items()}
        self._pieces = [b"" if id in self._names else piece for id, piece in enumerate(pieces)]
        for role in ROLES:
            setattr(self, role, roles.get(role))
        self._bos_ahead = self.bos is not None and inner.encode("", add_special_tokens=True).ids[:1] == [self.bos]
        self.vocab_size, self.trained = len(pieces), True
