"""WordPiece: words in subwords of characters, as in BERT, trained with the tokenizers library."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from lit_gpt.data.progress import say
from lit_gpt.data.tokenizers.added_tokens import refuse_ordinary_words
from lit_gpt.data.tokenizers.library_tokenizer import LibraryTokenizer
from lit_gpt.data.tokenizers.patterns import BEFORE_A_SPACE_LINE_OR_MARK
from lit_gpt.data.tokenizers.safe_splits import split_for_training
from lit_gpt.data.tokenizers.tokenizer import Tokenizer

_CONTINUED = "##"


class WordPiece(LibraryTokenizer):
    """Words in the longest subwords of the vocabulary, which is learned from the training text.

    Schuster and Nakajima 2012; Devlin et al. 2018 (arXiv:1810.04805), by the tokenizers library. It is not lossless:
    white space becomes one space, and a word that cannot be spelled, or is longer than 100 characters, becomes `unk`.
    For lossless encoding take BPE or SentencePiece.

    Args:
        vocab_size: Ids to learn, special tokens included; a short text gives fewer. Where the text has more characters
            than that, the rarest become `unk`, which is reported.
        separator: Special token between documents, after each and before the first; it is the `bos` and the `eos`
            unless these are given. null for none.
        bos: Special token before every document; the separator by default.
        eos: Special token after every document; the separator by default.
        pad: Special token for padding; none by default.
        unk: Special token for words that cannot be spelled; [UNK] by default.
        special: Further special tokens, as a format or a mixture of sources needs them; none by default.
        train_chars: Most characters that the vocabulary is learned from, taken evenly through the training text; null
            for all of it.
        normalize: Clean text as BERT's uncased models do: lower case, no accents, no control characters, Chinese
            characters as words of their own.
    """

    split_points = BEFORE_A_SPACE_LINE_OR_MARK
    _min_ids = 1
    add_tokens, _add_special = Tokenizer.add_tokens, Tokenizer._add_special  # the state keeps no added tokens

    def __init__(
        self,
        vocab_size: int = 4096,
        separator: str | None = "<|endoftext|>",
        bos: str | None = None,
        eos: str | None = None,
        pad: str | None = None,
        unk: str | None = None,
        special: list[str] | None = None,
        train_chars: int | None = 200_000_000,
        normalize: bool = False,
    ) -> None:
        super().__init__(special, bos=bos or separator, eos=eos or separator, pad=pad, unk=unk or "[UNK]")
        self._arguments = {"vocab_size": vocab_size, "separator": separator, "bos": bos, "eos": eos, "pad": pad}
        self._arguments |= {"unk": unk, "normalize": normalize}
        self.vocab_size = vocab_size
        self._set_train_chars(train_chars)
        self._check_vocab_size()

    def train(self, texts: Iterable[str]) -> None:
        from tokenizers import Tokenizer as Inner
        from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

        inner = Inner(models.WordPiece(unk_token=self._special_tokens["unk"], continuing_subword_prefix=_CONTINUED))
        # A normalizer of its own, as asking `inner` would wait for the end of its training.
        normalizer = normalizers.BertNormalizer() if self._arguments["normalize"] else None
        if normalizer is not None:
            inner.normalizer = normalizer
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        inner.decoder = decoders.WordPiece(prefix=_CONTINUED)
        trainer = trainers.WordPieceTrainer(
            vocab_size=self._arguments["vocab_size"],
            special_tokens=self._special_texts(),
            continuing_subword_prefix=_CONTINUED,
            show_progress=False,
        )
        counts = Counter[str]()

        def parts() -> Iterator[str]:
            for part in split_for_training(texts, self.split_points):
                counts.update(part if normalizer is None else normalizer.normalize_str(part))
                yield part

        inner.train_from_iterator(parts(), trainer)
        self._restore({"json": self._within_size(inner.to_str(), counts)})

    def _within_size(self, learned: str, counts: Counter[str]) -> str:
        """The tokenizer without the rarest characters, where the library took more than `vocab_size` ids."""
        content = json.loads(learned)
        vocabulary: dict[str, int] = content["model"]["vocab"]
        size, special = self._arguments["vocab_size"], set(self._special_texts())
        if len(vocabulary) <= size:
            return learned
        # All but special tokens are characters, at the beginning of a word and after it.
        pieces = {piece: piece.removeprefix(_CONTINUED) or piece for piece in vocabulary if piece not in special}
        kept = sorted(pieces, key=lambda piece: (-counts[pieces[piece]], pieces[piece], len(piece)))[
            : size - len(special)
        ]
        ordered = [*sorted(special & vocabulary.keys(), key=vocabulary.__getitem__), *kept]
        content["model"]["vocab"] = {piece: number for number, piece in enumerate(ordered)}
        for token in content["added_tokens"]:
            token["id"] = content["model"]["vocab"][token["content"]]
        lost = {pieces[piece] for piece in pieces.keys() - set(kept)}
        say(
            f"vocab_size {size} of WordPiece is less than the {len(vocabulary):,} ids that the characters of the text"
            f" take: words with the rarest of them ({len(lost):,} of {len(set(pieces.values())):,}) become"
            f" {self._special_tokens['unk']}; raise it to keep them"
        )
        return json.dumps(content, ensure_ascii=False)

    def decode(self, ids: Iterable[int]) -> str:
        """Words joined by single spaces, marks by none, as the library joins them; special tokens are skipped."""
        return super().decode(ids).removeprefix(" ")

    def _restore(self, vocab_state: dict[str, Any]) -> None:
        from tokenizers import AddedToken
        from tokenizers import Tokenizer as Inner

        inner: Any = Inner.from_str(vocab_state["json"])
        inner.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in self._special_texts()])
        refuse_ordinary_words(inner, (text for text in self._special_texts() if text != self._special_tokens["unk"]))
        self._inner, self._vocab_state = inner, vocab_state
        special = {text: inner.token_to_id(text) for text in self._special_texts()}
        # Decoded after a word, so that a token that begins one has its space.
        token_bytes = [
            inner.decoder.decode(["x", inner.id_to_token(id)])[1:].encode() for id in range(inner.get_vocab_size())
        ]
        for id in special.values():
            token_bytes[id] = b""
        self._set_vocabulary(token_bytes, special)
        self._token_bytes[special[self._special_tokens["unk"]]] = " \N{REPLACEMENT CHARACTER}".encode()
