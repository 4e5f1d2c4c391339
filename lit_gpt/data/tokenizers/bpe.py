"""BPE: byte-level byte-pair encoding, trained with the tokenizers library."""

from collections.abc import Iterable
from typing import Any

from lit_gpt.data.tokenizers.added_tokens import add_tokens_in_text, refuse_ordinary_words, vocabulary_bytes
from lit_gpt.data.tokenizers.library_tokenizer import LibraryTokenizer
from lit_gpt.data.tokenizers.patterns import PATTERNS, PatternName
from lit_gpt.data.tokenizers.safe_splits import split_for_training
from lit_gpt.errors import UserError


class BPE(LibraryTokenizer):
    """Byte-level byte-pair encoding, trained on the training text; it encodes any text without loss.

    Sennrich et al. 2016 (arXiv:1508.07909) over bytes, by the tokenizers library. The vocabulary may be of any size:
    32,000 to 50,000 ids are common for large texts in one language.

    Args:
        vocab_size: Ids to learn, special tokens and the 256 bytes included; a short text gives fewer.
        separator: Special token between documents, after each and before the first; it is the `bos` and the `eos`
            unless these are given. null for none.
        bos: Special token before every document; the separator by default.
        eos: Special token after every document; the separator by default.
        pad: Special token for padding; none by default.
        special: Further special tokens, as a format or a mixture of sources needs them; none by default.
        train_chars: Most characters that the vocabulary is learned from, taken evenly through the training text; null
            for all of it.
        pattern: How text is split into words, across which no bytes are merged. gpt2: letters, digits and marks apart,
            each with the space before it. llama3: also numbers of at most three digits, a mark or tab before letters,
            line ends with the marks before them. qwen2: as llama3, with each digit by itself. o200k: as llama3, and
            capitals begin a word. For llama.cpp see `lit_gpt.data.tokenizers.patterns`.
    """

    _min_ids = 256

    def __init__(
        self,
        vocab_size: int = 4096,
        separator: str | None = "<|endoftext|>",
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
        special: list[str] | None = None,
        train_chars: int | None = 200_000_000,
        pattern: PatternName = "gpt2",
    ) -> None:
        super().__init__(special, bos=bos or separator, eos=eos or separator, pad=pad)
        self._arguments = {"vocab_size": vocab_size, "separator": separator, "bos": bos, "eos": eos, "pad": pad}
        if pattern not in PATTERNS:
            raise UserError(f"pattern {pattern!r} of BPE is not known; give one of {', '.join(PATTERNS)}")
        if pattern != "gpt2":
            self._arguments["pattern"] = pattern
        self._words = PATTERNS[pattern]
        self.split_points = self._words.split_points
        self.vocab_size = vocab_size
        self._set_train_chars(train_chars)
        self._check_vocab_size()

    def train(self, texts: Iterable[str]) -> None:
        from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
        from tokenizers import Tokenizer as Inner

        inner = Inner(models.BPE(ignore_merges=self._words.takes_whole_words))
        if "pattern" in self._arguments:
            words = pre_tokenizers.Split(Regex(self._words.regex), "isolated")
            on_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            inner.pre_tokenizer = pre_tokenizers.Sequence([words, on_bytes])
        else:  # built into the library, and known to other programs by that
            inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self._arguments["vocab_size"],
            special_tokens=self._special_texts(),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        inner.train_from_iterator(split_for_training(texts, self._words.split_points), trainer)
        refuse_ordinary_words(inner, self._special_texts())
        self._restore({**self._vocab_state, "json": inner.to_str()})

    def configuration(self) -> dict[str, Any]:
        added = {key: list(self._vocab_state[key]) for key in ("added", "special") if self._vocab_state.get(key)}
        return {**super().configuration(), **added}

    def _restore(self, vocab_state: dict[str, Any]) -> None:
        from tokenizers import Tokenizer as Inner

        inner: Any = Inner.from_str(vocab_state["json"])
        added, special_added = vocab_state.get("added", []), vocab_state.get("special", [])
        roles, in_text = self._special_tokens.values(), [text for text in added if text not in special_added]
        special = [text for text in self._special_texts() if text in roles or text not in in_text]
        special_ids: dict[str, int] = {text: inner.token_to_id(text) for text in special}
        self._vocab_state = {key: value for key, value in vocab_state.items() if value}
        self._inner = add_tokens_in_text(inner, added, special_added)
        self._in_text = {text: self._inner.token_to_id(text) for text in in_text}
        special_ids |= {text: self._inner.token_to_id(text) for text in special_added}
        split_points = self._words.split_points
        # A split must not go through an added token.
        self.split_points = None if any(split_points.search(text, 1) for text in in_text) else split_points
        token_bytes = vocabulary_bytes(self._inner)
        for id in special_ids.values():
            token_bytes[id] = b""
        self._set_vocabulary(token_bytes, special_ids)
