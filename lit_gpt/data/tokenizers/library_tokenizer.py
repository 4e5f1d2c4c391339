"""Base class of tokenizers that the tokenizers library runs: BPE, WordPiece, Pretrained."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np

from lit_gpt.data.tokenizers.added_tokens import with_added
from lit_gpt.data.tokenizers.batched_encode import encode_in_batches
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.data.tokenizers.tokenizer_json import files


class LibraryTokenizer(Tokenizer, ABC):
    """A tokenizer whose `_inner` is the library's; tokens that are added are kept in the state."""

    _inner: Any = None

    @abstractmethod
    def _restore(self, vocab_state: dict[str, Any]) -> None: ...

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._inner is not None:
            self._inner.encode_special_tokens = True  # which the library forgets when it is pickled

    def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
        self._check_trained()
        return encode_in_batches(self._inner, texts, self.split_points)

    def hub_files(self) -> dict[str, str]:
        self._check_trained()
        return files(self._inner.to_str(), self._special_tokens, self.starts_with_bos)

    def add_tokens(self, texts: Iterable[str]) -> dict[str, int]:
        added, special = self._vocab_state.get("added", []), self._vocab_state.get("special", [])
        new = [text for text in dict.fromkeys(texts) if text not in added or text in special]
        if not new:
            return {}
        vocab_state = with_added(self._vocab_state, new)
        if not self.trained:
            self._vocab_state = vocab_state
            return {}
        before = self._inner.get_vocab(with_added_tokens=True)
        self._restore(vocab_state)
        return {text: self._inner.token_to_id(text) for text in new if text not in before}

    def _has_special(self, name: str) -> bool:
        return name in self._vocab_state.get("added", []) or super()._has_special(name)

    def _add_special(self, names: list[str]) -> None:
        if self.trained:
            self._restore(with_added(self._vocab_state, names, special=True))
        else:
            super()._add_special(names)
