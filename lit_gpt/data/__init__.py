"""Text to batches. Names are imported on first use, so that a tokenizer does not cost the import of lightning."""

from importlib import import_module
from typing import Any

_HOME = {
    "Augment": "augment.augment",
    "BPE": "tokenizers.bpe",
    "BPEDropout": "augment.bpe_dropout",
    "Batch": "sequences.datasets",
    "ByLength": "samplers.curriculum",
    "ByScore": "samplers.curriculum",
    "Byte": "tokenizers.byte_and_char",
    "Char": "tokenizers.byte_and_char",
    "Chat": "formats.chat",
    "ChatML": "formats.chat_templates",
    "Corpus": "corpus.corpus",
    "Csv": "sources.csv_files",
    "Curriculum": "samplers.curriculum",
    "Download": "sources.download",
    "ExactDuplicates": "filters.duplicates",
    "FillInTheMiddle": "formats.fill_in",
    "Filter": "filters.filter",
    "Format": "formats.format",
    "Gemma": "formats.chat_templates",
    "HubDataset": "sources.hub_dataset",
    "Instruction": "formats.records",
    "Jinja": "formats.jinja_template",
    "JsonLines": "sources.json_lines",
    "Labeled": "formats.records",
    "Language": "filters.language",
    "Length": "filters.filter",
    "Llama3": "formats.chat_templates",
    "Markers": "formats.chat_templates",
    "MaskTokens": "augment.augment",
    "Mixture": "sources.mixture",
    "NearDuplicates": "filters.duplicates",
    "Sampler": "samplers.samplers",
    "SampledSequences": "samplers.loading",
    "Packed": "sequences.packing",
    "Parquet": "sources.parquet",
    "Phi3": "formats.chat_templates",
    "PlainText": "formats.format",
    "Pretrained": "tokenizers.pretrained",
    "Prompts": "sequences.prompts",
    "RandomCrops": "samplers.samplers",
    "ReplaceTokens": "augment.augment",
    "Sequences": "sequences.datasets",
    "Saved": "tokenizers.from_checkpoint",
    "Seq2Seq": "formats.records",
    "SentencePiece": "tokenizers.sentence_piece",
    "Sequential": "samplers.samplers",
    "Shuffled": "samplers.samplers",
    "Source": "sources.source",
    "StandardLibrary": "sources.standard_library",
    "TextFiles": "sources.text_files",
    "Tiktoken": "tokenizers.tiktoken_",
    "TokenBudget": "samplers.token_budget",
    "TokenData": "module",
    "TokenStream": "tokenizers.byte_level",
    "Tokenizer": "tokenizers.tokenizer",
    "Windows": "sequences.datasets",
    "WordPiece": "tokenizers.word_piece",
    "write_corpus": "corpus.corpus",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lit_gpt.data' has no attribute {name!r}")
    return getattr(import_module(f"lit_gpt.data.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
