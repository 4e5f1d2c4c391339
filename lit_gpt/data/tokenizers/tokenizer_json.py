"""tokenizer.json and tokenizer_config.json: how tokenizers are written for transformers and other programs."""

import json
from collections.abc import Mapping
from typing import Any

from lit_gpt.config.safe_parsing import parse_json

GENERIC = "PreTrainedTokenizerFast"  # the class that takes tokenizer.json as it is, in every version of transformers


def files(inner: str, roles: dict[str, str], starts_with_bos: bool) -> dict[str, str]:
    """The two files by name.

    Args:
        inner: tokenizer.json of the tokenizers library.
        roles: Texts of the special tokens by role: bos, eos, pad, unk.
        starts_with_bos: Whether `bos` is put ahead of texts.
    """
    content = parse_json(inner)
    content["truncation"] = content["padding"] = None
    if starts_with_bos:
        ids = {token["content"]: token["id"] for token in content["added_tokens"]}
        content["post_processor"] = bos_template(roles["bos"], ids[roles["bos"]])
    settings: dict[str, Any] = {"tokenizer_class": GENERIC, "clean_up_tokenization_spaces": False}
    settings |= {f"{role}_token": text for role, text in roles.items()}
    return {"tokenizer.json": as_json(content), "tokenizer_config.json": as_json(settings)}


def with_templates(files: dict[str, str], template: str | dict[str, str]) -> dict[str, str]:
    """The files with a chat template, or several by name, in place of their own."""
    settings = parse_json(files.get("tokenizer_config.json", "{}"))
    own = ("chat_template.jinja", "additional_chat_templates/")
    kept = {name: text for name, text in files.items() if not name.startswith(own)}
    value: Any = template
    if isinstance(template, dict):
        value = [{"name": name, "template": text} for name, text in template.items()]
    return {**kept, "tokenizer_config.json": as_json({**settings, "chat_template": value})}


def ends_of(files: dict[str, str], eos: int | None) -> list[int]:
    """Ids at which other programs end generation; a generation_config.json takes precedence over config.json.

    Args:
        files: Texts by name.
        eos: The id of config.json.
    """
    if "generation_config.json" not in files:
        return [] if eos is None else [eos]
    ends = parse_json(files["generation_config.json"]).get("eos_token_id")
    return ends if isinstance(ends, list) else [] if ends is None else [ends]


def with_ends(files: dict[str, str], roles: dict[str, int | None], ends: list[int]) -> dict[str, str]:
    """The files with further ids at which generation ends.

    Args:
        files: Texts by name.
        roles: Ids of config.json, which count no more beside a generation_config.json.
        ends: The further ids.
    """
    known = {name: id for name, id in roles.items() if id is not None}
    generation = {**known, **parse_json(files.get("generation_config.json", "{}"))}
    named = ends_of({"generation_config.json": json.dumps(generation)}, None)
    eos = [] if roles["eos_token_id"] is None else [roles["eos_token_id"]]
    generation["eos_token_id"] = list(dict.fromkeys([*named, *eos, *ends]))
    return {**files, "generation_config.json": as_json(generation)}


def as_json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def byte_level_bpe(
    ids: dict[str, int], pairs: list[tuple[str, str]], special: dict[str, int], regex: str | None
) -> str:
    """Byte-level BPE over words of a pattern, which are taken whole if they are tokens; without one, over the text."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    inner = Tokenizer(models.BPE(vocab=ids, merges=pairs, ignore_merges=regex is not None))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if regex is not None:
        words = pre_tokenizers.Split(Regex(regex), "isolated")
        inner.pre_tokenizer = pre_tokenizers.Sequence([words, inner.pre_tokenizer])
    inner.decoder = decoders.ByteLevel()
    return _with_special(inner, special)


def characters(ids: dict[str, int], special: dict[str, int], unk: str | None) -> str:
    """Each character is an id."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    # Without an unknown token the library still wants its name; as it has no id, unknown characters are refused.
    inner = Tokenizer(models.WordLevel(vocab=ids | special, unk_token=unk or "<|no such character|>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    inner.decoder = decoders.Fuse()
    return _with_special(inner, special)


def character_bpe(ids: dict[str, int], pairs: list[tuple[str, str]], special: dict[str, int], unk: str) -> str:
    """BPE over characters, with bytes for characters that are no token."""
    from tokenizers import Tokenizer, decoders, models

    inner = Tokenizer(models.BPE(vocab=ids | special, merges=pairs, unk_token=unk, byte_fallback=True))
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return _with_special(inner, special)


def merges(order: Mapping[str, float]) -> list[tuple[str, str]]:
    """All pairs of tokens that make a token, in the order of that token, of the first, of the second.

    Args:
        order: Each token's rank, the lowest first.
    """
    pairs = []
    for token in sorted(order, key=order.__getitem__):
        splits = ((token[:at], token[at:]) for at in range(1, len(token)))
        known = [pair for pair in splits if pair[0] in order and pair[1] in order]
        pairs += sorted(known, key=lambda pair: (order[pair[0]], order[pair[1]]))
    return pairs


def _with_special(inner: Any, special: dict[str, int]) -> str:
    from tokenizers import AddedToken

    texts = sorted(special, key=special.__getitem__)
    inner.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in texts])
    return str(inner.to_str())


def bos_template(bos: str, id: int) -> dict[str, Any]:
    """The post-processor that puts one token ahead of a text."""
    ahead = {"SpecialToken": {"id": bos, "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [ahead, first],
        "pair": [ahead, first, second],
        "special_tokens": {bos: {"id": bos, "ids": [id], "tokens": [bos]}},
    }
