"""Packets: where long texts are cut, how much is in one, where their shards wait."""

from pathlib import Path

import pytest

from lit_gpt.data import BPE
from lit_gpt.data.chunks import Chunk
from lit_gpt.data.corpus import packets as module
from lit_gpt.data.corpus.encoding import Piece
from lit_gpt.data.corpus.packets import FORCED, Pieces, as_parts, packets, shards_in


@pytest.mark.parametrize("ahead", [10, 1000, FORCED])
def test_only_a_word_that_is_too_long_is_cut(ahead: int) -> None:
    """Wherever the last good place lies, it is found before a word is cut."""
    tokenizer = BPE(vocab_size=300)
    tokenizer.train(["ab"])
    texts = ["x" * ahead + " " + "a" * (FORCED - 1), "b and the rest"]
    chunks = [Chunk(text, at == 0, at == 1) for at, text in enumerate(texts)]
    pieces = Pieces(tokenizer)
    made = list(pieces.of(as_parts("train", chunks)))
    assert pieces.forced == 0 and [piece.content for piece in made][0] == "x" * ahead
    assert "".join(str(piece.content) for piece in made) == "".join(texts)
    pieces = Pieces(tokenizer)
    assert len(list(pieces.of(as_parts("train", [Chunk("a" * FORCED, ends=False), Chunk("a", False)])))) == 2
    assert pieces.forced == 1


def test_a_packet_of_tiny_documents_is_not_millions_of_them(tmp_path: Path) -> None:
    made = list(packets((Piece("train", "a") for _ in range(200_000)), tmp_path))
    assert sum(len(packet.pieces) for packet in made) == 200_000
    assert max(len(packet.pieces) for packet in made) < 100_000
    assert sum(packet.characters for packet in made) == 200_000


def test_shards_of_another_recipe_or_size_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shards_in(tmp_path, {"text": "a"})
    assert first == shards_in(tmp_path, {"text": "a"}) != shards_in(tmp_path, {"text": "b"})
    monkeypatch.setattr(module, "PACKET", 7)
    assert first != shards_in(tmp_path, {"text": "a"})
