"""Corpora in memory, in which each token's id is its place; checks that several kinds of sequences share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lit_gpt.data import Byte, Char, Corpus, write_corpus
from lit_gpt.data.sequences.datasets import IGNORED, Sequences


class InMemory(np.ndarray):
    """Numbers in memory, asked as a column is."""

    def stretches(self, starts: np.ndarray, stops: np.ndarray) -> list[np.ndarray]:
        """Views of several stretches."""
        return [self[start:stop] for start, stop in zip(starts, stops, strict=True)]


class Made:
    """Stands for a corpus: ids in memory."""

    def __init__(self, ids: np.ndarray, offsets: np.ndarray | None = None, separator: bool = False) -> None:
        self.ids, self.vocab_size, self.folder = ids.view(InMemory), int(ids.max(initial=0)) + 1, Path("made")
        self._loss_mask: np.ndarray | None = None
        self.offsets = np.array([0, len(ids)]) if offsets is None else offsets
        self.document_bytes = np.diff(self.offsets)
        # With a separator that is bos and eos only the counts matter here: a document begins with the token before it.
        self.manifest: dict[str, Any] = {"bos": 0, "eos": 0} if separator else {}

    @staticmethod
    def of_documents(sizes: list[int], separator: bool = False) -> Any:
        """Documents of so many tokens; the id of each token is its place in the text."""
        offsets = np.concatenate(([0], np.cumsum(sizes)))
        return Made(np.arange(offsets[-1], dtype=np.uint32), offsets, separator)

    @property
    def loss_mask(self) -> np.ndarray | None:
        """Which tokens may be targets; None for all."""
        return self._loss_mask

    @loss_mask.setter
    def loss_mask(self, loss_mask: np.ndarray) -> None:
        self._loss_mask = loss_mask.view(InMemory)

    def document_of(self, place: int) -> int:
        """Which document a token is in."""
        return int(np.searchsorted(self.offsets, place, side="right")) - 1

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.offsets) - 1

    def __len__(self) -> int:
        return len(self.ids)


def documents_of(rows: Sequences) -> list[list[int]]:
    """The ids of each segment of each row, first input and all targets."""
    found = []
    inputs, targets, segments, _ = rows.batch(np.arange(len(rows)))
    assert segments is not None
    for row in range(len(inputs)):
        for segment in segments[row].unique().tolist():
            inside = segments[row] == segment
            said = targets[row][inside]
            if (said != IGNORED).any():
                found.append([int(inputs[row][inside][0]), *said.tolist()])
    return found


def check_scored_bytes(texts: list[str], folder: Path, cuts: list[Callable[[Corpus], Sequences]]) -> None:
    """Compares the bytes that sequences say are scored with those of their targets, lossless or not."""
    for number, tokenizer in enumerate((Byte(), Byte(bos="|", eos="|"), Char(unk="?"), Char(bos="<", unk="?"))):
        tokenizer.train(texts)
        corpus = write_corpus(folder / str(number), texts, tokenizer)
        for cut in cuts:
            sequences = cut(corpus)
            batch = sequences.batch(np.arange(len(sequences)))
            targets = batch.targets[batch.targets != IGNORED].tolist()
            if isinstance(tokenizer, Char):
                wanted = len(tokenizer.decode(targets).encode())
            else:
                wanted = sum(len(tokenizer.bytes_of(id)) for id in targets)
            assert sequences.scored_bytes(tokenizer) == wanted, (tokenizer, cut)
