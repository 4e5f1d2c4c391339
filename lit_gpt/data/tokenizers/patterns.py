"""The patterns by which byte-level tokenizers split text into words before they join bytes, and where text may be cut.

Knows: regular expressions, and what llama.cpp calls them. Does not know: vocabularies, ids.

llama.cpp has no patterns in its files: `tokenizer.ggml.pre` names one that it was compiled with. Its
convert_hf_to_gguf.py finds the name by a hash of the *ids* of one check text (`chkhsh`), so it knows the tokenizers of
published models only, and stops at every vocabulary that was learned anew, whoever learned it. What can be had, and is
had here: a pipeline equal to that of a model it knows, so that the name in `llama_cpp` is the right one to tell it (in
a line of `get_vocab_base_pre`, or written into the file with gguf-py).
"""

import re
from typing import Literal, NamedTuple

PatternName = Literal["gpt2", "llama3", "qwen2", "o200k"]

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN_WORDS = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _REST
LLAMA_WORDS = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _REST
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT2_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# Neither side of these places is ever joined into one word, and no pattern looks back, so that parts cut here are
# encoded as they are in the whole. No match goes on from a character that is not a space into a space (into a line end
# GPT-2's does not, the others do after a mark), and none from a letter into a mark that is no apostrophe; the other way
# round, from a mark into a letter, the later patterns' do. Letters are those whose class is beyond doubt.
_AFTER_A_LETTER = r"(?<=[A-Za-zÀ-ÖØ-öø-ÿА-яぁ-ゖァ-ヺ一-龥가-힣])(?=[,.!?;:，。！？；：、…—）」』》”])"
BEFORE_A_SPACE_OR_MARK = re.compile(rf"(?<=\S)(?= )|{_AFTER_A_LETTER}")
BEFORE_A_SPACE_LINE_OR_MARK = re.compile(rf"(?<=\S)(?=[ \n])|{_AFTER_A_LETTER}")
ANYWHERE = re.compile("")


class Words(NamedTuple):
    """One way to split text into words.

    regex: As the tokenizers library reads it. llama_cpp: The name that llama.cpp has for it. takes_whole_words: Whether
    a word that is in the vocabulary is taken as it is, without joining its bytes step by step, as llama.cpp then
    does. split_points: Where a long text can be split.
    """

    regex: str
    llama_cpp: str
    takes_whole_words: bool
    split_points: re.Pattern[str]


PATTERNS: dict[str, Words] = {
    "gpt2": Words(_GPT2_WORDS, "gpt-2", False, BEFORE_A_SPACE_LINE_OR_MARK),
    "llama3": Words(LLAMA_WORDS, "llama-bpe", True, BEFORE_A_SPACE_OR_MARK),
    "qwen2": Words(QWEN_WORDS, "qwen2", False, BEFORE_A_SPACE_OR_MARK),
    "o200k": Words(_O200K, "gpt-4o", False, BEFORE_A_SPACE_OR_MARK),
}
