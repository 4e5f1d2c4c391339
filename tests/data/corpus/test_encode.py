"""Encode: where long texts are cut, how much is in a shard, where shards wait."""

from pathlib import Path

import pytest

from lit_gpt.data import BPE
from lit_gpt.data.chunks import Chunk
from lit_gpt.data.corpus import encode as module
from lit_gpt.data.corpus.encode import FORCED, Cutter, in_shards, shards_folder


@pytest.mark.parametrize("ahead", [10, 1000, FORCED])
def test_only_a_word_that_is_too_long_is_cut(ahead: int) -> None:
    """Wherever the last good place lies, it is found before a word is cut."""
    tokenizer = BPE(vocab_size=300)
    tokenizer.train(["ab"])
    texts = ["x" * ahead + " " + "a" * (FORCED - 1), "b and the rest"]
    chunks = [Chunk(text, at == 0, at == 1) for at, text in enumerate(texts)]
    cutter = Cutter(tokenizer)
    cut = list(cutter.cut(chunk.to_split("train") for chunk in chunks))
    assert cutter.forced == 0 and cut[0].content == "x" * ahead
    assert "".join(str(chunk.content) for chunk in cut) == "".join(texts)
    cutter, chunks = Cutter(tokenizer), [Chunk("a" * FORCED, ends=False), Chunk("a", False)]
    assert len(list(cutter.cut(chunk.to_split("train") for chunk in chunks))) == 2
    assert cutter.forced == 1


def test_a_shard_of_tiny_documents_is_not_millions_of_them(tmp_path: Path) -> None:
    shards = list(in_shards((Chunk("a", split="train") for _ in range(200_000)), tmp_path))
    assert sum(len(shard.chunks) for shard in shards) == 200_000
    assert max(len(shard.chunks) for shard in shards) < 100_000
    assert sum(shard.characters for shard in shards) == 200_000


def test_shards_of_another_recipe_or_size_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shards_folder(tmp_path, {"text": "a"})
    assert first == shards_folder(tmp_path, {"text": "a"}) != shards_folder(tmp_path, {"text": "b"})
    monkeypatch.setattr(module, "SHARD", 7)
    assert first != shards_folder(tmp_path, {"text": "a"})
