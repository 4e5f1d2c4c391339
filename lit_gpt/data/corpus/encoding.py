"""Pieces of documents to ids: what each process that tokenizes does, with no need to ask another.

Knows: pieces, formats, tokenizers, arrays; the files in which finished stretches wait (shards: an XXH3 checksum, then
safetensors). Does not know: where text comes from, how splits are made, who encodes what. Imports no torch: a process
for it has to be cheap.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from xxhash import xxh3_64_digest

from lit_gpt import atomic_io
from lit_gpt.data.chunks import Content, Segment, text_of
from lit_gpt.data.corpus.working_folder import Stopped
from lit_gpt.data.formats.format import Format
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError

_SUM = 8  # bytes of the checksum ahead of a shard
_TOGETHER = 1 << 18  # characters: the tokenizers library holds some 100 bytes a token until a call is done


#: Stretches of ids, each with whether it is learned.
Stretches = list[tuple[np.ndarray | list[int], bool]]


class Piece(NamedTuple):
    """A document, or a part of one, on its way to one split.

    number: which document of its text. opens: a document of the split begins here. begins, ends: the text's own
    document does so here; it may be cut by the border of two splits. leads: `bos` goes ahead. tag: name of a special
    token that goes ahead. where: its place, for errors.
    """

    split: str
    content: Content
    number: int = 0
    opens: bool = True
    begins: bool = True
    ends: bool = True
    leads: bool = True
    tag: str | None = None
    where: str = ""


class Encoded(NamedTuple):
    """A stretch of one split: P pieces, N tokens.

    ids: (N,). loss_mask: (N,) uint8, or None where all is learned. lengths: (P,) tokens. opens: (P,) bool. bytes: (P,)
    UTF-8 bytes of what is learned.
    """

    ids: np.ndarray
    loss_mask: np.ndarray | None
    lengths: np.ndarray
    opens: np.ndarray
    bytes: np.ndarray
    characters: int
    largest_id: int


class Encoder:
    """Makes ids of pieces.

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

    def encode(self, pieces: Sequence[Piece]) -> dict[str, Encoded]:
        """The ids of pieces, by split; within one, in the order given.

        Raises:
            UserError: a piece that cannot be encoded, with its place.
        """
        laid_out = [self._laid_out(piece) for piece in pieces]
        if self.format.whole_text:
            encoded = self._wholes(pieces, laid_out)
        else:
            texts = [segment.text for segments in laid_out for segment in segments if not segment.special]
            arrays = iter(self._arrays(texts, pieces, laid_out))
            encoded = (self._by_spans(segments, arrays) for segments in laid_out)
        parts: dict[str, _Parts] = {}
        for piece, segments, stretches in zip(pieces, laid_out, encoded, strict=True):
            part = parts.setdefault(piece.split, _Parts())
            part.add(piece, stretches, segments)
        return {split: part.joined(self.tokenizer) for split, part in parts.items()}

    def _laid_out(self, piece: Piece) -> list[Segment]:
        try:
            return self._framed(piece, self.format.segments(piece.content, piece.number))
        except UserError as fault:
            raise _placed(piece, fault) from None

    def _framed(self, piece: Piece, segments: list[Segment]) -> list[Segment]:
        """The document with the special tokens around it."""
        read = all(segment.trained for segment in segments)
        tag = [Segment(piece.tag, True, read)] if piece.tag is not None and piece.begins else []
        for segment in tag:
            self._special.setdefault(segment.text, self.tokenizer.special_id(segment.text))
        if not self.format.framed:  # behind a bos with which the text itself begins
            behind = int(bool(segments) and segments[0].special and segments[0].text == self._bos)
            return [*segments[:behind], *tag, *segments[behind:]]
        bos = [Segment(self._bos, True, read)] if piece.leads and self._bos is not None else []
        # What ends the answer is learned with it; after a question it is not.
        last = not segments or segments[-1].trained
        eos = [Segment(self._eos, True, last)] if piece.ends and self._eos is not None else []
        return [*bos, *tag, *segments, *eos]

    def _arrays(self, texts: list[str], pieces: Sequence[Piece], laid_out: list[list[Segment]]) -> Iterator[np.ndarray]:
        try:
            for batch in _batches(texts):
                yield from self.tokenizer.encode_arrays(batch)
        except (UserError, UnicodeEncodeError, TypeError) as fault:
            self._find(pieces, laid_out)
            raise fault

    def _find(self, pieces: Sequence[Piece], laid_out: list[list[Segment]]) -> None:
        """Raises for the first piece that cannot be encoded."""
        for piece, segments in zip(pieces, laid_out, strict=True):
            try:
                self.tokenizer.encode_arrays([segment.text for segment in segments if not segment.special])
            except (UserError, UnicodeEncodeError, TypeError) as fault:
                raise _placed(piece, _said(fault)) from None

    def _wholes(self, pieces: Sequence[Piece], laid_out: list[list[Segment]]) -> Iterator[Stretches]:
        """Each document encoded as one text."""
        sizes = [sum(len(segment.text) for segment in segments) for segments in laid_out]
        for first, last in _together(sizes):
            try:
                made = self.tokenizer.encode_segments(laid_out[first:last])
            except (UserError, UnicodeEncodeError, TypeError) as error:
                self._find_whole(pieces[first:last], laid_out[first:last])
                raise error
            for ids, loss_mask in made:
                borders = [0, *(np.flatnonzero(np.diff(loss_mask)) + 1).tolist(), len(ids)]
                yield [(ids[start:end], bool(loss_mask[start])) for start, end in pairwise(borders) if start < end]

    def _find_whole(self, pieces: Sequence[Piece], laid_out: list[list[Segment]]) -> None:
        """Raises for the first document that cannot be encoded as one text."""
        for piece, segments in zip(pieces, laid_out, strict=True):
            try:
                self.tokenizer.encode_segments([segments])
            except (UserError, UnicodeEncodeError, TypeError) as error:
                raise _placed(piece, _said(error)) from None

    def _by_spans(self, segments: list[Segment], arrays: Iterator[np.ndarray]) -> Stretches:
        """Stretches of ids with whether they are learned, each segment encoded by itself."""
        return [
            ([self._special[segment.text]] if segment.special else next(arrays), segment.trained)
            for segment in segments
        ]


class _Parts:
    """The growing arrays of one split."""

    def __init__(self) -> None:
        self.ids: list[np.ndarray | list[int]] = []
        self.loss_mask: list[tuple[int, bool]] = []
        self.lengths: list[int] = []
        self.opens: list[bool] = []
        self.bytes: list[int] = []
        self.characters = 0

    def add(self, piece: Piece, framed: Stretches, segments: list[Segment]) -> None:
        self.ids += [ids for ids, _ in framed]
        self.loss_mask += [(len(ids), loss_mask) for ids, loss_mask in framed]
        self.lengths.append(sum(len(ids) for ids, _ in framed))
        self.opens.append(piece.opens)
        learned = (segment.text for segment in segments if segment.trained and not segment.special)
        self.bytes.append(sum(len(text.encode("utf-8", "surrogatepass")) for text in learned))
        self.characters += len(text_of(piece.content))

    def joined(self, tokenizer: Tokenizer) -> Encoded:
        ids = np.concatenate([np.asarray(part, np.int64) for part in self.ids]) if self.ids else np.empty(0, np.int64)
        least, most = (int(ids.min()), int(ids.max())) if len(ids) else (0, -1)
        if least < 0 or most >= tokenizer.vocab_size:
            raise UserError(
                f"token id {least if least < 0 else most} is past the vocabulary of {tokenizer.vocab_size};"
                f" {type(tokenizer).__name__} must say its true vocab_size"
            )
        loss_mask = None
        if not all(learned for _, learned in self.loss_mask):
            counts, learned_of = zip(*self.loss_mask, strict=True)
            loss_mask = np.repeat(np.array(learned_of, np.uint8), counts)
        lengths, sizes = np.array(self.lengths, np.int64), np.array(self.bytes, np.int64)
        return Encoded(ids, loss_mask, lengths, np.array(self.opens, bool), sizes, self.characters, most)


def write_shard(path: Path, encoded: dict[str, Encoded]) -> None:
    """Writes a finished stretch of the text; it appears under its name whole or not at all."""
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    for split, one in encoded.items():
        ids = one.ids.astype(np.uint16 if one.largest_id < 1 << 16 else np.uint32)
        arrays[f"{split} ids"], arrays[f"{split} lengths"] = ids, one.lengths
        arrays[f"{split} opens"], arrays[f"{split} bytes"] = one.opens, one.bytes
        arrays[f"{split} counts"] = np.array([one.characters, one.largest_id], np.int64)
        if one.loss_mask is not None:
            arrays[f"{split} loss_mask"] = one.loss_mask
    # Not by the library's `save_file`: what it raises when the disk is full has no error number.
    content = save(arrays)
    with atomic_io.staged_file(path) as file:
        file.write(xxh3_64_digest(content))
        file.write(content)


def read_shard(path: Path) -> dict[str, Encoded]:
    """What `write_shard` wrote.

    Raises:
        Stopped: the disk gave back something else; the shard is removed, and so made anew the next time.
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
        split: Encoded(
            arrays[f"{split} ids"],
            arrays.get(f"{split} loss_mask"),
            arrays[f"{split} lengths"],
            arrays[f"{split} opens"],
            arrays[f"{split} bytes"],
            *arrays[f"{split} counts"].tolist(),
        )
        for split in splits
    }


def _batches(texts: list[str]) -> Iterator[list[str]]:
    for first, last in _together([len(text) for text in texts]):
        yield texts[first:last]


def _together(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) of texts that one call of the tokenizer takes, given their characters."""
    first, characters = 0, 0
    for number, size in enumerate(sizes):
        characters += size
        if characters >= _TOGETHER:
            yield first, number + 1
            first, characters = number + 1, 0
    if first < len(sizes):
        yield first, len(sizes)


def _said(error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    return UserError(
        "the text holds half a surrogate pair (U+D800 to U+DFFF), which is no character; repair the document or leave"
        " it out"
    )


def _placed(piece: Piece, fault: UserError) -> UserError:
    return UserError(f"{piece.where}: {fault}") if piece.where else fault
