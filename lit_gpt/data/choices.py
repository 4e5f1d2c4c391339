"""All classes that fill a component of the data, brought in so that the command line finds them by their short names.

Knows their names alone.
"""

from lit_gpt.data.augment.augment import MaskTokens, ReplaceTokens
from lit_gpt.data.augment.bpe_dropout import BPEDropout
from lit_gpt.data.filters.duplicates import ExactDuplicates, NearDuplicates
from lit_gpt.data.filters.filter import Length
from lit_gpt.data.filters.language import Language
from lit_gpt.data.formats.chat import Chat
from lit_gpt.data.formats.chat_templates import ChatML, Gemma, Llama3, Markers, Phi3
from lit_gpt.data.formats.fill_in import FillInTheMiddle
from lit_gpt.data.formats.format import PlainText
from lit_gpt.data.formats.jinja_template import Jinja
from lit_gpt.data.formats.records import Instruction, Labeled, Seq2Seq
from lit_gpt.data.samplers.curriculum import ByLength, ByScore, Curriculum
from lit_gpt.data.samplers.samplers import RandomCrops, Sequential, Shuffled
from lit_gpt.data.samplers.token_budget import TokenBudget
from lit_gpt.data.sequences.datasets import Windows
from lit_gpt.data.sequences.packing import Packed
from lit_gpt.data.sequences.prompts import Prompts
from lit_gpt.data.sources.csv_files import Csv
from lit_gpt.data.sources.download import Download
from lit_gpt.data.sources.hub_dataset import HubDataset
from lit_gpt.data.sources.json_lines import JsonLines
from lit_gpt.data.sources.mixture import Mixture
from lit_gpt.data.sources.parquet import Parquet
from lit_gpt.data.sources.standard_library import StandardLibrary
from lit_gpt.data.sources.text_files import TextFiles
from lit_gpt.data.tokenizers.bpe import BPE
from lit_gpt.data.tokenizers.byte_and_char import Byte, Char
from lit_gpt.data.tokenizers.from_checkpoint import Saved
from lit_gpt.data.tokenizers.pretrained import Pretrained
from lit_gpt.data.tokenizers.sentence_piece import SentencePiece
from lit_gpt.data.tokenizers.tiktoken_ import Tiktoken
from lit_gpt.data.tokenizers.word_piece import WordPiece

__all__ = [
    "BPE",
    "BPEDropout",
    "ByLength",
    "ByScore",
    "Byte",
    "Char",
    "Chat",
    "ChatML",
    "Csv",
    "Curriculum",
    "Download",
    "ExactDuplicates",
    "FillInTheMiddle",
    "Gemma",
    "HubDataset",
    "Instruction",
    "Jinja",
    "JsonLines",
    "Labeled",
    "Language",
    "Length",
    "Llama3",
    "Markers",
    "MaskTokens",
    "Mixture",
    "NearDuplicates",
    "Packed",
    "Parquet",
    "Phi3",
    "PlainText",
    "Pretrained",
    "Prompts",
    "RandomCrops",
    "ReplaceTokens",
    "Saved",
    "Seq2Seq",
    "SentencePiece",
    "Sequential",
    "Shuffled",
    "StandardLibrary",
    "TextFiles",
    "Tiktoken",
    "TokenBudget",
    "Windows",
    "WordPiece",
]
