"""Classes of the transformers library (version 5) that rebuild a tokenizer.json, so that ids here equal theirs.

Some of its classes take only vocabulary and merges from that file and build the rest anew, as their family's first
model had it; the ids of such a folder are those of the class. Nothing of that library is imported.
"""

from typing import Any

from lit_gpt.data.tokenizers.patterns import QWEN_WORDS
from lit_gpt.data.tokenizers.tokenizer_json import GENERIC

_REBUILDING = (
    "GPT2Tokenizer",
    "GPTNeoXTokenizer",
    "Qwen2Tokenizer",
    "LlamaTokenizer",
    "GemmaTokenizer",
    "CohereTokenizer",
)
_FOLLOW_THE_FILE = ("TokenizersBackend", "PythonBackend", GENERIC.removesuffix("Fast"), "MistralCommonBackend")
# The class that a model of this type has, where it is one of those above; the folder's settings mostly take precedence.
_OF_TYPE = {
    **dict.fromkeys(("gpt2", "gpt_neo", "gptj", "opt", "phi", "starcoder2", "dbrx", "codegen"), "GPT2Tokenizer"),
    **dict.fromkeys(("gpt_neox", "mpt", "olmo", "olmoe", "falcon_mamba"), "GPTNeoXTokenizer"),
    **dict.fromkeys(("qwen2", "qwen3", "qwen3_moe", "qwen2_moe"), "Qwen2Tokenizer"),
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma3_text"), "GemmaTokenizer"),
    **dict.fromkeys(("cohere", "cohere2"), "CohereTokenizer"),
    **dict.fromkeys(("mistral", "mistral3", "mixtral", "ministral"), "MistralCommonBackend"),
    **dict.fromkeys(
        ("granite", "olmo2", "olmo3", "stablelm", "gpt_bigcode", "phi3", "phimoe", "flex_olmo", "nemotron", "jamba"),
        "TokenizersBackend",
    ),
}
_TYPE_TAKES_PRECEDENCE = ("qwen2", "phi3", "phimoe", "nemotron", "jamba")  # whatever class the folder names


def effective_class(named: str | None, model_type: str | None, byte_level: bool) -> str | None:
    """The class that rebuilds the tokenizer, or None where tokenizer.json is followed.

    Args:
        named: `tokenizer_class` of tokenizer_config.json, else of config.json.
        model_type: That of config.json.
        byte_level: Whether tokenizer.json works on bytes.
    """
    named = named.removesuffix("Fast") if named else None
    registered = _OF_TYPE.get(model_type or "")
    if named is None:
        chosen = registered
    elif (
        named == "LlamaTokenizer"
        and byte_level
        and registered != "MistralCommonBackend"
        and model_type not in _TYPE_TAKES_PRECEDENCE
    ):
        chosen = None
    elif registered is None or registered == named:
        chosen = named
    elif registered in _FOLLOW_THE_FILE:
        chosen = None
    else:
        chosen = registered if model_type in _TYPE_TAKES_PRECEDENCE else named
    return chosen if chosen in _REBUILDING else None


def rebuilt(name: str, content: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """tokenizer.json as the class builds it, without added tokens, which the class adds itself.

    Args:
        name: The class.
        content: tokenizer.json.
        settings: tokenizer_config.json.
    """
    prefix = settings.get("add_prefix_space")
    normalizer: dict[str, Any] | None = None
    flags: dict[str, Any] = {"unk_token": None, "fuse_unk": False, "byte_fallback": False}
    decoder: dict[str, Any] = _byte_level(True)
    if name in ("GPT2Tokenizer", "GPTNeoXTokenizer"):
        normalizer = None if name == "GPT2Tokenizer" else {"type": "NFC"}
        splitting: dict[str, Any] = _byte_level(bool(prefix))
    elif name == "Qwen2Tokenizer":
        normalizer = {"type": "NFC"}
        words = {"type": "Split", "pattern": {"Regex": QWEN_WORDS}, "behavior": "Isolated", "invert": False}
        splitting = _sequence("pretokenizers", words, _byte_level(bool(prefix), use_regex=False))
    elif name == "CohereTokenizer":
        normalizer = {"type": "NFC"}
        splitting = _sequence("pretokenizers", {"type": "Digits", "individual_digits": True}, _byte_level(bool(prefix)))
    else:
        flags |= {"fuse_unk": True, "byte_fallback": True}
        spaces = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
        parts: list[dict[str, Any]] = [spaces, {"type": "ByteFallback"}, {"type": "Fuse"}]
        if name == "GemmaTokenizer":
            flags["unk_token"] = text_of(settings.get("unk_token")) or "<unk>"
            normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
            splitting = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
        else:
            ahead = prefix is None or bool(prefix)
            scheme = "never" if not ahead else "always" if settings.get("legacy", False) else "first"
            splitting = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
            parts += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if ahead else []
        decoder = _sequence("decoders", *parts)
    model = {"type": "BPE", "dropout": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, **flags}
    model |= {"ignore_merges": False, "vocab": content["model"]["vocab"], "merges": content["model"]["merges"]}
    return {
        **content,
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": splitting,
        "decoder": decoder,
        "model": model,
    }


def text_of(token: Any) -> str | None:
    """The text of a special token, which is a string or an object with its properties."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) and text else None


def _byte_level(prefix: bool, use_regex: bool = True) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def _sequence(inside: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", inside: list(parts)}
