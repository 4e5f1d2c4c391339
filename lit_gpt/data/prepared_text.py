"""PreparedText: the texts of a TokenData as a recipe, a tokenizer and corpora, which are prepared on first use."""

from collections.abc import Callable
from typing import Any

from lit_gpt.data.corpus.corpus import Corpus
from lit_gpt.data.corpus.engines import Engine
from lit_gpt.data.corpus.prepare import prepare
from lit_gpt.data.corpus.prepared import Prepared
from lit_gpt.data.corpus.recipe import TEST, TRAIN, VAL, Recipe
from lit_gpt.data.filters.filter import Filter
from lit_gpt.data.formats.format import Format
from lit_gpt.data.sources.source import Source
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError


class PreparedText:
    """The texts of a TokenData: a recipe that can be made again, and what `prepare` makes of it once.

    Args:
        tokenizer: Factory of the tokenizer, trained or to be trained.
        add_tokens: Special tokens to add to it.
        vocab_size: Token ids of the net; None: the tokenizer's, rounded up to a multiple of 64.
        folder: Where the corpora are kept; None: in the cache.
        parts: Factories of the source, the format, the validation source and the test source; None: none.
        extra_val: Factories of the sources of further validation texts, by name.
        filters: Factories of the filters.
        constants: Values of the other arguments of `Recipe`.
    """

    def __init__(
        self,
        tokenizer: Callable[[], Tokenizer],
        add_tokens: list[str],
        vocab_size: int | None,
        folder: str | None,
        parts: dict[str, Callable[[], Any] | None],
        extra_val: dict[str, Callable[[], Source]],
        filters: list[Callable[[], Filter]],
        constants: dict[str, Any],
    ) -> None:
        self._new_tokenizer, self.add_tokens, self.asked_vocab_size = tokenizer, add_tokens, vocab_size
        self._folder, self.parts, self._constants = folder, parts, constants
        self._extra_val, self._filters = extra_val, filters
        self.engine: Engine | None = None  # who tokenizes, where a caller wants another than the default
        self._prepared: Prepared | None = None

    def recipe(self) -> Recipe:
        """All that decides which token ids are written; made anew by each call."""
        tokenizer = self._new_tokenizer()
        if self.add_tokens:
            tokenizer.add_tokens(self.add_tokens)
        parts = {name: new() for name, new in self.parts.items() if new is not None}
        extra_val = {name: new() for name, new in self._extra_val.items()}
        filters = [new() for new in self._filters]
        return Recipe(tokenizer=tokenizer, extra_val=extra_val, filters=filters, **parts, **self._constants)

    @property
    def prepared(self) -> Prepared:
        """Tokenizer and corpora; made on first use, by one process for all."""
        if self._prepared is None:
            self._prepared = prepare(self.recipe(), self._folder, self.engine)
        return self._prepared

    @property
    def tokenizer(self) -> Tokenizer:
        """The trained tokenizer."""
        return self.prepared.tokenizer

    @property
    def format(self) -> Format:
        """The format of the documents, with what it takes from the tokenizer."""
        new = self.parts["format"]
        assert new is not None
        format: Format = new()
        return format.for_tokenizer(self.tokenizer)

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Takes a trained tokenizer, such as a checkpoint's, instead of training one."""
        self._new_tokenizer, self._prepared = tokenizer, None

    def vocab_size(self, tokenizer: Tokenizer) -> int:
        """Token ids that a net for this tokenizer has: `vocab_size` as given, else the next multiple of 64.

        Raises:
            UserError: What was given is too few.
        """
        needed, asked = tokenizer.vocab_size, self.asked_vocab_size
        if asked is not None and asked < needed:
            raise UserError(f"vocab_size {asked} is less than the tokenizer's {needed} ids; raise it or remove it")
        return -(-needed // 64) * 64 if asked is None else asked

    def splits(self) -> list[str]:
        """Names of the texts: train, val, the further validation texts, and test where there is one."""
        return [TRAIN, VAL, *self._extra_val, *([TEST] if TEST in self.prepared.corpora else [])]

    def corpus(self, split: str) -> Corpus:
        """The token ids of train, val, test or of a further validation text by its name."""
        corpora = self.prepared.corpora
        corpus = corpora.get(split) or corpora.get(f"extra/{split}")
        if corpus is None:
            raise UserError(f"there is no text {split!r} in the data; there are {', '.join(corpora)}")
        return corpus
