"""Corpora on disk: what was written is read, and what is damaged is found when it is opened."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data import BPE, Byte, Corpus, write_corpus
from lit_gpt.data.corpus.corpus import dtype_for
from lit_gpt.errors import UserError


@given(
    st.lists(st.text(min_size=1), min_size=1, max_size=5), st.sampled_from([{}, {"bos": "b"}, {"bos": "b", "eos": "e"}])
)
@settings(max_examples=30, deadline=None)
def test_documents_come_back_with_their_special_tokens(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], specials: dict[str, str]
) -> None:
    tokenizer = Byte(**specials)
    corpus = write_corpus(tmp_path_factory.mktemp("corpus") / "c", texts, tokenizer)
    wanted = [
        [*([tokenizer.bos] if specials else []), *text.encode(), *([tokenizer.eos] if "eos" in specials else [])]
        for text in texts
    ]
    assert [corpus.document(number).tolist() for number in range(corpus.documents)] == wanted
    assert len(corpus) == sum(map(len, wanted)) == corpus.manifest["tokens"]
    assert corpus.document_bytes.tolist() == [len(text.encode()) for text in texts]
    assert corpus.bytes == sum(corpus.document_bytes)


def test_a_separator_stands_ahead_of_the_first_and_after_each(tmp_path: Path) -> None:
    tokenizer = BPE(vocab_size=257)
    tokenizer.train(["ab"])
    corpus = write_corpus(tmp_path / "c", ["a", "b"], tokenizer)
    assert "".join(map(tokenizer.token, corpus.ids.tolist())) == "<|endoftext|>a<|endoftext|>b<|endoftext|>"


def test_ids_never_wrap(tmp_path: Path) -> None:
    assert dtype_for(65536).itemsize == 2 and dtype_for(65537).itemsize == 4

    class Large(Byte):
        vocab_size = 70_000

        def __init__(self) -> None:
            super().__init__()
            self.vocab_size = 70_000

        def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
            return [np.array([65_535, 65_536, 69_999]) for _ in texts]

    corpus = write_corpus(tmp_path / "c", ["x"], Large())
    assert corpus.ids.tolist() == [65_535, 65_536, 69_999]

    class Liar(Large):
        def encode_arrays(self, texts: list[str]) -> list[np.ndarray]:
            return [np.array([70_000]) for _ in texts]

    with pytest.raises(UserError, match="70000 is past the vocabulary of 70000"):
        write_corpus(tmp_path / "d", ["x"], Liar())
    assert sorted(os.listdir(tmp_path)) == ["c"]  # nothing half made is left


def test_many_documents_are_written_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_gpt.data.corpus.encode.SHARD", 10)
    texts = [f"document {number}" for number in range(50)]
    corpus = write_corpus(tmp_path / "c", texts, Byte())
    assert bytes(corpus.ids.astype(np.uint8)).decode() == "".join(texts)
    assert corpus.documents == 50 and bytes(corpus.document(17).astype(np.uint8)) == b"document 17"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "c", ["some text", "more"], Byte()).folder


@pytest.mark.parametrize("name", ["ids.bin", "offsets.bin", "bytes.bin", "ids.sums"])
def test_truncated_and_missing_files_are_found_when_opened(folder: Path, name: str) -> None:
    os.truncate(folder / name, 5)
    with pytest.raises(UserError, match=f"{name} has 5 bytes instead of"):
        Corpus(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        Corpus(folder)


def test_other_manifests_are_refused(folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    for content, words in (
        (json.dumps({**manifest, "version": 99}), "version 99, this program reads version"),
        (json.dumps({"format": "another"}), "not the manifest of a lit_gpt corpus"),
        ("{", "is damaged"),
    ):
        (folder / "manifest.json").write_text(content)
        with pytest.raises(UserError, match=words):
            Corpus(folder)
    with pytest.raises(UserError, match="not a finished lit_gpt corpus"):
        Corpus(tmp_path / "nowhere")
    with pytest.raises(UserError, match="exists already"):
        write_corpus(folder, ["x"], Byte())


def test_ids_past_the_vocabulary_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="past the vocabulary of 100"):
        Corpus(folder, vocab_size=100)


def test_a_corpus_travels_to_another_process_if_it_is_still_the_same(folder: Path) -> None:
    corpus = Corpus(folder)
    packed = pickle.dumps(corpus)
    assert len(packed) < 2000
    assert pickle.loads(packed).ids.tolist() == corpus.ids.tolist()
    folder.rename(folder.with_name("old"))
    write_corpus(folder, ["another text"], Byte())
    with pytest.raises(UserError, match="rebuilt while it was in use"):
        pickle.loads(packed)
    assert corpus.ids.tolist() == [*b"some textmore"]  # what is mapped stays
