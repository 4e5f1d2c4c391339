"""Stage 3 of preparation, encode: cuts chunks where tokenization allows it and encodes them in shards of equal size.

What is in a shard depends on the text, the splits and the tokenizer alone, so shards are the same however many
processes encode them and however often the work was stopped.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lit_gpt.data.chunks import Chunk, text_of
from lit_gpt.data.corpus.encoder import Encoder, Shard
from lit_gpt.data.corpus.engines import Engine
from lit_gpt.data.formats.format import Format
from lit_gpt.data.progress import Progress, say
from lit_gpt.data.tokenizers.tokenizer import Tokenizer

SHARD = 1 << 22  # characters of a shard, at least
_WEIGHT = 64  # characters that a chunk counts for besides its own: many short ones take memory too
_FORMAT = 3  # of a shard file
FORCED = 1 << 18  # characters without a split point after which a text is cut all the same


def encode(
    chunks: Iterable[Chunk], tokenizer: Tokenizer, format: Format, folder: Path, engine: Engine, characters: int
) -> tuple[list[Path], int]:
    """Encodes chunks into shard files; those that a stopped run has written are kept.

    Args:
        chunks: With their splits.
        tokenizer: Trained.
        format: How documents are laid out.
        folder: For the shards, see `shards_folder`.
        engine: Who encodes.
        characters: In all chunks, for the progress bar.

    Returns:
        The shard files in order; how many times a text was cut where the tokenizer would not end a token.
    """
    folder.mkdir(exist_ok=True)
    for line in format.notes:
        say(line)
    cutter, paths = Cutter(tokenizer), list[Path]()
    with Progress("tokenizing", characters) as progress:

        def missing() -> Iterator[Shard]:
            for shard in in_shards(cutter.cut(chunks), folder):
                paths.append(shard.path)
                if shard.path.exists():
                    progress.advance(shard.characters)
                else:
                    yield shard

        engine.run(Encoder(tokenizer, format), missing(), progress.advance)
    return paths, cutter.forced


class Cutter:
    """Ends chunks where the tokenizer joins nothing over, numbers documents, and says which chunks get a bos.

    Args:
        tokenizer: Has the split points and the special tokens.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.forced = 0  # cuts in a text that has no split point

    def cut(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The chunks, in their order."""
        # A separator that is both bos and eos comes once between two documents.
        separator = self.tokenizer.bos == self.tokenizer.eos
        number, ended = -1, set[str]()  # splits whose last chunk ended with eos
        for chunk in self._at_split_points(chunks):
            number += chunk.begins
            bos = chunk.begins and not (separator and chunk.split in ended)
            yield chunk._replace(number=max(number, 0), bos=bos)
            if chunk.ends:
                ended.add(chunk.split)
            else:
                ended.discard(chunk.split)

    def _at_split_points(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Chunks that end at split points; the rest of each is put before the next."""
        held, opens, begins = "", False, False
        for chunk in chunks:
            if chunk.closes and not held:
                yield chunk
                continue
            assert isinstance(chunk.content, str)
            if not held:
                opens, begins = chunk.opens, chunk.begins
            held += chunk.content
            at = len(held) if chunk.closes else self._last_split_point(held, self.tokenizer.split_points)
            if at:
                ends = chunk.closes and chunk.ends
                yield chunk._replace(content=held[:at], begins=begins, ends=ends, opens=opens)
                held, opens, begins = held[at:], False, False

    def _last_split_point(self, text: str, points: re.Pattern[str] | None) -> int:
        """Where to cut a text, 0 if it is better held."""
        if points is None:
            return 0  # nothing is proven for this tokenizer: a document is held whole
        reach, start = 256, len(text)
        while start > 1:  # from the end back to the beginning, in steps that grow
            start = max(len(text) - reach, 1)
            if places := [found.start() for found in points.finditer(text, start)]:
                return places[-1]
            reach *= 16
        if len(text) < FORCED:
            return 0
        self.forced += 1
        return len(text)


def in_shards(chunks: Iterable[Chunk], folder: Path) -> Iterator[Shard]:
    """Chunks, some million characters together, with the file of each shard."""
    waiting: list[Chunk] = []
    characters = number = 0
    for chunk in chunks:
        waiting.append(chunk)
        characters += len(text_of(chunk.content))
        if characters + _WEIGHT * len(waiting) >= SHARD:
            yield Shard(waiting, characters, folder / f"{number:08}.shard")
            waiting, characters, number = [], 0, number + 1
    if waiting:
        yield Shard(waiting, characters, folder / f"{number:08}.shard")


def shards_folder(working: Path, identity: dict[str, Any]) -> Path:
    """Where the shards of a recipe wait.

    Those of another recipe, or cut otherwise, are never there, not even where a process of killed work ends later.
    """
    decides = json.dumps([_FORMAT, identity, SHARD, _WEIGHT, FORCED], sort_keys=True)
    return working / f"shards-{hashlib.sha256(decides.encode()).hexdigest()[:16]}"
