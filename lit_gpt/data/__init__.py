"""Text to batches. Names are imported on first use, so that a tokenizer does not cost the import of lightning."""

from importlib import import_module
from typing import Any

_HOME = {
    "Augment": "augment",
    "BPE": "tokenizers",
    "BPEDropout": "bpe_dropout",
    "Batch": "datasets",
    "ByLength": "curriculum",
    "ByScore": "curriculum",
    "Byte": "tokenizers",
    "Char": "tokenizers",
    "Chat": "chat",
    "ChatML": "chat_templates",
    "Corpus": "corpus",
    "Csv": "csv_files",
    "Curriculum": "curriculum",
    "Download": "download",
    "ExactDuplicates": "duplicates",
    "FillInTheMiddle": "fill_in",
    "Filter": "filters",
    "Form": "forms",
    "Gemma": "chat_templates",
    "HubDataset": "hub_dataset",
    "Instruction": "records",
    "Jinja": "jinja_template",
    "JsonLines": "json_lines",
    "Labelled": "records",
    "Language": "language",
    "Length": "filters",
    "Llama3": "chat_templates",
    "Markers": "chat_templates",
    "MaskTokens": "augment",
    "Mixture": "mixture",
    "NearDuplicates": "duplicates",
    "Order": "samplers",
    "Ordered": "loading",
    "Packed": "packing",
    "Parquet": "parquet",
    "Phi3": "chat_templates",
    "PlainText": "forms",
    "Pretrained": "pretrained",
    "Prompts": "prompts",
    "RandomCrops": "samplers",
    "ReplaceTokens": "augment",
    "Rows": "datasets",
    "Saved": "tokenizers",
    "Seq2Seq": "records",
    "SentencePiece": "sentence_piece",
    "Sequential": "samplers",
    "Shuffled": "samplers",
    "Source": "sources",
    "StandardLibrary": "sources",
    "TextFiles": "text_files",
    "Tiktoken": "tiktoken_",
    "TokenBudget": "token_budget",
    "TokenData": "module",
    "TokenStream": "byte_level",
    "Tokenizer": "tokenizers",
    "Windows": "datasets",
    "WordPiece": "word_piece",
    "write_corpus": "corpus",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lit_gpt.data' has no attribute {name!r}")
    return getattr(import_module(f"lit_gpt.data.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
