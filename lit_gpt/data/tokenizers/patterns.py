"""Pre-tokenization patterns of byte-level tokenizers, and where text can be split without changing its ids.

llama.cpp has no patterns in its files: `tokenizer.ggml.pre` names one that it was compiled with. Its
convert_hf_to_gguf.py finds the name by a hash of the *ids* of one text (`chkhsh`), so it knows the tokenizers of
published models only. `llama_cpp` below is the name of the equal pipeline: add it to a line of `get_vocab_base_pre`,
or write it into the file with gguf-py.
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

# No word goes over these points, and no pattern looks back, so that parts are encoded as in the whole. No match goes on
# from another character into a space (into a line end GPT-2's does not, the others do after a mark), and none
# from a letter into a mark that is no apostrophe; the later patterns go on from a mark into a letter. Letters are those
# whose class is beyond doubt.
_AFTER_A_LETTER = r"(?<=[A-Za-zÀ-ÖØ-öø-ÿА-яぁ-ゖァ-ヺ一-龥가-힣])(?=[,.!?;:，。！？；：、…—）」』》”])"
BEFORE_A_SPACE_OR_MARK = re.compile(rf"(?<=\S)(?= )|{_AFTER_A_LETTER}")
BEFORE_A_SPACE_LINE_OR_MARK = re.compile(rf"(?<=\S)(?=[ \n])|{_AFTER_A_LETTER}")
ANYWHERE = re.compile("")


class Words(NamedTuple):
    """A way to split text into words.

    regex: As the tokenizers library reads it. llama_cpp: Its name there. takes_whole_words: Whether a word of the
    vocabulary is taken without merging its bytes, as llama.cpp then does. split_points: Where a long text can be split.
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
