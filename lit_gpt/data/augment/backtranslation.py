"""Back-translation: documents there and back, line by line into a file that goes on where it was stopped.

Knows: documents, translators as things that take texts, what becomes of a document. Does not know: models, arguments,
how a stopped file goes on (see growing_file).

What is written depends on the documents, the translators and the settings alone.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lit_gpt.data.augment.growing_file import GrowingFile
from lit_gpt.data.augment.pieces import pieces
from lit_gpt.data.progress import Progress, say
from lit_gpt.errors import not_implemented

#: What is counted: documents and characters read, documents and characters written; documents that came back unchanged,
#: empty, or (endless) had a piece whose translation came to no end.
COUNTS = ("documents", "characters", "written", "new_characters", "unchanged", "empty", "endless")


class Translator:
    """The base of translators: `translate`, what it can take, and what it is for the record of a run."""

    #: Texts that may be in no piece, as they mean something to the translator.
    apart: tuple[str, ...] = ()

    def fits(self, text: str) -> bool:
        """Whether it takes a text in one piece; of two that begin alike the shorter fits too."""
        return True

    def translate(self, texts: list[str], seeds: list[int]) -> list[str | None]:
        """A translation for each text, without white space around it; None where it came to no end.

        Args:
            texts: Pieces of documents.
            seeds: For what is drawn, one for each.
        """
        raise not_implemented(self, "translate")

    def configuration(self) -> dict[str, Any]:
        """What decides the translations."""
        raise not_implemented(self, "configuration")


@dataclass
class BackTranslation:
    """Documents sent there and back.

    Args:
        there: Into the other language.
        back: From it.
        most: Characters of a piece at most.
        together: Documents, and at most pieces, that go to a translator at once.
        seed: Of what is drawn, with the document's number and the piece's.
        keep_unchanged: Whether documents that come back as they were are written too.
    """

    there: Translator
    back: Translator
    most: int = 500
    together: int = 16
    seed: int = 1
    keep_unchanged: bool = False

    def settings(self) -> dict[str, Any]:
        """All that decides what is written, besides the documents."""
        ways = {"there": self.there.configuration(), "back": self.back.configuration()}
        others = {"most": self.most, "batch_size": self.together, "seed": self.seed}
        return {**ways, **others, "keep_unchanged": self.keep_unchanged}

    def run(
        self, documents: Iterable[str], fingerprint: str, characters: int, out: Path
    ) -> tuple[dict[str, int], bool]:
        """Writes the file, or goes on with it.

        Args:
            documents: Each whole, always the same in the same order.
            fingerprint: Of the documents.
            characters: Of all of them, for the time left.
            out: The file.

        Returns:
            The counts, and whether it was finished already.

        Raises:
            UserError: the file is there with other documents or settings, or is not of back-translation.
        """
        facts = {"source": fingerprint, "settings": json.loads(json.dumps(self.settings()))}
        with GrowingFile(out, "back-translation", facts, COUNTS) as file:
            if file.finished:
                return file.counts, True
            done = file.counts["documents"]
            if done:
                say(f"{out}: going on after {done:,} documents")
            rest = islice(documents, done, None)
            with Progress("translating", max(characters - file.counts["characters"], 1)) as progress:
                while group := list(islice(rest, self.together)):
                    lines, counts = self._judged(group, self.translated(group, done))
                    file.add(lines, counts)
                    done += len(group)
                    progress.advance(counts["characters"])
            file.finish()
            return file.counts, False

    def _judged(self, documents: list[str], made: list[str | None]) -> tuple[list[str], dict[str, int]]:
        """The lines to be written, and what is counted."""
        lines, counts = [], dict.fromkeys(COUNTS, 0)
        for original, text in zip(documents, made, strict=True):
            counts["documents"] += 1
            counts["characters"] += len(original)
            kind = _kind(original, text)
            if kind is not None:
                counts[kind] += 1
            if text is not None and (kind is None or (kind == "unchanged" and self.keep_unchanged)):
                lines.append(json.dumps({"text": text, "original": original}, ensure_ascii=False))
                counts["written"] += 1
                counts["new_characters"] += len(text)
        return lines, counts

    def translated(self, documents: list[str], first: int) -> list[str | None]:
        """Documents there and back; None for those that came to no end.

        Args:
            documents: Those that go together.
            first: Number of the first of them.
        """
        ways, made = (("there", self.there), ("back", self.back)), dict(enumerate(documents, start=first))
        for name, translator in ways:
            made = dict(self._one_way(name, translator, made))
        return [made.get(number) for number in range(first, first + len(documents))]

    def _one_way(self, way: str, translator: Translator, documents: dict[int, str]) -> Iterator[tuple[int, str]]:
        """The documents that come to an end, with their numbers."""

        def fits(text: str) -> bool:
            return len(text) <= self.most and translator.fits(text)

        cut = {number: list(pieces(text, fits, translator.apart)) for number, text in documents.items()}
        places = [(number, at) for number, parts in cut.items() for at, part in enumerate(parts) if part.translated]
        found: dict[tuple[int, int], str | None] = {}
        for start in range(0, len(places), self.together):
            some = places[start : start + self.together]
            seeds = [_seed(self.seed, way, number, at) for number, at in some]
            texts = translator.translate([cut[number][at].text for number, at in some], seeds)
            found.update(zip(some, texts, strict=True))
        for number, parts in cut.items():
            made = [found[number, at] if part.translated else part.text for at, part in enumerate(parts)]
            if None not in made:
                yield number, "".join(part for part in made if part is not None)


def _kind(original: str, text: str | None) -> str | None:
    """What keeps a document from being a new text; None where nothing does."""
    if text is None:
        return "endless"
    if text.split() == original.split():
        return "unchanged"
    return None if text.strip() else "empty"


def _seed(seed: int, way: str, document: int, piece: int) -> int:
    drawn = hashlib.blake2b(f"{seed} {way} {document} {piece}".encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "little") >> 1
