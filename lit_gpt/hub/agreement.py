"""Warnings where two files of a Hugging Face folder disagree: weights, vocabularies, chat templates, special tokens.

The file that transformers prefers counts. Where versions of transformers differ (two files of weights, an adapter
beside a model, some fields of config.json), reading the folder is an error; see `folder` and `rotary`.
"""

import importlib.util
import json
from pathlib import Path
from typing import Any

from lit_gpt.hub.folder import read_json

_TOKENIZER, _SETTINGS, _MAP = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
_TEMPLATE, _GENERATION, _PIECES = "chat_template.jinja", "generation_config.json", "tokenizer.model"


def notes(folder: Path, config: dict[str, Any]) -> list[str]:
    """One line for each pair of files that disagree, in a folder that was read without an error."""
    found = [*_weights(folder), *_vocabularies(folder), *_settings(folder), *_ends(folder, config)]
    return [f"{folder}: {line}" for line in found]


def _weights(folder: Path) -> list[str]:
    """Weights in other formats, which are not read."""
    others = sorted(file.name for pattern in ("pytorch_model*.bin", "consolidated*") for file in folder.glob(pattern))
    return [f"{', '.join(others)} not read; the weights are those of *.safetensors"] if others else []


def _vocabularies(folder: Path) -> list[str]:
    if not (folder / _TOKENIZER).exists():
        return []
    content = read_json(folder / _TOKENIZER)
    ids = _ids_of(content["model"].get("vocab"))
    added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
    others = {"vocab.json": _from_json(folder / "vocab.json"), _PIECES: _from_pieces(folder / _PIECES)}
    lines = []
    for name, other in others.items():
        apart = [token for token, id in other.items() if added.get(token, ids.get(token)) != id]
        # Only tokenizer.json names an id that was reserved.
        taken = set(added.values())
        apart = [token for token in apart if other[token] not in taken]
        if apart:
            count = f"{len(apart)} token{'s' if len(apart) > 1 else ''}"
            told = f"{name} gives {count} another id than {_TOKENIZER}, such as {apart[0]!r}"
            lines.append(f"{told}; {_TOKENIZER} counts")
    return lines


def _ids_of(vocabulary: Any) -> dict[str, int]:
    """Ids by token, from a mapping or from the list of a Unigram model."""
    if isinstance(vocabulary, list):
        return {entry[0]: id for id, entry in enumerate(vocabulary)}
    return vocabulary if isinstance(vocabulary, dict) else {}


def _from_json(file: Path) -> dict[str, int]:
    return _ids_of(read_json(file)) if file.exists() else {}


def _from_pieces(file: Path) -> dict[str, int]:
    """Ids by piece of a SentencePiece model; empty if the library is not installed."""
    if not file.exists() or importlib.util.find_spec("sentencepiece") is None:
        return {}
    from sentencepiece import SentencePieceProcessor

    try:
        model = SentencePieceProcessor(model_file=str(file))
    except (OSError, RuntimeError):
        return {}  # not a model; it is not used
    return {model.id_to_piece(id): id for id in range(model.get_piece_size())}


def _settings(folder: Path) -> list[str]:
    settings = read_json(folder / _SETTINGS) if (folder / _SETTINGS).exists() else {}
    lines = []
    template = settings.get("chat_template")
    if (folder / _TEMPLATE).exists() and isinstance(template, str):
        if template.strip() != (folder / _TEMPLATE).read_text(encoding="utf-8").strip():
            lines.append(f"{_TEMPLATE} is not the chat_template of {_SETTINGS}; {_TEMPLATE} counts")
    special = read_json(folder / _MAP) if (folder / _MAP).exists() else {}
    for role in ("bos_token", "eos_token", "pad_token", "unk_token"):
        one, other = _text(settings.get(role)), _text(special.get(role))
        if one and other and one != other:
            lines.append(f"{role} is {one!r} in {_SETTINGS} and {other!r} in {_MAP}; {_SETTINGS} counts")
    return lines


def _text(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _ends(folder: Path, config: dict[str, Any]) -> list[str]:
    generation = read_json(folder / _GENERATION) if (folder / _GENERATION).exists() else {}
    one, other = (_listed(place.get("eos_token_id")) for place in (generation, config))
    if one and other and not set(other) <= set(one):
        by = f"{json.dumps(one)} by {_GENERATION} and at {json.dumps(other)} by config.json"
        return [f"texts end at {by}; {_GENERATION} counts"]
    return []


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
