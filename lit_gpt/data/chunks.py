"""Chunk: text on its way from a source to token ids. Segment: a stretch of a document with a loss mask."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

Content = str | dict[str, Any]  # a text, or a record with fields


class Chunk(NamedTuple):
    """A document, or a part of one that is too long to be held at once.

    content: the text; or a record, which is always whole. begins, ends: whether the document does so here. tag: name of
    the special token before the document, as a mixture sets it. where: file and line or offset, for errors.

    Set on the way: split: where it goes. opens, closes: whether a document of the split begins and ends here; that of
    the source may be cut by the border of two splits. number: of the document in its text. bos: whether it gets one.
    """

    content: Content
    begins: bool = True
    ends: bool = True
    tag: str | None = None
    where: str = ""
    split: str = ""
    opens: bool = True
    closes: bool = True
    number: int = 0
    bos: bool = True

    def to_split(self, split: str) -> "Chunk":
        """The chunk in a split that takes documents whole."""
        return self._replace(split=split, opens=self.begins, closes=self.ends)


class Segment(NamedTuple):
    """A stretch of a document as a format lays it out.

    text: what is encoded, or the name of one special token where `special`. trained: whether it is trained on, or only
    read (loss mask 0, target -100).
    """

    text: str
    special: bool = False
    trained: bool = True


def text_of(content: Content) -> str:
    """The text by which a document is counted, compared and split; of a record all its strings, a line each."""
    return content if isinstance(content, str) else "\n".join(_strings(content))


def bytes_of(content: Content) -> bytes:
    """What a document is fingerprinted by: two that differ in anything differ here."""
    if isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    return json.dumps(content, sort_keys=True, ensure_ascii=True, default=str).encode()


def whole(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Chunks with those of each document joined."""
    parts: list[str] = []
    first: Chunk | None = None
    for chunk in chunks:
        if chunk.begins and chunk.ends:
            yield chunk
            continue
        if chunk.begins:
            first, parts = chunk, []
        assert first is not None and isinstance(chunk.content, str)
        parts.append(chunk.content)
        if chunk.ends:
            yield first._replace(content="".join(parts), ends=True)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)
