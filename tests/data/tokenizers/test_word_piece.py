"""WordPiece against the tokenizers library and transformers, which reads what is written."""

from pathlib import Path

import pytest
from all_tokenizers import TEXTS
from hub_kinds import random_texts, theirs, written
from hypothesis import given
from hypothesis import strategies as st

from lit_gpt.data import WordPiece
from lit_gpt.errors import UserError


def made(**arguments: object) -> WordPiece:
    tokenizer = WordPiece(**{"vocab_size": 200, **arguments})  # type: ignore[arg-type]
    tokenizer.train(TEXTS)
    return tokenizer


PLAIN = made()


@given(st.text(alphabet="the cat\n.,道，x#", max_size=80))
def test_text_comes_back_as_the_library_joins_it(text: str) -> None:
    ids = PLAIN.encode(text)
    assert PLAIN.decode(id for id in ids if id != PLAIN.unk) == PLAIN._inner.decode(
        PLAIN._inner.encode(text, add_special_tokens=False).ids
    )


def test_words_in_pieces() -> None:
    assert PLAIN.decode(PLAIN.encode("the  cat\n\nsat on the mat,")) == "the cat sat on the mat,"
    assert PLAIN.unk is not None and PLAIN.byte_lengths() is None
    assert PLAIN.encode("the \N{GRINNING FACE} cat")[1] == PLAIN.unk
    assert PLAIN.decode(PLAIN.encode("the \N{GRINNING FACE} cat")) == "the \ufffd cat"
    assert PLAIN.unk not in made(unk="<?>").encode("the")
    stream = PLAIN.stream()
    assert "".join(map(stream.step, PLAIN.encode("the cat"))) == " the cat"  # goes on from a word


def test_normalized_as_bert_does() -> None:
    tokenizer = made(normalize=True)
    assert tokenizer.encode("THE Cát") == tokenizer.encode("the cat") and tokenizer.unk not in tokenizer.encode("道可")
    assert PLAIN.encode("THE Cát") != PLAIN.encode("the cat")


def test_transformers_reads_it(tmp_path: Path) -> None:
    tokenizer = made(bos="[CLS]", eos="[SEP]", pad="[PAD]", separator=None, special=["[MASK]"])
    other = theirs(written(tmp_path / "hub", tokenizer))
    texts = random_texts(300)
    assert tokenizer.encode_batch(texts) == other(texts, add_special_tokens=False).input_ids
    assert other.convert_tokens_to_ids(["[MASK]", "[UNK]"]) == [tokenizer.special_id("[MASK]"), tokenizer.unk]


def test_mistakes_are_told_in_one_line() -> None:
    with pytest.raises(UserError, match="vocab_size 2 of WordPiece is below"):
        WordPiece(vocab_size=2)
    with pytest.raises(UserError, match="has not been trained"):
        WordPiece().encode("a")


@pytest.mark.parametrize("size", [4, 12, 25, 60])
@pytest.mark.parametrize("normalize", [False, True])
def test_it_keeps_to_the_vocab_size(size: int, normalize: bool, capsys: pytest.CaptureFixture[str]) -> None:
    text = [chr(0x4E00 + number) * (number + 1) + " a" * 99 for number in range(60)]
    tokenizer = WordPiece(vocab_size=size, normalize=normalize, special=["[MASK]"])
    tokenizer.train(text)
    assert tokenizer.vocab_size == size == tokenizer._inner.get_vocab_size()
    assert f"vocab_size {size} of WordPiece is less than the" in capsys.readouterr().err
    ids = tokenizer.encode("a " * 3)
    assert tokenizer.unk not in ids and tokenizer.decode(ids) == "a a a"  # the most frequent character stays
    assert tokenizer.encode("\u4e00") == [tokenizer.unk]  # the rarest goes
    assert {tokenizer.special_id(name) for name in ("[MASK]", "[UNK]", "<|endoftext|>")} <= set(range(size))
    again = WordPiece.restore(tokenizer.state())
    assert again.encode(text[50]) == tokenizer.encode(text[50])
