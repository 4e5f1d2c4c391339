"""Small tokenizers of each kind that the hub has, in folders as it has them, and the transformers library to ask."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Inner

from lit_gpt.data import Tokenizer
from lit_gpt.data.tokenizers.transformers_classes import QWEN_WORDS

TEXT = [
    "the cat sat on the mat, it's 1234 dogs\n\n  def f(x):\n\treturn x + 1\n" * 30,
    "naïve Ωmega 道可道，非常道 cafe\u0301 \N{GRINNING FACE} we'll they've I'M" * 10,
]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PARTS = [
    *("the", "cat", " cat", "it's", "I'LL", " ", "  ", "   ", "\n", "\r\n", "\t", "\u3000", "\u00a0", "1", "1234", "é"),
    *(
        "e\u0301",
        "\u0301",
        "Ω",
        "道",
        "한국",
        "हिन्दी",
        "ﬁ",
        "①",
        "\N{GRINNING FACE}",
        "\N{FAMILY}",
        "\u200d",
        "\ufe0f",
        "\x00",
    ),
    *(
        "\x07",
        "\u2028",
        "▁",
        "<0x41>",
        "Ġ",
        "Å",
        "\ufeff",
        "!!",
        "...",
        "_",
        "-",
        "(",
        "<",
        "|",
        "\U0010ffff",
        "\ud7ff",
    ),
]


def random_texts(count: int, seed: int = 3) -> list[str]:
    """Text from all of Unicode but surrogates, and from what tokenizers treat each in its own way."""
    draw = random.Random(seed)
    texts = ["", " ", "  the", "\n\n the", "the  cat"]
    while len(texts) < count:
        parts = []
        for _ in range(draw.randint(1, 12)):
            point = draw.randrange(0x11_0000 - 0x800)
            any_character = chr(point if point < 0xD800 else point + 0x800)
            near = chr(draw.randrange(0x20, 0x600))
            parts.append(draw.choice([*draw.choices(PARTS, k=6), any_character, near]))
        texts.append("".join(parts))
    return texts


def byte_level(words: str | None = None, **model: Any) -> Inner:
    inner = Inner(models.BPE(**model))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if words:
        split = pre_tokenizers.Split(Regex(words), "isolated")
        inner.pre_tokenizer = pre_tokenizers.Sequence(
            [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
    inner.decoder = decoders.ByteLevel()
    learn(inner, ["<|endoftext|>"], sorted(pre_tokenizers.ByteLevel.alphabet()))
    return inner


def learn(inner: Inner, special: list[str], alphabet: list[str]) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(TEXT, trainer)


def llama3() -> Inner:
    inner = byte_level(LLAMA3, ignore_merges=True)
    bos = inner.token_to_id("<|endoftext|>")
    inner.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", bos)]
    )
    return inner


def qwen() -> Inner:
    inner = byte_level(QWEN_WORDS)
    inner.normalizer = normalizers.NFC()
    inner.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return inner


def neox() -> Inner:
    inner = byte_level()
    inner.normalizer = normalizers.NFC()
    inner.add_special_tokens(["<|padding|>"])
    inner.add_tokens([AddedToken(" " * n, normalized=True, special=False) for n in range(8, 1, -1)])
    return inner


def pieces_of_sentences(**unk: Any) -> Inner:
    """A model with the 256 byte tokens, learned with spaces as ▁."""
    inner = Inner(models.BPE(byte_fallback=True, fuse_unk=True, **unk))
    inner.normalizer = normalizers.Replace(" ", "▁")
    learn(inner, ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))], [])
    content = json.loads(inner.to_str())
    content["added_tokens"] = content["added_tokens"][:3]
    made = Inner.from_str(json.dumps(content))
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return made


def llama2() -> Inner:
    inner = pieces_of_sentences(unk_token="<unk>")
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return inner


def metaspace() -> Inner:
    inner = pieces_of_sentences(unk_token="<unk>")
    inner.normalizer = None
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return inner


def gemma() -> Inner:
    inner = pieces_of_sentences(unk_token="<unk>")
    inner.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return inner


GPT = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
SENTENCES = {
    "bos_token": {"__type": "AddedToken", "content": "<s>", "special": True},
    "eos_token": "</s>",
    "unk_token": "<unk>",
}
KINDS: dict[str, tuple[Callable[[], Inner], dict[str, Any], str, list[str]]] = {
    "gpt2": (byte_level, GPT, "gpt2", ["GPT2Tokenizer", "GPT2TokenizerFast"]),
    "llama3": (llama3, GPT, "llama", ["LlamaTokenizer"]),
    "digits": (lambda: byte_level(LLAMA3), GPT, "llama", ["GPT2Tokenizer"]),  # the class does not know them
    "qwen2": (qwen, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, "qwen2", ["Qwen2Tokenizer"]),
    "qwen3": (qwen, {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}, "qwen3", ["Qwen2Tokenizer"]),
    "plain_under_qwen2": (byte_level, GPT, "qwen2", ["GPT2Tokenizer"]),
    "neox": (neox, GPT, "gpt_neox", ["GPTNeoXTokenizer"]),
    "llama2": (llama2, SENTENCES, "llama", ["LlamaTokenizer", "LlamaTokenizerFast"]),
    "mistral": (llama2, SENTENCES, "mistral", ["LlamaTokenizer"]),
    "phi3": (llama2, SENTENCES, "phi3", ["LlamaTokenizer"]),
    "metaspace": (metaspace, SENTENCES, "mixtral", ["LlamaTokenizer"]),
    "gemma": (gemma, SENTENCES, "gemma2", ["GemmaTokenizer"]),
}
CASES = [(kind, name) for kind, parts in KINDS.items() for name in (*parts[3], "PreTrainedTokenizerFast", None)]
MADE: dict[str, str] = {}


def folder_of(place: Path, kind: str, class_name: str | None = "PreTrainedTokenizerFast", **more: Any) -> Path:
    make, settings, model_type, _ = KINDS[kind]
    if kind not in MADE:
        MADE[kind] = make().to_str()
    place.mkdir(exist_ok=True)
    (place / "tokenizer.json").write_text(MADE[kind])
    settings = {**settings, **({"tokenizer_class": class_name} if class_name else {}), **more}
    (place / "tokenizer_config.json").write_text(json.dumps(settings))
    (place / "config.json").write_text(json.dumps({"model_type": model_type}))
    return place


def theirs(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(folder)


def assert_equal_to(other: Any, ours: Tokenizer, texts: list[str]) -> None:
    wanted = other(texts, add_special_tokens=False).input_ids
    for text, ids, right in zip(texts, ours.encode_batch(texts), wanted, strict=True):
        assert ids == right, repr(text)
    for ids in wanted:
        assert ours.decode(ids) == other.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def written(place: Path, tokenizer: Tokenizer) -> Path:
    place.mkdir()
    for name, text in tokenizer.hub_files().items():
        (place / name).write_text(text)
    return place


def without_tokens_across_words(inner: Inner) -> str:
    content = json.loads(inner.to_str())
    model = content["model"]
    if model["byte_fallback"]:
        kept = [pair for pair in model["merges"] if not re.search("[^▁]▁", "".join(pair))]
        model["merges"] = kept
        gone = {token for token in model["vocab"] if re.search("[^▁]▁", token)}
        model["vocab"] = {token: id for token, id in model["vocab"].items() if token not in gone}
        known = model["vocab"]
        model["merges"] = [pair for pair in kept if all(part in known for part in pair)]
    return json.dumps(content)
