"""One small tokenizer of each kind, trained on text made here."""

import base64
from pathlib import Path

from lit_gpt.data import BPE, Byte, Char, SentencePiece, Tiktoken, Tokenizer, WordPiece

TEXTS = [
    "the cat sat on the mat, the dog on the log\n" * 20,
    "def f(x):\n    return x + 1\n\n" * 20,
    "naïve Ωmega 道可道，非常道。 1234 道可道，" * 3,
]


def trained(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.train(TEXTS)
    return tokenizer


def ranks(folder: Path, pattern: str = "gpt2") -> Path:
    """A file of ranks as the tiktoken library has them, from a BPE tokenizer."""
    tokenizer = trained(BPE(vocab_size=340, separator=None, pattern=pattern))  # type: ignore[arg-type]
    folder.mkdir(parents=True, exist_ok=True)
    lines = (f"{base64.b64encode(piece).decode()} {rank}\n" for rank, piece in enumerate(tokenizer._token_bytes))
    (folder / "own.tiktoken").write_text("".join(lines))
    return folder / "own.tiktoken"


def lossless(folder: Path) -> list[Tokenizer]:
    """Those that give any text back."""
    return [
        trained(BPE(vocab_size=300, special=["<|user|>"])),
        trained(BPE(vocab_size=320, pattern="llama3", bos="<s>", eos="</s>", pad="<pad>")),
        Byte(bos="<s>", special=["<|user|>"]),
        trained(SentencePiece(vocab_size=340, special=["<|user|>"])),
        trained(SentencePiece(vocab_size=400, model="bpe", bos="<s>", eos="</s>", pad="<pad>", separator=None)),
        Tiktoken(path=str(ranks(folder)), special=["<|user|>"]),
        Tiktoken(path=str(ranks(folder / "o200k", "o200k")), pattern="o200k", separator=None),
    ]


def all_kinds(folder: Path) -> list[Tokenizer]:
    return [*lossless(folder), trained(Char(eos="<end>", unk="<unk>")), trained(WordPiece(vocab_size=200))]
