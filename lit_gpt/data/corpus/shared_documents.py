"""Overlap of training and evaluation text: files that two sources read, documents that two splits hold."""

from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from xxhash import xxh3_64, xxh3_64_intdigest

from lit_gpt.data.chunks import Chunk, bytes_of
from lit_gpt.data.corpus.recipe import TRAIN
from lit_gpt.data.sources.files import names
from lit_gpt.data.sources.source import Source

_APART = "data.split_by hash keeps equal ones in one split, the filter ExactDuplicates leaves repeats out"
_HELD = 1 << 16  # hashes of training documents in memory; the others wait in a file


def shared_files(main: Source, own: dict[str, Source]) -> list[str]:
    """A line for each split whose source reads what the training text's source reads too.

    Links count as what they lead to. Two fields of the same records are two texts.

    Args:
        main: The source of the training text.
        own: The sources that are a split whole, by split.
    """
    lines = []
    files = {_identity(path) for path in main.read_files()} if own else set()
    signature = main.signature() if own else None
    for split, source in own.items():
        if getattr(source, "field", None) != getattr(main, "field", None):
            continue
        if shared := [path for path in source.read_files() if _identity(path) in files]:
            count = f"{len(shared):,} file{'' if len(shared) == 1 else 's'}"
            what = f"{count} of the training text too ({names(shared)})"
        elif signature is not None and source.signature() == signature:
            what = "the same text as the training text's source"
        else:
            continue
        lines.append(f"the source of {split} reads {what}: its loss is of text that is trained on")
    return lines


def _identity(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_dev, stat.st_ino


class SharedDocuments:
    """Counts documents of validation and test texts that the training text holds too, word for word.

    Documents are told apart by 64 bits; memory grows by 8 bytes for each that is not trained on.

    Args:
        folder: Where hashes of training documents wait in a file.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "documents.hashes"
        self._path.unlink(missing_ok=True)  # of work that was stopped
        self._held: dict[str, array[int]] = {}
        self._stream: Any = None
        self._whole = True

    def watch(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The chunks as they come, each counted on its way."""
        for chunk in chunks:
            if chunk.opens and chunk.closes:
                if chunk.begins and chunk.ends:
                    self._add(chunk.split, xxh3_64_intdigest(bytes_of(chunk.content)))
            else:
                if chunk.opens:
                    self._stream, self._whole = xxh3_64(), chunk.begins
                self._stream.update(bytes_of(chunk.content))
                if chunk.closes and self._whole and chunk.ends:
                    self._add(chunk.split, self._stream.intdigest())
            yield chunk

    def lines(self, own: Iterable[str]) -> list[str]:
        """A line for each split that shares documents with the training text.

        Args:
            own: The splits that have a source of their own.
        """
        held = {split: np.array(hashes, np.uint64) for split, hashes in self._held.items() if split != TRAIN}
        known = {split: np.unique(hashes) for split, hashes in held.items()}
        met = {split: np.zeros(len(hashes), bool) for split, hashes in known.items()}
        for trained in self._trained() if held else ():
            for split, hashes in known.items():
                met[split] |= np.isin(hashes, trained)
        self._path.unlink(missing_ok=True)
        lines = []
        for split, hashes in held.items():
            if count := int(np.isin(hashes, known[split][met[split]]).sum()):
                what_would_do = "take them out of one of the two" if split in own else _APART
                lines.append(
                    f"{count:,} of {len(hashes):,} documents of {split} are in the training text too, word for word;"
                    f" {what_would_do}"
                )
        return lines

    def _add(self, split: str, value: int) -> None:
        hashes = self._held.setdefault(split, array("Q"))
        hashes.append(value)
        if split == TRAIN and len(hashes) == _HELD:
            with self._path.open("ab") as file:
                hashes.tofile(file)
            self._held[split] = array("Q")

    def _trained(self) -> Iterator[np.ndarray]:
        yield np.array(self._held.get(TRAIN, array("Q")), np.uint64)
        if self._path.exists():
            with self._path.open("rb") as file:
                while len(some := np.fromfile(file, np.uint64, _HELD)):
                    yield some
