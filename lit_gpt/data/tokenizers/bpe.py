"""BPE: byte-level byte-pair encoding, learned here by the tokenizers library.

Knows: how it learns and encodes, and the format in which other programs read it. Does not know: where text comes from,
files of ids, batches, models.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from lit_gpt.data.tokenizers.added_tokens import refuse_ordinary_words, taught, token_bytes, with_added
from lit_gpt.data.tokenizers.batched_encode import encode_in_batches
from lit_gpt.data.tokenizers.patterns import PATTERNS, PatternName
from lit_gpt.data.tokenizers.safe_splits import split_long_words, split_text
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.data.tokenizers.tokenizer_json import files
from lit_gpt.errors import UserError


class BPE(Tokenizer):
    """Byte-level byte-pair encoding, learned from the training text; any text can be encoded and comes back unchanged.

    Sennrich et al. 2016 (arXiv:1508.07909) over bytes, by the tokenizers library. The vocabulary may be of any size:
    32,000 to 50,000 ids are common for large texts in one language.

    Args:
        vocab_size: Ids to learn, special tokens and the 256 bytes included; a short text gives fewer.
        separator: Special token between documents: it ends each and stands ahead of the first, and so serves as `bos`
            and as `eos` unless these are given. null for none.
        bos: Special token put ahead of every document; the separator by default.
        eos: Special token put after every document; the separator by default.
        pad: Special token for empty places; none by default.
        special: Further special tokens, by the names that a format or a mixture of texts asks for; none by default.
        train_chars: Most characters that the vocabulary is learned from, taken evenly through the training text; null
            for all of it.
        pattern: How text is split into words, across which no bytes are joined. gpt2: letters, digits and marks apart,
            each with the space ahead of it, runs of other white space for themselves. llama3: of at most three digits,
            a mark or tab may stand ahead of letters, line ends stay with the marks before them. qwen2: the same, each
            digit by itself. o200k: the same as llama3, and capitals begin a word. llama.cpp has them all; what it has
            to be told is in `lit_gpt.data.tokenizers.patterns`.
    """

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
        self._refuse_too_few()
        self._inner: Any = None
        self._vocab_state: dict[str, Any] = {}

    def _refuse_too_few(self) -> None:
        least, given = 256 + len(self._special_texts()), self._arguments["vocab_size"]
        if given < least:
            raise UserError(f"vocab_size {given} of BPE is below {least}, its bytes and special tokens; raise it")

    def train(self, texts: Iterable[str]) -> None:
        from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
        from tokenizers import Tokenizer as Inner

        inner = Inner(models.BPE(ignore_merges=self._words.takes_whole_words))
        if "pattern" in self._arguments:
            words = pre_tokenizers.Split(Regex(self._words.regex), "isolated")
            on_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            inner.pre_tokenizer = pre_tokenizers.Sequence([words, on_bytes])
        else:  # the library has GPT-2's, and other programs know it by that
            inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self._arguments["vocab_size"],
            special_tokens=self._special_texts(),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        parts = (
            part
            for text in texts
            for words in split_text(text, self._words.split_points)
            for part in split_long_words(words)
        )
        inner.train_from_iterator(parts, trainer)
        refuse_ordinary_words(inner, self._special_texts())
        self._restore({**self._vocab_state, "json": inner.to_str()})

    def add_tokens(self, texts: Iterable[str]) -> dict[str, int]:
        old, special = self._vocab_state.get("added", []), self._vocab_state.get("special", [])
        new = [text for text in dict.fromkeys(texts) if text not in old or text in special]
        learned = with_added(self._vocab_state, new) if new else self._vocab_state
        if not new or not self.trained:
            self._vocab_state = learned
            return {}
        before = self._inner.get_vocab(with_added_tokens=True)
        self._restore(learned)
        return {text: self._inner.token_to_id(text) for text in new if text not in before}

    def _has_special(self, name: str) -> bool:
        return name in self._vocab_state.get("added", []) or super()._has_special(name)

    def _grow(self, names: list[str]) -> None:
        if self.trained:
            self._restore(with_added(self._vocab_state, names, special=True))
        else:
            self._take_special(names)
            self._refuse_too_few()

    def configuration(self) -> dict[str, Any]:
        own = {key: list(self._vocab_state[key]) for key in ("added", "special") if self._vocab_state.get(key)}
        return {**super().configuration(), **own}

    def hub_files(self) -> dict[str, str]:
        self._trained_inner()
        return files(self._inner.to_str(), self._special_tokens, self.starts_with_bos)

    def encode(self, text: str) -> list[int]:
        return self.encode_arrays([text])[0].tolist()

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [ids.tolist() for ids in self.encode_arrays(texts)]

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        return encode_in_batches(self._trained_inner(), texts, self.split_points)

    def _trained_inner(self) -> Any:
        if self._inner is None:
            raise UserError("this BPE tokenizer has not been trained; train it on text or load a saved one")
        return self._inner

    def _learned(self) -> dict[str, Any]:
        return dict(self._vocab_state) if self.trained else {}

    def _restore(self, learned: dict[str, Any]) -> None:
        from tokenizers import Tokenizer as Inner

        inner: Any = Inner.from_str(learned["json"])
        added, never_in_text = learned.get("added", []), learned.get("special", [])
        roles, in_text = self._special_tokens.values(), [text for text in added if text not in never_in_text]
        special = [text for text in self._special_texts() if text in roles or text not in in_text]
        special_ids: dict[str, int] = {text: inner.token_to_id(text) for text in special}
        self._vocab_state = {key: value for key, value in learned.items() if value}
        self._inner = taught(inner, added, never_in_text)
        self._in_text = {text: self._inner.token_to_id(text) for text in in_text}
        special_ids |= {text: self._inner.token_to_id(text) for text in never_in_text}
        split_points = self._words.split_points
        self.split_points = None if any(split_points.search(text, 1) for text in in_text) else split_points
        pieces = token_bytes(self._inner)
        for id in special_ids.values():
            pieces[id] = b""
        self._settle(pieces, special_ids)
