"""Text to batches. Names are imported on first use, so that a tokenizer does not cost the import of lightning."""

from importlib import import_module
from typing import Any

_HOME = {
    "BPE": "tokenizers",
    "Batch": "datasets",
    "Byte": "tokenizers",
    "Char": "tokenizers",
    "Corpus": "corpus",
    "Order": "samplers",
    "Ordered": "datasets",
    "Pretrained": "pretrained",
    "RandomCrops": "samplers",
    "Saved": "tokenizers",
    "Sequential": "samplers",
    "Shuffled": "samplers",
    "Source": "sources",
    "StandardLibrary": "sources",
    "TextFiles": "sources",
    "TokenData": "module",
    "TokenStream": "byte_level",
    "Tokenizer": "tokenizers",
    "Windows": "datasets",
    "write_corpus": "corpus",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lit_gpt.data' has no attribute {name!r}")
    return getattr(import_module(f"lit_gpt.data.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
