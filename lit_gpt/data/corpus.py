"""One text as token ids on disk, and its way back as a memory map.

Knows: files, dtypes, document offsets, manifests. Does not know: where text comes from, splits, batches.

A corpus is a folder: `ids.bin` (uint16 or uint32, by the size of the vocabulary), `offsets.bin` (int64, one more than
there are documents: document d is ids[offsets[d]:offsets[d + 1]], special tokens included), `bytes.bin` (int64, UTF-8
bytes of each document's text) and `manifest.json`, written last.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lit_gpt.data.tokenizers import Tokenizer
from lit_gpt.errors import UserError

VERSION = 1
_BATCH = 1 << 22  # characters that are encoded together


def dtype_for(vocab_size: int) -> np.dtype[Any]:
    """The smallest of uint16 and uint32 that holds every id."""
    return np.dtype("<u2") if vocab_size <= 1 << 16 else np.dtype("<u4")


class CorpusWriter:
    """Writes a corpus document by document; memory holds one batch of text at a time.

    Args:
        folder: A new folder that only this writer uses.
        tokenizer: A trained tokenizer; documents get its `bos` and `eos` where it has them.
    """

    def __init__(self, folder: Path, tokenizer: Tokenizer) -> None:
        folder.mkdir(parents=True)
        self.folder, self.tokenizer = folder, tokenizer
        self._dtype = dtype_for(tokenizer.vocab_size)
        self._files = {name: (folder / name).open("wb") for name in ("ids.bin", "offsets.bin", "bytes.bin")}
        self._files["offsets.bin"].write(np.int64(0).tobytes())
        self._waiting: list[tuple[str, bool, bool]] = []
        self._waiting_characters = 0
        self._hash = hashlib.sha256()
        self._last: int | None = None
        self.tokens = self.documents = self.bytes = self.characters = 0
        self.largest_id = -1

    def add(self, text: str, begins: bool = True, ends: bool = True) -> None:
        """Takes a document, or a piece of one that does not begin or does not end here."""
        self._waiting.append((text, begins, ends))
        self._waiting_characters += len(text)
        if self._waiting_characters >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        for ids, (text, begins, ends) in zip(
            self.tokenizer.encode_arrays([text for text, _, _ in self._waiting]), self._waiting, strict=True
        ):
            self._write(self._framed(ids, begins, ends))
            encoded = text.encode("utf-8", "surrogatepass")
            self._hash.update(len(encoded).to_bytes(8, "little") + encoded)
            self._files["bytes.bin"].write(np.int64(len(encoded)).tobytes())
            self._files["offsets.bin"].write(np.int64(self.tokens).tobytes())
            self.documents += 1
            self.bytes += len(encoded)
            self.characters += len(text)
        self._waiting, self._waiting_characters = [], 0

    def _framed(self, ids: np.ndarray, begins: bool, ends: bool) -> np.ndarray:
        bos, eos = self.tokenizer.bos, self.tokenizer.eos
        # A separator that is both bos and eos stands once between two documents.
        leads = begins and bos is not None and not (bos == eos and self._last == bos)
        head = [bos] if leads else []
        tail = [eos] if ends and eos is not None else []
        return np.concatenate([np.array(head, np.int64), ids, np.array(tail, np.int64)]) if head or tail else ids

    def _write(self, ids: np.ndarray) -> None:
        if not len(ids):
            return
        least, most = int(ids.min()), int(ids.max())
        if least < 0 or most >= self.tokenizer.vocab_size:
            raise UserError(
                f"token id {least if least < 0 else most} is past the vocabulary of {self.tokenizer.vocab_size};"
                f" {type(self.tokenizer).__name__} must say its true vocab_size"
            )
        self.largest_id = max(self.largest_id, most)
        self._last = int(ids[-1])
        self.tokens += len(ids)
        self._files["ids.bin"].write(ids.astype(self._dtype).tobytes())

    def close(self) -> dict[str, Any]:
        """Finishes the files, then writes the manifest, and returns it."""
        self._flush()
        sizes = {}
        for name, file in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            sizes[name] = file.tell()
            file.close()
        manifest = {
            "format": "lit_gpt corpus",
            "version": VERSION,
            "tokens": self.tokens,
            "documents": self.documents,
            "bytes": self.bytes,
            "characters": self.characters,
            "dtype": self._dtype.name,
            "vocab_size": self.tokenizer.vocab_size,
            "largest_id": self.largest_id,
            "text": self._hash.hexdigest()[:32],
            "tokenizer": self.tokenizer.fingerprint(),
            "files": sizes,
        }
        write_json(self.folder / "manifest.json", manifest)
        sync_folder(self.folder)
        return manifest

    def abandon(self) -> None:
        """Closes the files of a corpus that will not be finished."""
        for file in self._files.values():
            file.close()


def write_corpus(folder: str | Path, documents: Iterable[str], tokenizer: Tokenizer) -> "Corpus":
    """Encodes documents into a new corpus folder, which appears whole or not at all.

    Raises:
        UserError: the folder exists already, or may not be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder} exists already; give another folder for the corpus, or remove it")
    with StagedFolder(folder) as staged:
        writer = CorpusWriter(staged / "corpus", tokenizer)
        try:
            for text in documents:
                writer.add(text)
            writer.close()
        finally:
            writer.abandon()
        (staged / "corpus").rename(folder)
    sync_folder(folder.parent)
    return Corpus(folder)


class Corpus:
    """A finished corpus: `ids` and `offsets` as memory maps, counts in `manifest`.

    It may be sent to another process, which maps the same files again and makes sure that they are still the same.

    Args:
        folder: Where the corpus lies.
        vocab_size: Ids at and past this are refused; by default the vocabulary that it was written with.

    Raises:
        UserError: no corpus there, one of another version, truncated files, ids past the vocabulary.
    """

    def __init__(self, folder: str | Path, vocab_size: int | None = None) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder / "manifest.json", "lit_gpt corpus", VERSION)
        for name, size in self.manifest["files"].items():
            path = self.folder / name
            # A file that is shorter than its map ends the process by SIGBUS when it is read: find out now.
            actual = path.stat().st_size if path.exists() else -1
            if actual != size:
                state = "is missing" if actual < 0 else f"has {actual} bytes"
                raise UserError(
                    f"corpus file {path} {state} instead of {size} bytes; remove {self.folder} and prepare again"
                )
        self.vocab_size = self.manifest["vocab_size"] if vocab_size is None else vocab_size
        if self.manifest["largest_id"] >= self.vocab_size:
            raise UserError(
                f"corpus {self.folder} holds token id {self.manifest['largest_id']}, past the vocabulary of"
                f" {self.vocab_size}; use the tokenizer and the vocab_size that it was prepared with"
            )
        self.ids = _map(self.folder / "ids.bin", np.dtype(self.manifest["dtype"]))
        self.offsets = _map(self.folder / "offsets.bin", np.dtype("<i8"))
        self.document_bytes = _map(self.folder / "bytes.bin", np.dtype("<i8"))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def documents(self) -> int:
        """Number of documents."""
        return self.manifest["documents"]

    @property
    def bytes(self) -> int:
        """UTF-8 bytes of the text, special tokens left out."""
        return self.manifest["bytes"]

    def document(self, number: int) -> np.ndarray:
        """Ids of one document, special tokens included. Shape (T,)."""
        return self.ids[self.offsets[number] : self.offsets[number + 1]]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "vocab_size": self.vocab_size, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"], state["vocab_size"])  # type: ignore[misc]
        if self.manifest != state["manifest"]:
            raise UserError(
                f"corpus {self.folder} was rebuilt while it was in use; start again, or give a data.folder of its own"
            )


class StagedFolder:
    """A folder beside the target to write in; removed at the end with whatever was not moved out of it."""

    def __init__(self, target: Path) -> None:
        self.path = target.parent / f".{target.name}.{os.getpid()}.writing"

    def __enter__(self) -> Path:
        import shutil

        shutil.rmtree(self.path, ignore_errors=True)  # left by a process that was killed and had our number
        make_folder(self.path)
        return self.path

    def __exit__(self, *error: object) -> None:
        import shutil

        shutil.rmtree(self.path, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        UserError: this user may not, or the disk is full or read-only.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError(
            f"folder {path} cannot be made ({fault.strerror}); give another data.folder or set LIT_GPT_CACHE"
        ) from None


def read_manifest(path: Path, form: str, version: int) -> dict[str, Any]:
    """A manifest, after a look at whether it is one and of this version."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path.parent} is not a finished {form}: it has no {path.name}; prepare it") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as fault:
        raise UserError(f"{path} is damaged ({fault}); remove {path.parent} and prepare again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != form:
        raise UserError(f"{path} is not the manifest of a {form}; give another folder")
    if manifest.get("version") != version:
        raise UserError(
            f"{path} is of version {manifest.get('version')}, this program reads version {version};"
            f" remove {path.parent} and prepare again"
        )
    return manifest


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON and waits until the disk has it."""
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the disk has a folder's entries."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _map(path: Path, dtype: np.dtype[Any]) -> np.ndarray:
    if path.stat().st_size == 0:
        return np.empty(0, dtype)
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_RANDOM"):
        # With the kernel's readahead a batch from a 20 GB map took 52-80 ms, without it 0.26 ms.
        content.madvise(mmap.MADV_RANDOM)
    return np.frombuffer(content, dtype)
