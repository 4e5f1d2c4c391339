"""SentencePiece against the library itself, which reads the same model."""

import sys
from pathlib import Path

import pytest
import sentencepiece
from all_tokenizers import TEXTS, trained
from hub_kinds import assert_equal_to, random_texts, theirs, written
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data import SentencePiece, Tokenizer
from lit_gpt.errors import UserError

BPE = trained(SentencePiece(vocab_size=420, model="bpe", special=["<|user|>"], pad="<pad>"))
UNIGRAM = trained(SentencePiece(vocab_size=340))
assert isinstance(BPE, SentencePiece) and isinstance(UNIGRAM, SentencePiece)


def library(tokenizer: Tokenizer) -> sentencepiece.SentencePieceProcessor:
    assert isinstance(tokenizer, SentencePiece)
    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model_bytes)


@pytest.mark.parametrize("tokenizer", [BPE, UNIGRAM], ids=["bpe", "unigram"])
@given(text=st.text(alphabet="the cat\n\t.,道可，。x 12", max_size=100))
@settings(deadline=None)
def test_ids_are_those_of_the_library_for_the_whole_text(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode(text) == library(tokenizer).encode(text)


def test_special_tokens_are_control_pieces_of_the_model() -> None:
    model = library(BPE)
    assert model.unk_id() == BPE.unk == 0 and model.pad_id() == BPE.pad and model.eos_id() == BPE.eos == BPE.bos
    assert model.is_control(BPE.special_id("<|user|>")) and BPE.token(BPE.special_id("<|user|>")) == "<|user|>"
    assert BPE.unk not in BPE.encode("\N{GRINNING FACE}<unk>\x00") and BPE.decode([BPE.unk]) == ""


def test_learning_gives_the_same_model_each_time() -> None:
    assert trained(SentencePiece(vocab_size=340)).fingerprint() == UNIGRAM.fingerprint()


def test_long_lines_are_learned_from() -> None:
    tokenizer = SentencePiece(vocab_size=270)
    tokenizer.train(["ab" * 5000 + " " + "cd " * 3000])
    assert any(len(piece) > 1 for piece in tokenizer._token_bytes)
    assert {b"c", b"a"} <= {piece[:1] for piece in tokenizer._token_bytes[258:]} | {b"a"}


def test_a_model_of_others_is_taken_with_its_own_ways(tmp_path: Path) -> None:
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(" ".join(TEXTS).split("\n")), model_prefix=str(tmp_path / "own"), vocab_size=60,
        hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    tokenizer, model = SentencePiece(path=str(tmp_path / "own.model")), library(BPE)
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "own.model"))
    for text in ("the cat  sat", " on\N{GRINNING FACE}", ""):
        assert tokenizer.encode(text) == model.encode(text)
        assert "\N{GRINNING FACE}" in text or tokenizer.decode(tokenizer.encode(text)) == model.decode(
            model.encode(text)
        )
    assert (tokenizer.bos, tokenizer.eos, tokenizer.unk) == (model.bos_id(), model.eos_id(), model.unk_id())
    assert tokenizer.split_points is None and tokenizer.byte_lengths() is None
    (tmp_path / "own.model").unlink()
    again = Tokenizer.restore(tokenizer.state()).with_special(["<|user|>"])
    assert again.encode("the mat") == model.encode("the mat")
    assert again.special_id("<|user|>") == model.get_piece_size() == again.vocab_size - 1
    named = SentencePiece(path=str(written_to(tmp_path, tokenizer)), eos="<end>")
    assert named.eos == model.get_piece_size() and named.bos == model.bos_id()


def written_to(folder: Path, tokenizer: SentencePiece) -> Path:
    (folder / "again.model").write_bytes(tokenizer.model_bytes)
    return folder / "again.model"


def test_transformers_reads_a_bpe_model(tmp_path: Path) -> None:
    texts = [*random_texts(500), "▁", "<0x41>", "a" * 9]
    assert_equal_to(theirs(written(tmp_path / "hub", BPE)), BPE, texts)
    with pytest.raises(UserError, match="from a unigram model; .*data.tokenizer.model bpe"):
        UNIGRAM.hub_files()


def test_mistakes_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.model").write_bytes(b"no model")
    for call, words in (
        (lambda: SentencePiece(vocab_size=100), "vocab_size 100 of SentencePiece is below 259"),
        (lambda: SentencePiece(model="word"), "model 'word' of SentencePiece is not known"),  # type: ignore[arg-type]
        (lambda: SentencePiece(character_coverage=0.1), "is not between 0.9 and 1"),
        (lambda: SentencePiece().encode("a"), "has not been trained"),
        (lambda: SentencePiece(path="none.model"), "path none.model of SentencePiece cannot be read"),
        (lambda: SentencePiece(path=str(tmp_path / "bad.model")), "not a model of the sentencepiece library"),
        (lambda: SentencePiece(path="x", vocab_size=300), "vocab_size 300 of SentencePiece is for training"),
        (lambda: SentencePiece(vocab_size=300).train([bytes(range(33, 127)).decode() * 9]), "cannot learn 300 ids"),
        (lambda: SentencePiece().train([]), "cannot learn 4096 ids from this text"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match=r"pip install 'lit-gpt\[sentencepiece\]'"):
        Tokenizer.restore(UNIGRAM.state())
