"""The format in which other programs read a tokenizer: tokenizer.json of the tokenizers library, and its settings.

Knows that library and the names of its files. Does not know: how ids are made here.
"""

import json
from typing import Any

from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.tokenizers.byte_level import unicode_to_byte

GENERIC = "PreTrainedTokenizerFast"  # the class that takes tokenizer.json as it is, in every version of transformers


def files(inner: str, roles: dict[str, str], starts_with_bos: bool) -> dict[str, str]:
    """tokenizer.json and tokenizer_config.json.

    Args:
        inner: The tokenizer's JSON.
        roles: Texts of the special tokens by role: bos, eos, pad, unk.
        starts_with_bos: Whether `bos` is put ahead of texts, as `TextGenerator` puts it ahead of prompts.
    """
    content = parse_json(inner)
    content["truncation"] = content["padding"] = None
    if starts_with_bos:
        ids = {token["content"]: token["id"] for token in content["added_tokens"]}
        content["post_processor"] = bos_ahead(roles["bos"], ids[roles["bos"]])
    settings: dict[str, Any] = {"tokenizer_class": GENERIC, "clean_up_tokenization_spaces": False}
    settings |= {f"{role}_token": text for role, text in roles.items()}
    return {"tokenizer.json": as_json(content), "tokenizer_config.json": as_json(settings)}


def with_templates(files: dict[str, str], template: str | dict[str, str]) -> dict[str, str]:
    """The files with a chat template, or with several by name, in place of any that they have."""
    settings = parse_json(files.get("tokenizer_config.json", "{}"))
    kept = {
        name: text
        for name, text in files.items()
        if name != "chat_template.jinja" and not name.startswith("additional_chat_templates/")
    }
    said: Any = template
    if isinstance(template, dict):
        said = [{"name": name, "template": text} for name, text in template.items()]
    return {**kept, "tokenizer_config.json": as_json({**settings, "chat_template": said})}


def ends_of(files: dict[str, str], eos: int | None) -> list[int]:
    """Ids at which other programs end a text, given these files; beside a generation_config.json that alone counts.

    Args:
        files: Names and texts.
        eos: The id that config.json says.
    """
    if "generation_config.json" not in files:
        return [] if eos is None else [eos]
    named = parse_json(files["generation_config.json"]).get("eos_token_id")
    return named if isinstance(named, list) else [] if named is None else [named]


def with_ends(files: dict[str, str], roles: dict[str, int | None], ends: list[int]) -> dict[str, str]:
    """The files with ids at which generation ends, besides eos and those that they name.

    Args:
        files: Names and texts.
        roles: Ids as config.json says them: beside a generation_config.json nobody looks for them there.
        ends: Further ends.
    """
    said = {name: id for name, id in roles.items() if id is not None}
    generation = {**said, **parse_json(files.get("generation_config.json", "{}"))}
    named = ends_of({"generation_config.json": json.dumps(generation)}, None)
    eos = [] if roles["eos_token_id"] is None else [roles["eos_token_id"]]
    generation["eos_token_id"] = list(dict.fromkeys([*named, *eos, *ends]))
    return {**files, "generation_config.json": as_json(generation)}


def as_json(content: Any) -> str:
    """As these files are written."""
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def bytes_alone(special: list[str]) -> str:
    """Each byte is an id; special tokens follow."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    inner = Tokenizer(models.BPE(vocab=unicode_to_byte(), merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    return _with_special(inner, special)


def characters_alone(alphabet: str, special: list[str], unk: str | None) -> str:
    """Each character of the alphabet is an id, in its order; special tokens follow."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    ids = {character: id for id, character in enumerate(alphabet)} | {
        text: len(alphabet) + number for number, text in enumerate(special)
    }
    # Without an unknown token the library still wants its name; as it stands for no id, unknown characters are refused.
    inner = Tokenizer(models.WordLevel(vocab=ids, unk_token=unk or "<|no such character|>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    return _with_special(inner, special)


def characters_joined(ids: dict[str, int], pairs: list[tuple[str, str]], special: dict[str, int], unk: str) -> str:
    """Pieces of characters that pairs are joined to, in their order; what none of them spells is spelled by bytes."""
    from tokenizers import Tokenizer, decoders, models

    inner = Tokenizer(models.BPE(vocab=ids | special, merges=pairs, unk_token=unk, byte_fallback=True))
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return _with_special(inner, sorted(special, key=special.__getitem__))


def bytes_joined(ids: dict[str, int], pairs: list[tuple[str, str]], special: dict[str, int], regex: str) -> str:
    """Words by a pattern; each that is a token is taken as it is, in others pairs are joined in their order."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    inner = Tokenizer(models.BPE(vocab=ids | special, merges=pairs, ignore_merges=True))
    words = pre_tokenizers.Split(Regex(regex), "isolated")
    on_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.pre_tokenizer = pre_tokenizers.Sequence([words, on_bytes])
    inner.decoder = decoders.ByteLevel()
    return _with_special(inner, sorted(special, key=special.__getitem__))


def merges(order: dict[str, float]) -> list[tuple[str, str]]:
    """All pairs of tokens that make a token, in the order of what they make, then in that of their first, their second.

    Args:
        order: Each token's rank, the lowest first.
    """
    pairs = []
    for token in sorted(order, key=order.__getitem__):
        split = ((token[:at], token[at:]) for at in range(1, len(token)))
        known = [(one, two) for one, two in split if one in order and two in order]
        pairs += sorted(known, key=lambda pair: (order[pair[0]], order[pair[1]]))
    return pairs


def _with_special(inner: Any, special: list[str]) -> str:
    from tokenizers import AddedToken

    inner.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    made: str = inner.to_str()
    return made


def bos_ahead(bos: str, id: int) -> dict[str, Any]:
    """The step that puts one token ahead of a text."""
    ahead = {"SpecialToken": {"id": bos, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [ahead, first],
        "pair": [ahead, first, second],
        "special_tokens": {bos: {"id": bos, "ids": [id], "tokens": [bos]}},
    }
