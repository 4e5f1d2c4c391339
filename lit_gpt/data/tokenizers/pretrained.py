"""Pretrained: a tokenizer of the tokenizers library, as published beside a model's weights."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lit_gpt.data.chunks import Segment
from lit_gpt.data.tokenizers.added_tokens import (
    add_tokens_in_text,
    decodes_bytes_alone,
    is_lossless,
    pipeline_of,
    vocabulary_bytes,
)
from lit_gpt.data.tokenizers.batched_encode import encode_in_batches
from lit_gpt.data.tokenizers.hub_folder import (
    MAIN,
    ROLES,
    SETTINGS,
    from_content,
    parsed,
    read_folder,
    templates_of,
    with_vocabulary,
)
from lit_gpt.data.tokenizers.library_tokenizer import LibraryTokenizer
from lit_gpt.data.tokenizers.safe_splits import find_splits, is_long
from lit_gpt.data.tokenizers.segments import Encoded, SegmentEncoder
from lit_gpt.data.tokenizers.tokenizer_json import GENERIC, as_json
from lit_gpt.data.tokenizers.transformers_classes import effective_class, rebuilt
from lit_gpt.errors import UserError


class Pretrained(LibraryTokenizer):
    """A published tokenizer: the tokenizer.json beside a model, or its vocab.json and merges.txt.

    Its settings, chat template and generation settings are kept with it. Nothing is trained, and no code of the folder
    is run.

    Args:
        path: The folder, as it comes from the Hugging Face hub.
        as_transformers: Ids are those of the transformers library, some of whose classes split text in their own way,
            whatever tokenizer.json says. false follows tokenizer.json, as most other programs do.
    """

    encodes_whole_texts = True
    _how_to_train = "give its folder with data.tokenizer.path"

    def __init__(self, path: str | None = None, as_transformers: bool = True) -> None:
        super().__init__()
        self._arguments = {} if as_transformers else {"as_transformers": False}  # restored, it needs no folder
        self._splits: tuple[Any, re.Pattern[str] | None] | None = None
        self._segment_encoder: SegmentEncoder | None = None
        if path is not None:
            self._restore(read_folder(Path(path), None, as_transformers))

    @classmethod
    def from_folder(
        cls, folder: str | Path, config: dict[str, Any] | None = None, as_transformers: bool = True
    ) -> "Pretrained":
        """The tokenizer of a folder; `config` is the model's config.json, read from the folder by default.

        Raises:
            UserError: a file is missing or is not what its name says.
        """
        tokenizer = cls(as_transformers=as_transformers)
        tokenizer._restore(read_folder(Path(folder), config, as_transformers))
        return tokenizer

    def train(self, texts: Iterable[str]) -> None:
        raise UserError("Pretrained is trained already; give its folder with data.tokenizer.path")

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        self._check_trained()
        if not any(map(is_long, texts)):
            return encode_in_batches(self._inner, texts, None)
        continuation, split_points = self._find_splits()
        return encode_in_batches(self._inner, texts, split_points, continuation)

    def encode_segments(self, rows: Sequence[list[Segment]]) -> list[Encoded]:
        self._check_trained()
        if self._segment_encoder is None:
            self._segment_encoder = SegmentEncoder(self._inner, self._special_names)
        return self._segment_encoder.encode(rows)

    def _find_splits(self) -> tuple[Any, re.Pattern[str] | None]:
        if self._splits is None:  # it takes a while
            self._splits = find_splits(self._inner)
        return self._splits

    @property
    def split_points(self) -> re.Pattern[str] | None:  # type: ignore[override]
        """Where parts are encoded as in the whole; None where something is put ahead of a text."""
        if self._inner is None:
            return None
        continuation, split_points = self._find_splits()
        return split_points if continuation is self._inner else None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids as the library joins it, without special tokens."""
        ids = list(ids)
        joined = super().decode(ids)  # refuses what is past the vocabulary
        if not self.trained or self._bytes_alone:
            return joined
        return str(self._inner.decode([id for id in ids if id not in self._special_names], skip_special_tokens=True))

    def byte_lengths(self) -> list[int] | None:
        return [len(token) for token in self._token_bytes] if self._lossless else None

    @property
    def stop_ids(self) -> frozenset[int]:
        """All ids of the model's settings that end generation."""
        return frozenset(self._vocab_state["stop"])

    @property
    def end_ids(self) -> frozenset[int]:
        return self.stop_ids

    @property
    def unused_ids(self) -> frozenset[int]:
        return self._unused

    @property
    def starts_with_bos(self) -> bool:
        """Whether the tokenizer itself begins a text with `bos`."""
        return self._bos_ahead

    @property
    def chat_templates(self) -> dict[str, str]:
        return templates_of(self._vocab_state.get("files", {}), None)

    def hub_files(self) -> dict[str, str]:
        """The files as they were read, with tokens that were added; settings name no code of the folder.

        Where the class that they name would make other ids, they name the class that follows tokenizer.json.
        """
        self._check_trained()
        files = dict(self._vocab_state["files"])
        old_settings, old_content = parsed(files, None, SETTINGS), json.loads(files[MAIN])
        settings, content = {key: value for key, value in old_settings.items() if key != "auto_map"}, dict(old_content)
        read = {token["id"] for token in (self._vocab_state["pipeline"] or content)["added_tokens"]}
        new = [token for token in pipeline_of(self._inner)["added_tokens"] if token["id"] not in read]
        if not self._class_agrees(settings, content):
            settings["tokenizer_class"] = GENERIC
            if self._vocab_state["pipeline"] is not None:
                content = with_vocabulary(self._vocab_state["pipeline"], content)
        if new:
            content["added_tokens"] = [*content["added_tokens"], *new]
            if "added_tokens_decoder" in settings:
                plain = {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in new}
                settings["added_tokens_decoder"] = {**settings["added_tokens_decoder"], **plain}
        if content != old_content:
            files[MAIN] = as_json(content)
        if settings != old_settings:
            files[SETTINGS] = as_json(settings)
        return files

    def _class_agrees(self, settings: dict[str, Any], content: dict[str, Any]) -> bool:
        """Whether the class that the settings name makes these ids for a model of any type."""
        named = str(settings.get("tokenizer_class") or "")
        if named in (GENERIC, "TokenizersBackend"):
            return self._vocab_state["pipeline"] is None
        name = effective_class(named, None, '"ByteLevel"' in json.dumps(content.get("pre_tokenizer")))
        if name is None or content["model"].get("type") != "BPE":
            return False
        parts = []
        for inner in (from_content(rebuilt(name, content, settings), Path(MAIN)), self._inner):
            pipeline = pipeline_of(inner)
            model = {key: value or None for key, value in pipeline["model"].items()}  # no prefix is null or empty
            parts.append([pipeline["normalizer"], pipeline["pre_tokenizer"], model])
        return bool(parts[0] == parts[1])

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_splits": None, "_segment_encoder": None}

    def _restore(self, vocab_state: dict[str, Any]) -> None:
        from tokenizers import Tokenizer as Inner

        text = vocab_state["files"][MAIN]
        if vocab_state["pipeline"] is not None:
            text = json.dumps(with_vocabulary(vocab_state["pipeline"], json.loads(text)))
        inner: Any = Inner.from_str(text)
        inner.no_truncation()
        inner.no_padding()
        roles: dict[str, int] = vocab_state["roles"]
        special = {id: token.content for id, token in inner.get_added_tokens_decoder().items() if token.special}
        special |= {id: inner.id_to_token(id) for id in (*roles.values(), *vocab_state["stop"])}
        added, special_added = vocab_state.get("added", []), vocab_state.get("special", [])
        inner = add_tokens_in_text(inner, added, special_added)
        special |= {inner.token_to_id(text): text for text in special_added}
        in_text = {inner.token_to_id(text) for text in added if text not in special_added}
        in_text -= {*roles.values(), *vocab_state["stop"]}
        self._inner, self._vocab_state = inner, vocab_state
        self._splits = self._segment_encoder = None
        self._special_names = {id: text for id, text in special.items() if id not in in_text}
        self._in_text = {token.content: id for id, token in inner.get_added_tokens_decoder().items()}
        token_bytes, pipeline = vocabulary_bytes(inner), pipeline_of(inner)
        self._token_bytes = [b"" if id in self._special_names else token for id, token in enumerate(token_bytes)]
        self._unused = frozenset(range(len(token_bytes))) - set(inner.get_vocab(with_added_tokens=True).values())
        self._lossless, self._bytes_alone = is_lossless(inner, pipeline), decodes_bytes_alone(pipeline)
        for role in ROLES:
            setattr(self, role, roles.get(role))
        self._bos_ahead = self.bos is not None and inner.encode("", add_special_tokens=True).ids[:1] == [self.bos]
        self.vocab_size, self.trained = len(token_bytes), True
