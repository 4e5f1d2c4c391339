"""Mixture: several sources as one text, by weight or one after the other."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lit_gpt.data.chunks import Chunk, text_of
from lit_gpt.data.sources.source import Source
from lit_gpt.errors import UserError

Until = Literal["longest", "shortest"]
_EXACT = 1e-6  # how far a sum of weights may be from 1


@dataclass
class _Reading:
    """How far one source has been read.

    ahead: its next chunk, at the start of a document while others are read; None at its end. left: where it was left
    for good.
    """

    source: Source
    documents: int = 0
    characters: int = 0
    in_one: int = 0  # documents of one whole reading, once there was one
    said: list[str] = field(default_factory=list)  # the source's own notes of that
    left: str | None = None
    rest: Iterator[Chunk] = field(default_factory=lambda: iter(()))
    ahead: Chunk | None = None

    def begin(self) -> None:
        self.rest = iter(self.source.chunks())
        self.ahead = next(self.rest, None)

    def document(self) -> Iterator[Chunk]:
        """The stretches of the next document."""
        ended = False
        while not ended:
            assert self.ahead is not None
            chunk, self.ahead = self.ahead, None
            self.characters += len(text_of(chunk.content))
            ended = chunk.ends
            yield chunk
            del chunk  # a long one is not held while the next is read
            self.ahead = next(self.rest, None)
        self.documents += 1
        if self.ahead is None and not self.in_one:
            self.in_one, self.said = self.documents, self.source.notes()


class Mixture(Source):
    """Several sources as one text: one after the other, or in given shares of its characters.

    With weights, the next document is always of the source that is furthest behind its share, so that the shares hold
    all along the text as near as whole documents allow. As the default is that nothing is lost, sources that are over
    before others begin again: how often, the report says. Split such a text by hash, or give a val_source: by another
    split, a document may come in training and in validation. A filter against duplicates takes repeats out again.

    Args:
        sources: The sources by name; mixtures may be among them.
        weights: Share of each source in the characters of the text, by name, 1 in sum; by default each source is read
            once, one after the other.
        tags: Special token before each document of a source, by the name of the source, such as <|en|>.
        until: Where a text with weights ends: longest, when each source was read whole (short ones are read again until
            then), or shortest, when the first is at its end (the rest of the others is dropped).
    """

    def __init__(
        self,
        sources: dict[str, Callable[[], Source]],
        weights: dict[str, float] | None = None,
        tags: dict[str, str] | None = None,
        until: Until = "longest",
    ) -> None:
        self.sources = {name: new() for name, new in sources.items()}
        self.weights, self.tags, self.until = weights, tags or {}, until
        self._readings: dict[str, _Reading] = {}
        if not self.sources:
            raise UserError("sources of Mixture is empty; give at least one source by a name")
        self._check_weights()
        self._check_tags()

    def chunks(self) -> Iterator[Chunk]:
        self._readings = readings = {name: _Reading(source) for name, source in self.sources.items()}
        for name in self._in_turn(readings) if self.weights else self._one_by_one(readings):
            tag = self.tags.get(name)
            for chunk in readings[name].document():
                yield chunk._replace(tag=tag) if tag else chunk

    def signature(self) -> str | None:
        within = {name: source.signature() for name, source in self.sources.items()}
        if None in within.values():
            return None
        tags = sorted(self.tags.items())
        weights = [self.weights[name] for name in within] if self.weights else None
        return hashlib.sha256(f"{within} {weights} {tags} {self.until}".encode()).hexdigest()

    def describe(self) -> str:
        more = [f"until={self.until}"] if self.weights else []
        parts = []
        for name, source in self.sources.items():
            share = f"{self.weights[name]:g} " if self.weights else ""
            tag = f"{self.tags[name]} " if name in self.tags else ""
            parts.append(f"{name}: {share}{tag}{source.describe()}")
        return f"Mixture({', '.join([*parts, *more])})"

    @property
    def special_tokens(self) -> tuple[str, ...]:
        within = [token for source in self.sources.values() for token in source.special_tokens]
        return tuple(dict.fromkeys([*self.tags.values(), *within]))

    @property
    def repeats(self) -> bool:
        again = bool(self.weights) and self.until == "longest" and len(self.sources) > 1
        return again or any(source.repeats for source in self.sources.values())

    def own_split(self, split: str) -> Source | None:
        """The splits of all its sources, each once; None where one of them has none."""
        found = {name: source.own_split(split) for name, source in self.sources.items()}
        own = {name: source for name, source in found.items() if source is not None}
        return Mixture(dict(own), tags=self.tags) if len(own) == len(found) else None

    def read_files(self) -> list[Path]:
        return [path for source in self.sources.values() for path in source.read_files()]

    def not_read(self) -> list[str]:
        return [f"{name}: {line}" for name, source in self.sources.items() for line in source.not_read()]

    def notes(self) -> list[str]:
        total = sum(reading.characters for reading in self._readings.values())
        lines = []
        for name, one in self._readings.items():
            share = f"{100 * one.characters / total:.2f} %" if total else "none"
            asked = f" of the text (asked: {100 * self.weights[name]:g} %)" if self.weights else " of the text"
            count = f"{one.documents:,} document{'' if one.documents == 1 else 's'}"
            line = f"{name}: {count}, {one.characters:,} characters, {share}{asked}"
            inside = name
            if one.left:
                line += f"; not read to its end, left out from {one.left} on"
            elif one.in_one:
                times = one.documents / one.in_one
                line += ", read once" if times == 1 else f", read {times:.2f} times"
                inside += "" if times == 1 else ", each time"
            lines += [line, *(f"{inside}: {note}" for note in (one.said or one.source.notes()))]
        return lines

    def _one_by_one(self, readings: dict[str, _Reading]) -> Iterator[str]:
        for name, reading in readings.items():
            reading.begin()
            while reading.ahead is not None:
                yield name

    def _in_turn(self, readings: dict[str, _Reading]) -> Iterator[str]:
        """Names of sources, each when its next document is due."""
        assert self.weights is not None
        weights = self.weights
        for name, reading in readings.items():
            reading.begin()
            if reading.ahead is None:
                raise UserError(f"source {name!r} of Mixture, {reading.source.describe()}, gives no document; check it")
        unread = set(readings)
        while True:
            total = sum(reading.characters for reading in readings.values())
            # Of equals the first: the order of the text depends on the arguments alone.
            due = max(readings, key=lambda name: weights[name] * total - readings[name].characters)
            yield due
            reading = readings[due]
            if reading.ahead is not None:
                continue
            unread.discard(due)
            if not reading.characters:
                raise UserError(
                    f"source {due!r} of Mixture, {reading.source.describe()}, has no character in its documents, so it"
                    " cannot have a share; leave it out"
                )
            if not unread or self.until == "shortest":
                for other in readings.values():
                    if other.ahead is not None and not other.in_one:
                        where = f" ({other.ahead.where})" if other.ahead.where else ""
                        other.left = f"document {other.documents + 1:,}{where}"
                return
            reading.begin()

    def _check_weights(self) -> None:
        if self.weights is None:
            if self.until != "longest":
                raise UserError("until shortest of Mixture needs weights; give them, or leave until out")
            return
        if self.weights.keys() != self.sources.keys():
            lacking, unknown = self.sources.keys() - self.weights.keys(), self.weights.keys() - self.sources.keys()
            wrong = [f"lacks {', '.join(sorted(lacking))}"] * bool(lacking)
            wrong += [f"has {', '.join(sorted(unknown))}, which is no source"] * bool(unknown)
            raise UserError(
                f"weights of Mixture {' and '.join(wrong)}; give one to each of {', '.join(self.sources)}, no other"
            )
        for name, weight in self.weights.items():
            if not weight > 0:
                raise UserError(f"weight {weight} of {name!r} in Mixture is not above 0; leave the source out instead")
        total = sum(self.weights.values())
        if not abs(total - 1) <= _EXACT:
            raise UserError(
                f"the weights of Mixture add up to {total:g} and not to 1; divide each by {total:g}"
                f" ({', '.join(f'{name}: {weight / total:.6g}' for name, weight in self.weights.items())})"
            )

    def _check_tags(self) -> None:
        for name, tag in self.tags.items():
            if name not in self.sources:
                raise UserError(f"tags of Mixture names {name!r}; its sources are {', '.join(self.sources)}")
            if not tag:
                raise UserError(f"the tag of {name!r} in Mixture is empty; give a special token such as <|{name}|>")
            if self.sources[name].special_tokens:
                raise UserError(
                    f"source {name!r} of Mixture has tags of its own ({', '.join(self.sources[name].special_tokens)});"
                    f" a document has one tag: leave out {tag} or those"
                )
