"""Corpus: the token ids of one split on disk, read as memory maps.

A corpus is a folder of columns (see `memmap`): `ids` (uint16 or uint32, by the size of the vocabulary), `offsets`
(int64, one more than there are documents: document d is ids[offsets[d]:offsets[d + 1]], special tokens included),
`bytes` (int64, UTF-8 bytes of each document that are trained on), where some text is only read
`loss_mask` (uint8 per token), and `manifest.json`, written last.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lit_gpt import atomic_io
from lit_gpt.data.chunks import Chunk
from lit_gpt.data.corpus.encode import Cutter, in_shards
from lit_gpt.data.corpus.encoder import Encoder, TokenArrays
from lit_gpt.data.corpus.memmap import Column, ColumnWriter
from lit_gpt.data.folders import disk_hints, read_manifest, write_json
from lit_gpt.data.formats.format import PlainText
from lit_gpt.data.progress import Progress
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError

FORMAT, VERSION = "lit_gpt corpus", 3
COLUMNS: dict[str, np.dtype[Any]] = {"offsets": np.dtype("<i8"), "bytes": np.dtype("<i8"), "loss_mask": np.dtype("u1")}
_SAID = (
    *("tokens", "documents", "bytes", "characters", "longest", "dtype", "vocab_size", "largest_id", "bos", "eos"),
    *("tokenizer", "files"),
)
_READ = 1 << 22  # bytes that `verify` reads at a time


def dtype_for(vocab_size: int) -> np.dtype[Any]:
    """The smallest of uint16 and uint32 that holds every id."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


class CorpusWriter:
    """Writes a corpus from encoded chunks.

    Args:
        folder: A new folder that only this writer uses.
        tokenizer: The tokenizer that encoded it.
        masked: Write a loss mask.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer, masked: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.tokenizer = folder, tokenizer
        self._columns = {"ids": ColumnWriter(folder / "ids.bin", dtype_for(tokenizer.vocab_size))}
        for name, dtype in COLUMNS.items():
            if masked or name != "loss_mask":
                self._columns[name] = ColumnWriter(folder / f"{name}.bin", dtype)
        self._columns["offsets"].write(np.zeros(1, np.int64))
        self._open = np.zeros(2, np.int64)  # tokens and bytes of the document that may continue
        self._ended = 0  # tokens of all documents that are closed
        self.tokens = self.documents = self.bytes = self.characters = self.longest = 0
        self.largest_id = -1

    def add(self, arrays: TokenArrays) -> None:
        """Appends encoded chunks."""
        self._columns["ids"].write(arrays.ids)
        if "loss_mask" in self._columns:
            mask = np.ones(len(arrays.ids), np.uint8) if arrays.loss_mask is None else arrays.loss_mask
            self._columns["loss_mask"].write(mask)
        self.tokens += len(arrays.ids)
        self.characters += arrays.characters
        self.largest_id = max(self.largest_id, arrays.largest_id)
        starts = np.flatnonzero(arrays.opens)  # chunks that begin a document
        tokens, sizes = _by_document(arrays.lengths, starts), _by_document(arrays.bytes, starts)
        # What comes before the first start belongs to the document that is open.
        self._open += (tokens[0], sizes[0])
        if len(starts):
            first = 0 if self.documents else 1  # nothing is open before the first document
            self._close_documents(
                np.array([self._open[0], *tokens[1:-1]])[first:], np.array([self._open[1], *sizes[1:-1]])[first:]
            )
            self._open = np.array((tokens[-1], sizes[-1]))
            self.documents += len(starts)

    def _close_documents(self, tokens: np.ndarray, sizes: np.ndarray) -> None:
        self._columns["bytes"].write(sizes)
        ends = self._ended + np.cumsum(tokens)
        self._columns["offsets"].write(ends)
        self._ended = int(ends[-1]) if len(ends) else self._ended
        self.bytes += int(sizes.sum())
        self.longest = max(self.longest, int(tokens.max(initial=0)))

    def close(self) -> dict[str, Any]:
        """Finishes the files, writes the manifest and returns it."""
        if self.documents:
            self._close_documents(self._open[:1], self._open[1:])
        files: dict[str, Any] = {}
        for column in self._columns.values():
            files |= column.close()
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "tokens": self.tokens,
            "documents": self.documents,
            "bytes": self.bytes,
            "characters": self.characters,
            "longest": self.longest,
            "dtype": self._columns["ids"].dtype.name,
            "vocab_size": self.tokenizer.vocab_size,
            "largest_id": self.largest_id,
            "bos": self.tokenizer.bos,
            "eos": self.tokenizer.eos,
            "tokenizer": self.tokenizer.fingerprint(),
            "files": files,
        }
        write_json(self.folder / "manifest.json", manifest)
        return manifest

    def abandon(self) -> None:
        """Closes the files of a corpus that will not be finished."""
        for column in self._columns.values():
            column.abandon()


def write_corpus(folder: str | Path, documents: Iterable[str], tokenizer: Tokenizer) -> "Corpus":
    """Encodes documents into a new corpus folder, which appears whole or not at all.

    Raises:
        UserError: the folder exists already, or may not be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already; give another folder for the corpus, or remove it")
    encoder = Encoder(tokenizer, PlainText())
    chunks = Cutter(tokenizer).cut(Chunk(text) for text in documents)
    with disk_hints(folder), atomic_io.staged_folder(folder) as staged:
        writer = CorpusWriter(staged, tokenizer)
        try:
            for shard in in_shards(chunks, staged):
                for arrays in encoder.encode(shard.chunks).values():
                    writer.add(arrays)
            writer.close()
        finally:
            writer.abandon()
    return Corpus(folder)


class Corpus:
    """A finished corpus: `ids`, `offsets`, `document_bytes` and perhaps `loss_mask` as columns, counts in `manifest`.

    It may be sent to another process, which maps the same files again and makes sure that they are still the same.

    Args:
        folder: Where the corpus lies.
        vocab_size: Ids at and past this are refused; by default the vocabulary that it was written with.

    Raises:
        UserError: no corpus there, one of another version, truncated files, ids past the vocabulary.
    """

    def __init__(self, folder: str | Path, vocab_size: int | None = None) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder / "manifest.json", FORMAT, VERSION, _SAID)
        for name, facts in self.manifest["files"].items():
            path = self.folder / name
            # A file that is shorter than its map ends the process by SIGBUS when it is read: find out now.
            actual = path.stat().st_size if path.exists() else -1
            if actual != facts["bytes"]:
                state = "is missing" if actual < 0 else f"has {actual} bytes instead of {facts['bytes']} bytes"
                raise UserError(f"corpus file {path} {state}; remove {self.folder} and prepare again")
        self.vocab_size = self.manifest["vocab_size"] if vocab_size is None else vocab_size
        if self.manifest["largest_id"] >= self.vocab_size:
            raise UserError(
                f"corpus {self.folder} holds token id {self.manifest['largest_id']}, past the vocabulary of"
                f" {self.vocab_size}; use the tokenizer and the vocab_size that it was prepared with"
            )
        self.ids = Column(self.folder / "ids.bin", dtype_for(self.manifest["vocab_size"]))
        self.offsets = Column(self.folder / "offsets.bin", COLUMNS["offsets"])
        self.document_bytes = Column(self.folder / "bytes.bin", COLUMNS["bytes"])
        masked = "loss_mask.bin" in self.manifest["files"]
        self.loss_mask = Column(self.folder / "loss_mask.bin", COLUMNS["loss_mask"]) if masked else None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def documents(self) -> int:
        """Number of documents."""
        return self.manifest["documents"]

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the text that is trained on, without special tokens."""
        return self.manifest["bytes"]

    @property
    def fingerprint(self) -> str:
        """Changes whenever an id does."""
        return str(self.manifest["files"]["ids.bin"]["sha256"][:32])

    def document(self, number: int) -> np.ndarray:
        """Ids of one document, special tokens included. Shape (T,)."""
        return self.ids[int(self.offsets[number]) : int(self.offsets[number + 1])]

    def verify(self, progress: Progress) -> None:
        """Reads every byte and compares it with what was written.

        Raises:
            UserError: a file was changed.
        """
        for name, facts in self.manifest["files"].items():
            digest = hashlib.sha256()
            with (self.folder / name).open("rb") as file:
                while block := file.read(_READ):
                    digest.update(block)
                    progress.advance(len(block))
            if digest.hexdigest() != facts["sha256"]:
                raise UserError(
                    f"{self.folder / name} was changed after it was written (its sha256 differs);"
                    f" remove {self.folder} and prepare again"
                )

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "vocab_size": self.vocab_size, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"], state["vocab_size"])  # type: ignore[misc]
        if self.manifest != state["manifest"]:
            raise UserError(
                f"corpus {self.folder} was rebuilt while it was in use; start again, or give a data.folder of its own"
            )


def _by_document(counts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sums of the pieces before the first start, then of each document. Shape (starts + 1,)."""
    sums = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
    edges = np.concatenate(([0], starts, [len(counts)]))
    return np.diff(sums[edges])
