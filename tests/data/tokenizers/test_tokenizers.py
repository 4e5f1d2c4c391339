"""Tokenizers against UTF-8 as Python writes it; BPE in parts against the tokenizers library given the whole text."""

import inspect
import itertools
import json
import pickle
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from all_tokenizers import TEXTS, all_kinds
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data import BPE, Byte, Char, Pretrained, Saved, SentencePiece, Tiktoken, Tokenizer, WordPiece
from lit_gpt.data.tokenizers.patterns import BEFORE_A_SPACE_LINE_OR_MARK, PATTERNS
from lit_gpt.data.tokenizers.safe_splits import split_for_training, split_text
from lit_gpt.errors import UserError

EVERY = all_kinds(Path(tempfile.mkdtemp()))
LOSSLESS = [tokenizer for tokenizer in EVERY if not isinstance(tokenizer, Char | WordPiece)]
AWKWARD = "ab \n\r\t.\x00\ufeff▁é\u0301道，。1\N{GRINNING FACE}\N{FAMILY}\u200d#<0x41>"
ANY_TEXT = st.text() | st.text(alphabet=AWKWARD, max_size=60)


def name_of(tokenizer: Tokenizer) -> str:
    return f"{type(tokenizer).__name__}-{EVERY.index(tokenizer)}"


every = pytest.mark.parametrize("tokenizer", EVERY, ids=name_of)
each_lossless = pytest.mark.parametrize("tokenizer", LOSSLESS, ids=name_of)


def trained_bpe(**arguments: str | int | None) -> BPE:
    tokenizer = BPE(**{"vocab_size": 300, **arguments})  # type: ignore[arg-type]
    tokenizer.train(TEXTS)
    return tokenizer


BPE_300 = trained_bpe()
BY_PATTERN = {pattern: trained_bpe(pattern=pattern) for pattern in PATTERNS}


@each_lossless
@given(text=ANY_TEXT)
@settings(deadline=None)
def test_any_text_comes_back_whole_and_byte_by_byte(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    lengths = tokenizer.byte_lengths()
    assert lengths is not None and len(lengths) == tokenizer.vocab_size
    assert tokenizer.decode(ids) == text
    assert sum(lengths[id] for id in ids) == len(text.encode())
    assert not tokenizer.special_ids & set(ids) and not tokenizer.unused_ids & set(ids)
    stream = tokenizer.stream()
    assert "".join(map(stream.step, ids)) + stream.flush() == text


@each_lossless
@given(text=ANY_TEXT)
@settings(deadline=None)
def test_parts_cut_where_it_says_are_encoded_as_the_whole(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.split_points is not None
    parts = tokenizer.split_points.split(text)
    assert [id for part in parts for id in tokenizer.encode(part)] == tokenizer.encode(text)


@every
def test_every_tokenizer_keeps_to_the_contract(tokenizer: Tokenizer) -> None:
    text = "the cat <|user|> 道可道"
    ids = tokenizer.encode(text)
    assert tokenizer.trained and tokenizer.encode_batch([text, ""]) == [ids, []]
    arrays = tokenizer.encode_arrays([text, ""])
    assert [array.tolist() for array in arrays] == [ids, []] and all(array.dtype == np.int64 for array in arrays)
    for role in ("bos", "eos", "pad"):
        if (id := getattr(tokenizer, role)) is not None:
            assert id in tokenizer.special_ids and tokenizer.decode([id]) == "" and id < tokenizer.vocab_size
            assert tokenizer.special_id(tokenizer.token(id)) == id
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again.encode(text) == ids and again.fingerprint() == tokenizer.fingerprint()
    size = tokenizer.vocab_size
    grown = Tokenizer.restore(json.loads(json.dumps(tokenizer.state()))).with_special(["<|user|>", "<|later|>"])
    assert grown.special_id("<|later|>") == grown.vocab_size - 1 >= size and tokenizer.vocab_size == size
    assert grown.encode(text + "<|later|>") == ids + tokenizer.encode("<|later|>")
    assert grown.decode([grown.special_id("<|later|>"), *ids]) == tokenizer.decode(ids)
    assert Tokenizer.restore(grown.state()).fingerprint() == grown.fingerprint() != tokenizer.fingerprint()


@given(st.text(min_size=1))
def test_char_gives_its_text_back_in_the_order_of_code_points(text: str) -> None:
    tokenizer = Char()
    tokenizer.train([text])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert "".join(map(tokenizer.token, range(tokenizer.vocab_size))) == "".join(sorted(set(text)))


@given(st.lists(st.integers(0, 299)))
def test_a_stream_says_what_decode_says_whatever_the_ids(ids: list[int]) -> None:
    stream = BPE_300.stream()
    assert "".join(map(stream.step, ids)) + stream.flush() == BPE_300.decode(ids)


def test_a_stream_never_shows_half_a_character() -> None:
    stream = Byte().stream()
    assert [stream.step(id) for id in "é道".encode()] == ["", "é", "", "", "道"]
    assert stream.flush() == ""
    stream.step("道".encode()[0])
    assert stream.flush() == "\ufffd"


@pytest.mark.parametrize("pattern", PATTERNS)
@given(text=st.text(alphabet="aAs \n\r\t.'1é\u2003\u3000道,，—。/\u0301Яりガ한", max_size=200) | st.text())
@settings(deadline=None)
def test_parts_of_a_text_are_encoded_as_the_whole(pattern: str, text: str) -> None:
    tokenizer = BY_PATTERN[pattern]
    assert tokenizer.split_points is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lit_gpt.data.tokenizers.safe_splits._PART", 1)
        parts = list(split_text(text, tokenizer.split_points))
        in_parts = tokenizer.encode(text)
    whole = tokenizer._inner.encode(text, add_special_tokens=False).ids
    assert "".join(parts) == text and in_parts == whole
    assert [id for part in parts for id in tokenizer.encode(part)] == whole
    assert tokenizer.decode(whole) == text


def test_texts_without_spaces_can_be_cut() -> None:
    for tokenizer in BY_PATTERN.values():
        parts = list(split_text("道可道，非常道；名可名、非常名。" * 4000, tokenizer.split_points))  # type: ignore[arg-type]
        assert len(parts) == 4 and {part[0] for part in parts[1:]} <= set("，；、。")


def test_training_text_has_no_words_of_thousands_of_characters() -> None:
    text = " ".join(TEXTS) + "=" * 30_000 + "0123456789abcdef" * 4000 + "\n" * 20_000 + "and so on. " * 1000
    parts = list(split_for_training([text], BEFORE_A_SPACE_LINE_OR_MARK))
    assert "".join(parts) == text
    assert max(len(word) for part in parts for word in re.findall(r"\w+|\s+|[^\w\s]+", part)) < 5000
    short = "Words, as they are.\n" * 500
    assert list(split_for_training([short, ""], BEFORE_A_SPACE_LINE_OR_MARK)) == [short, ""]
    for tokenizer in (BPE(vocab_size=300), WordPiece(vocab_size=300)):
        tokenizer.train(["acgt" * 1_000_000])  # would take hours
        assert tokenizer.trained


@pytest.mark.parametrize("pattern", PATTERNS)
def test_words_are_those_of_the_models_that_have_the_pattern(pattern: str) -> None:
    expected = {
        "gpt2": [" 12345", "\n", "\n", ".", "\n", "\t", "x"],
        "llama3": [" ", "123", "45", "\n\n", ".\n", "\tx"],
        "qwen2": [" ", "1", "2", "3", "4", "5", "\n\n", ".\n", "\tx"],
        "o200k": [" ", "123", "45", "\n\n", ".\n", "\tx"],
    }
    words = BY_PATTERN[pattern]._inner.pre_tokenizer.pre_tokenize_str("I 12345\n\n.\n\tx")
    shown = [word.replace("Ġ", " ").replace("Ċ", "\n").replace("ĉ", "\t") for word, _ in words]
    assert shown == ["I", *expected[pattern]]


def test_a_new_token_where_text_would_be_cut_keeps_it_whole() -> None:
    tokenizer = trained_bpe()
    tokenizer.add_tokens(["<|a|>", "\n\n"])
    assert tokenizer.split_points is not None
    tokenizer.add_tokens(["yes, sir"])
    assert tokenizer.split_points is None and tokenizer.decode(tokenizer.encode("yes, sir")) == "yes, sir"


def test_text_that_spells_a_special_token_stays_text() -> None:
    text = "a<|endoftext|>b"
    assert BPE_300.eos not in BPE_300.encode(text)
    assert BPE_300.decode(BPE_300.encode(text)) == text
    assert BPE_300.decode([BPE_300.eos, *BPE_300.encode("a"), BPE_300.eos]) == "a"


def test_special_tokens_have_roles_names_and_no_bytes() -> None:
    assert BPE_300.bos == BPE_300.eos and BPE_300.starts_with_bos
    both = trained_bpe(bos="<s>", eos="</s>", separator=None, pad="<pad>")
    assert [both.token(id) for id in (both.bos, both.eos, both.pad)] == ["<s>", "</s>", "<pad>"]  # type: ignore[arg-type]
    assert both.special_ids == {both.bos, both.eos, both.pad}
    assert [both.byte_lengths()[id] for id in both.special_ids] == [0, 0, 0]  # type: ignore[index]
    assert Byte().special_ids == frozenset() and not Byte().starts_with_bos
    assert not trained_bpe(separator=None).starts_with_bos


def test_char_refuses_what_it_never_saw_unless_it_has_a_token_for_it() -> None:
    tokenizer = Char()
    tokenizer.train(["abc"])
    with pytest.raises(UserError, match=r"'é' \(U\+00E9\) at position 2"):
        tokenizer.encode("abé")
    with pytest.raises(UserError, match="U\\+1F600"):
        tokenizer.encode("\N{GRINNING FACE}")
    forgiving = Char(unk="<unk>")
    forgiving.train(["abc"])
    assert forgiving.encode("aéb") == [0, forgiving.unk, 1]
    assert forgiving.byte_lengths() is None


@every
def test_saved_restored_and_loaded_from_a_checkpoint(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "tokenizer.json")
    run = tmp_path / "run" / "checkpoints"
    run.mkdir(parents=True)
    torch.save({"format_version": 1, "state_dict": {}, "tokenizer": tokenizer.state()}, run / "last.ckpt")
    for again in (
        Tokenizer.restore(tokenizer.state()),
        Tokenizer.load(tmp_path / "tokenizer.json"),
        Saved(str(tmp_path)),
        Saved(str(tmp_path / "run")),
    ):
        assert type(again) is type(tokenizer) and again.trained
        assert again.fingerprint() == tokenizer.fingerprint()
        assert again.encode(TEXTS[2]) == tokenizer.encode(TEXTS[2])
        assert (again.bos, again.eos, again.pad, again.unk) == (
            tokenizer.bos,
            tokenizer.eos,
            tokenizer.pad,
            tokenizer.unk,
        )


@pytest.mark.parametrize("make", [Byte, Char, BPE, WordPiece, SentencePiece], ids=lambda cls: cls.__name__)
def test_user_special_tokens_have_ids_and_are_not_found_in_text(make: type[Tokenizer]) -> None:
    text = "the <|user|> sat <|late|> on <|later|>\n"
    before = make(special=["<|user|>"])  # type: ignore[call-arg]
    assert before.with_special(["<|user|>", "<|late|>"]) is before
    before.train([*TEXTS, text])
    ids = before.encode(text)
    size = before.vocab_size
    assert before.configuration()["init_args"]["special"] == ["<|user|>", "<|late|>"]
    after = Tokenizer.restore(before.state()).with_special(["<|late|>", "<|later|>"])
    assert after.vocab_size == size + 1 and after.special_id("<|later|>") == size
    again = Tokenizer.restore(json.loads(json.dumps(after.state())))
    assert again.fingerprint() == after.fingerprint() != before.fingerprint()
    for tokenizer in (before, after, again):
        assert tokenizer.encode(text) == ids
        assert make is WordPiece or tokenizer.decode(ids) == text
        for name in ("<|user|>", "<|late|>"):
            id = tokenizer.special_id(name)
            assert tokenizer.token(id) == name and id in tokenizer.special_ids and tokenizer.decode([id]) == ""
            assert make is WordPiece or tokenizer.byte_lengths()[id] == 0  # type: ignore[index]
    with pytest.raises(UserError, match="no special token '<|none|>'"):
        again.special_id("<|none|>")


def test_added_tokens_and_special_ones_keep_their_ids_in_any_order() -> None:
    tokenizer = trained_bpe()
    assert tokenizer.add_tokens(["<a>"]) == {"<a>": 300}
    tokenizer.with_special(["<b>", "<a>"])
    assert tokenizer.add_tokens(["<c>"]) == {"<c>": 302}
    again = Tokenizer.restore(tokenizer.state())
    for one in (tokenizer, again):
        assert [one.special_id(name) for name in ("<a>", "<b>", "<c>")] == [300, 301, 302]
        ids = one.encode("x<a><b><c>")
        assert 300 in ids and 302 in ids and 301 not in ids and one.decode(ids) == "x<a><b><c>"
    assert again.add_tokens(["<b>"]) == {}  # it had an id; now text gets it
    assert again.encode("<b>") == [301] and again.decode([301]) == "<b>"
    assert Tokenizer.restore(again.state()).encode("<b>") == [301]


def test_states_without_special_tokens_keep_their_fingerprint() -> None:
    state = BPE_300.state()
    assert set(state["init_args"]) == {"vocab_size", "separator", "bos", "eos", "pad"}
    assert set(state["learned"]) == {"json"}
    assert set(Byte().state()["init_args"]) == {"bos", "eos", "pad"}
    assert BPE(train_chars=None).configuration()["init_args"]["train_chars"] is None


def test_siblings_agree_on_arguments_and_say_what_each_does() -> None:
    made = (BPE, Byte, Char, Pretrained, SentencePiece, Tiktoken, WordPiece)
    for one, two in itertools.combinations(made, 2):
        ones, twos = (inspect.signature(cls.__init__).parameters for cls in (one, two))
        for name in (ones.keys() & twos.keys()) - {"self", "encoding"}:
            assert (ones[name].default, ones[name].annotation) == (twos[name].default, twos[name].annotation), name
    for cls in made:
        for name in inspect.signature(cls.__init__).parameters.keys() - {"self"}:
            assert f"        {name}: " in (cls.__doc__ or ""), f"{cls.__name__} does not document {name}"


def test_optional_libraries_are_imported_by_those_who_need_them() -> None:
    code = (
        "import sys; from lit_gpt.config.registry import import_components; import_components()\n"
        "print(sorted({'sentencepiece', 'tiktoken', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_fingerprints_tell_tokenizers_apart() -> None:
    other = trained_bpe(vocab_size=290)
    assert other.fingerprint() != BPE_300.fingerprint()
    assert trained_bpe().fingerprint() == BPE_300.fingerprint()


def test_a_class_from_elsewhere_is_not_imported_on_a_files_word(monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = {"class_path": "their_lab.Tokenizer", "init_args": {}, "learned": {}}
    with pytest.raises(UserError, match="outside lit_gpt.*LIT_GPT_TRUST=their_lab"):
        Tokenizer.restore(stranger)
    monkeypatch.setenv("LIT_GPT_TRUST", "other their_lab")
    with pytest.raises(UserError, match="where a subclass of Tokenizer is expected|cannot be imported"):
        Tokenizer.restore(stranger)
    monkeypatch.setenv("LIT_GPT_TRUST", "no_such_package")
    with pytest.raises(UserError, match="cannot be imported"):
        Tokenizer.restore({**stranger, "class_path": "no_such_package.Tokenizer"})
    with pytest.raises(UserError, match="where a subclass of Tokenizer is expected|cannot be imported"):
        Tokenizer.restore({"class_path": "lit_gpt.data.corpus.corpus.Corpus", "init_args": {}, "learned": {}})


def test_mistakes_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "other.json").write_text('{"model": {}}')
    (tmp_path / "torn.ckpt").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "void.ckpt").touch()
    for call, words in (
        (lambda: BPE(vocab_size=100), "vocab_size 100 of BPE is below 257"),
        (lambda: BPE().encode("a"), "has not been trained"),
        (lambda: BPE(vocab_size=257).with_special(["<|user|>"]), "257 of BPE is below 258"),
        (lambda: BPE(train_chars=0), "train_chars 0 of BPE is no number of characters"),
        (lambda: BPE(pattern="gpt5"), "pattern 'gpt5' of BPE is not known; give one of gpt2, llama3"),  # type: ignore[arg-type]
        (lambda: Byte(special=["<|user|>", ""]), "special of Byte holds an empty name"),
        (lambda: BPE(separator="###").train(["a### b\n" * 9]), "special token '###' is an ordinary word"),
        (lambda: BPE_300.decode([300]), "past the tokenizer's vocabulary"),
        (lambda: Tokenizer.load(tmp_path / "none.json"), "there is no tokenizer file"),
        (lambda: Tokenizer.load(tmp_path / "bad.json"), "is not a saved tokenizer"),
        (lambda: Tokenizer.load(tmp_path / "other.json"), "other.json is not a saved tokenizer"),
        (lambda: Saved(str(tmp_path / "torn.ckpt")), "torn.ckpt is not a readable checkpoint"),
        (lambda: Saved(str(tmp_path / "void.ckpt")), "void.ckpt is not a readable checkpoint"),
        (lambda: Saved(str(tmp_path)), "holds no tokenizer"),
        (lambda: Saved(str(tmp_path / "none.ckpt")), "none.ckpt does not exist"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_batches_equal_single_texts() -> None:
    assert BPE_300.encode_batch(TEXTS) == [BPE_300.encode(text) for text in TEXTS]
    assert [ids.tolist() for ids in BPE_300.encode_arrays(TEXTS)] == BPE_300.encode_batch(TEXTS)
    assert pickle.loads(pickle.dumps(Byte(eos="e"))).encode("a") == [97]
