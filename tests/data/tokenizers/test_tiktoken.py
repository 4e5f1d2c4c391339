"""Tiktoken against the library given the same ranks, and against transformers, which reads what is written."""

import base64
import sys
from pathlib import Path

import pytest
import tiktoken
from all_tokenizers import ranks
from hub_kinds import assert_equal_to, random_texts, theirs, written
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data import Saved, Tiktoken, Tokenizer
from lit_gpt.data.tokenizers.patterns import PATTERNS
from lit_gpt.data.tokenizers.tiktoken_ import _LIKE
from lit_gpt.errors import UserError

# As the library has them, where it has the ranks.
R50K = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
CL100K = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"""
    r"""|\s+(?!\S)|\s"""
)


def of_library(
    folder: Path, name: str, regex: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tokenizer, tiktoken.Encoding]:
    """An encoding that the library gives by name, with ranks of our own, a special token behind a gap."""
    lines = ranks(folder).read_bytes().splitlines()
    own = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    special = {"<|endoftext|>": len(own) + 1, "<|fim_prefix|>": len(own) + 2}
    encoding = tiktoken.Encoding(name, pat_str=regex, mergeable_ranks=own, special_tokens=special)
    monkeypatch.setattr(tiktoken, "get_encoding", {name: encoding}.__getitem__)
    return Tiktoken(encoding=name), encoding


@pytest.mark.parametrize(("name", "regex"), [("gpt2", R50K), ("cl100k_base", CL100K)])
def test_ids_are_those_of_the_library(name: str, regex: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, encoding = of_library(tmp_path, name, regex, monkeypatch)
    monkeypatch.setattr(tiktoken, "get_encoding", None)
    again = Tokenizer.restore(tokenizer.state())
    assert again.fingerprint() == tokenizer.fingerprint()
    texts = [*random_texts(500), "a <|endoftext|> b", "12345 \n \n", "trailing  \n\t "]
    for one in (tokenizer, again):
        assert one.encode_batch(texts) == [encoding.encode_ordinary(text) for text in texts]
        assert [one.decode(one.encode(text)) for text in texts] == texts
        assert one.eos == one.bos == encoding.eot_token and one.unused_ids == {encoding.eot_token - 1}
        assert one.special_id("<|fim_prefix|>") == encoding.eot_token + 1 == one.vocab_size - 1
    plain = [text for text in texts if "<|endoftext|>" not in text]  # which transformers finds in text
    assert_equal_to(theirs(written(tmp_path / "hub", tokenizer)), tokenizer, plain)
    assert Saved(str(tmp_path / "hub")).encode_batch(texts) == tokenizer.encode_batch(texts)


@pytest.mark.parametrize(("name", "regex"), [("gpt2", R50K), ("cl100k_base", CL100K)])
def test_parts_are_encoded_as_the_whole(name: str, regex: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, _ = of_library(tmp_path, name, regex, monkeypatch)
    assert _LIKE.keys() >= set(tiktoken.list_encoding_names()) and set(_LIKE.values()) <= PATTERNS.keys()

    @given(st.text(alphabet="aAs \n\r\t.'1é\u2003道,，。/\u0301", max_size=200))
    @settings(deadline=None)
    def parts_are_as_the_whole(text: str) -> None:
        assert tokenizer.split_points is not None
        parts = [id for part in tokenizer.split_points.split(text) for id in tokenizer.encode(part)]
        assert parts == tokenizer.encode(text)

    parts_are_as_the_whole()


def test_ranks_that_are_not_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> bytes:
        raise OSError("no network")

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "none"))
    monkeypatch.setattr("tiktoken.load.read_file", offline)
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    with pytest.raises(UserError, match="ranks of encoding gpt2 .*set TIKTOKEN_CACHE_DIR"):
        Tiktoken()


def test_mistakes_are_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = ranks(tmp_path)
    (tmp_path / "bad").write_text("IQ== 0\nIQ==\n")
    (tmp_path / "few").write_text("IQ== 0\n")
    (tmp_path / "two").write_bytes(good.read_bytes() + b"emVicmE= 7\n")
    for call, words in (
        (lambda: Tiktoken(encoding="gpt9"), "encoding 'gpt9' of Tiktoken is not known; the library has gpt2"),
        (lambda: Tiktoken(pattern="llama3"), "pattern llama3 of Tiktoken goes with a path"),
        (lambda: Tiktoken(pattern="own", path="x"), "pattern 'own' of Tiktoken is not known"),  # type: ignore[arg-type]
        (lambda: Tiktoken(encoding="cl100k_base", path="x"), "which exclude each other"),
        (lambda: Tiktoken(path=str(tmp_path / "none")), "cannot be read"),
        (lambda: Tiktoken(path=str(tmp_path / "bad")), "bad:2 is not a token in base64 and its rank"),
        (lambda: Tiktoken(path=str(tmp_path / "few")), "no rank for 255 of the 256 bytes, such as 0"),
        (lambda: Tiktoken(path=str(tmp_path / "two")), "gives two tokens one rank"),
        (lambda: Tiktoken(path=str(good)).train([]), "learns nothing; take BPE"),
        (lambda: Tiktoken(encoding=None).encode("a"), "has not been trained; give data.tokenizer.encoding"),
        (lambda: Tiktoken(path=str(good), special=["the"]).hub_files(), "'the' is also a word of the ranks"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(UnicodeEncodeError):
        Tiktoken(path=str(good)).encode("\ud800")
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(UserError, match=r"pip install 'lit-gpt\[tiktoken\]'"):
        Tiktoken()
