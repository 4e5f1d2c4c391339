"""Encoder: token ids and loss mask of chunks, as each process that tokenizes makes them; the files of shards.

Imports no torch: a process for it has to be cheap. A shard file is an XXH3 checksum, then safetensors.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from xxhash import xxh3_64_digest

from lit_gpt import atomic_io
from lit_gpt.data.chunks import Chunk, Segment, text_of
from lit_gpt.data.corpus.working_folder import Stopped
from lit_gpt.data.formats.format import Format
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError

_SUM = 8  # bytes of the checksum before a shard
_TOGETHER = 1 << 18  # characters: the tokenizers library holds some 100 bytes a token until a call is done
_CANNOT_ENCODE = (UserError, UnicodeEncodeError, TypeError)

#: Stretches of ids, each with whether it is trained on.
_Stretches = list[tuple[np.ndarray | list[int], bool]]


class Shard(NamedTuple):
    """Chunks that are encoded into one file."""

    chunks: list[Chunk]
    characters: int
    path: Path


class TokenArrays(NamedTuple):
    """C encoded chunks of one split, N tokens.

    ids: (N,). loss_mask: (N,) uint8, or None where all is trained on. lengths: (C,) tokens. opens: (C,) bool, whether a
    document begins. bytes: (C,) UTF-8 bytes of what is trained on.
    """

    ids: np.ndarray
    loss_mask: np.ndarray | None
    lengths: np.ndarray
    opens: np.ndarray
    bytes: np.ndarray
    characters: int
    largest_id: int


class Encoder:
    """Encodes chunks.

    Args:
        tokenizer: A trained one; documents get its `bos` and `eos` where it has them.
        format: How documents are laid out.
    """

    def __init__(self, tokenizer: Tokenizer, format: Format) -> None:
        self.tokenizer, self.format = tokenizer, format
        self._special = {name: tokenizer.special_id(name) for name in format.special_tokens}
        self._bos, self._eos = (None if id is None else tokenizer.token(id) for id in (tokenizer.bos, tokenizer.eos))
        for name, id in ((self._bos, tokenizer.bos), (self._eos, tokenizer.eos)):
            if name is not None and id is not None:
                self._special.setdefault(name, id)

    def encode(self, chunks: Sequence[Chunk]) -> dict[str, TokenArrays]:
        """The ids of chunks, by split; within one, in the order given.

        Raises:
            UserError: A chunk that cannot be encoded, with its place.
        """
        documents = [self._segments(chunk) for chunk in chunks]
        tokenize: Callable[[list[list[Segment]]], Iterator[_Stretches]]
        tokenize = self._whole_documents if self.format.whole_text else self._by_segment
        try:
            encoded = list(tokenize(documents))
        except _CANNOT_ENCODE:
            for chunk, segments in zip(chunks, documents, strict=True):  # find the one
                try:
                    list(tokenize([segments]))
                except _CANNOT_ENCODE as error:
                    raise _placed(chunk, error) from None
            raise
        splits: dict[str, _Split] = {}
        for chunk, segments, stretches in zip(chunks, documents, encoded, strict=True):
            splits.setdefault(chunk.split, _Split()).add(chunk, stretches, segments)
        return {name: split.arrays(self.tokenizer) for name, split in splits.items()}

    def _segments(self, chunk: Chunk) -> list[Segment]:
        """The document laid out, with the special tokens around it."""
        try:
            segments = self.format.segments(chunk.content, chunk.number)
        except UserError as error:
            raise _placed(chunk, error) from None
        trained = all(segment.trained for segment in segments)
        tag = [Segment(chunk.tag, True, trained)] if chunk.tag is not None and chunk.begins else []
        for segment in tag:
            self._special.setdefault(segment.text, self.tokenizer.special_id(segment.text))
        if not self.format.framed:  # behind a bos with which the text itself begins
            behind = int(bool(segments) and segments[0].special and segments[0].text == self._bos)
            return [*segments[:behind], *tag, *segments[behind:]]
        bos = [Segment(self._bos, True, trained)] if chunk.bos and self._bos is not None else []
        # An eos is trained on with the answer that it ends, and not after a question.
        last = not segments or segments[-1].trained
        eos = [Segment(self._eos, True, last)] if chunk.ends and self._eos is not None else []
        return [*bos, *tag, *segments, *eos]

    def _by_segment(self, documents: list[list[Segment]]) -> Iterator[_Stretches]:
        """Each segment encoded by itself."""
        texts = [segment.text for segments in documents for segment in segments if not segment.special]
        batches = _batches([len(text) for text in texts])
        arrays = (ids for first, past in batches for ids in self.tokenizer.encode_arrays(texts[first:past]))
        for segments in documents:
            yield [(self._special_or(one, arrays), one.trained) for one in segments]

    def _special_or(self, segment: Segment, arrays: Iterator[np.ndarray]) -> np.ndarray | list[int]:
        return [self._special[segment.text]] if segment.special else next(arrays)

    def _whole_documents(self, documents: list[list[Segment]]) -> Iterator[_Stretches]:
        """Each document encoded as one text."""
        for first, past in _batches([sum(len(one.text) for one in segments) for segments in documents]):
            for ids, mask in self.tokenizer.encode_segments(documents[first:past]):
                borders = [0, *(np.flatnonzero(np.diff(mask)) + 1).tolist(), len(ids)]
                yield [(ids[start:end], bool(mask[start])) for start, end in pairwise(borders) if start < end]


class _Split:
    """The growing arrays of one split."""

    def __init__(self) -> None:
        self.stretches: _Stretches = []
        self.lengths: list[int] = []
        self.opens: list[bool] = []
        self.bytes: list[int] = []
        self.characters = 0

    def add(self, chunk: Chunk, stretches: _Stretches, segments: list[Segment]) -> None:
        self.stretches += stretches
        self.lengths.append(sum(len(ids) for ids, _ in stretches))
        self.opens.append(chunk.opens)
        texts = (segment.text for segment in segments if segment.trained and not segment.special)
        self.bytes.append(sum(len(text.encode("utf-8", "surrogatepass")) for text in texts))
        self.characters += len(text_of(chunk.content))

    def arrays(self, tokenizer: Tokenizer) -> TokenArrays:
        ids = np.concatenate([np.empty(0, np.int64), *(np.asarray(part, np.int64) for part, _ in self.stretches)])
        smallest, largest = (int(ids.min()), int(ids.max())) if len(ids) else (0, -1)
        if smallest < 0 or largest >= tokenizer.vocab_size:
            raise UserError(
                f"token id {smallest if smallest < 0 else largest} is past the vocabulary of {tokenizer.vocab_size};"
                f" {type(tokenizer).__name__} must say its true vocab_size"
            )
        mask = None
        if not all(trained for _, trained in self.stretches):
            trained_on = np.array([trained for _, trained in self.stretches], np.uint8)
            mask = np.repeat(trained_on, [len(part) for part, _ in self.stretches])
        lengths, sizes = np.array(self.lengths, np.int64), np.array(self.bytes, np.int64)
        return TokenArrays(ids, mask, lengths, np.array(self.opens, bool), sizes, self.characters, largest)


def write_shard(path: Path, splits: dict[str, TokenArrays]) -> None:
    """Writes the arrays of a shard; the file appears whole or not at all."""
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    for split, one in splits.items():
        ids = one.ids.astype(np.uint16 if one.largest_id < 1 << 16 else np.uint32)
        counts = np.array([one.characters, one.largest_id], np.int64)
        named = {"ids": ids, "lengths": one.lengths, "opens": one.opens, "bytes": one.bytes, "counts": counts}
        if one.loss_mask is not None:
            named["loss_mask"] = one.loss_mask
        arrays |= {f"{split} {name}": array for name, array in named.items()}
    # Not by the library's `save_file`: what it raises when the disk is full has no error number.
    content = save(arrays)
    with atomic_io.staged_file(path) as file:
        file.write(xxh3_64_digest(content))
        file.write(content)


def read_shard(path: Path) -> dict[str, TokenArrays]:
    """Reads what `write_shard` wrote.

    Raises:
        Stopped: The file was damaged; it is removed, and so made again the next time.
    """
    from safetensors.numpy import load

    content = path.read_bytes()
    if xxh3_64_digest(content[_SUM:]) != content[:_SUM]:
        path.unlink()
        raise Stopped(
            f"{path} was damaged after it was written (its checksum differs), so it is removed; run the same again:"
            " it alone is made anew"
        )
    arrays = load(content[_SUM:])
    splits = [name.removesuffix(" ids") for name in arrays if name.endswith(" ids")]
    return {
        split: TokenArrays(
            *(arrays.get(f"{split} {name}") for name in TokenArrays._fields[:5]),  # type: ignore[arg-type]
            *arrays[f"{split} counts"].tolist(),
        )
        for split in splits
    }


def _batches(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """First and past the last of the texts that one call of the tokenizer takes, given their characters."""
    first, characters = 0, 0
    for number, size in enumerate(sizes):
        characters += size
        if characters >= _TOGETHER:
            yield first, number + 1
            first, characters = number + 1, 0
    if first < len(sizes):
        yield first, len(sizes)


def _placed(chunk: Chunk, error: Exception) -> UserError:
    reason = (
        str(error)
        if isinstance(error, UserError)
        else (
            "the text holds half a surrogate pair (U+D800 to U+DFFF), which is no character; repair the document or"
            " leave it out"
        )
    )
    return UserError(f"{chunk.where}: {reason}" if chunk.where else reason)
