"""Back-translation of documents: split into pieces, translate there and back, write a file that resumes after a kill.

What is written depends on the documents, the translators and the settings alone.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lit_gpt.atomic_io import disk_errors, fsync_file, lock_file, remove, staged_file, write_bytes
from lit_gpt.commands.translators import Translator
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.progress import Progress, say
from lit_gpt.errors import UserError

_FORMAT = "lit_gpt back-translation 2"
_PARAGRAPH = r"\n(?:[^\S\n]*\n)+"
_SENTENCE = r"[.!?…]+[\"'”’»)\]]*\s+|[。！？]+[”’」』）]*\s*|\n"
_BORDERS = tuple(map(re.compile, (_SENTENCE, r"\s+", r"(?s:.)")))  # sentences, words, characters
_RESUMES = "free some space and repeat the command, which resumes where it stopped"


@dataclass
class BackTranslation:
    """Documents translated there and back.

    Args:
        there: Into the other language.
        back: From it.
        max_chars: Most characters of a piece.
        batch_size: Documents, and most pieces, that go to a translator at once.
        seed: Of sampling, together with the numbers of the document and of the piece.
        keep_unchanged: Whether documents that come back unchanged are written too.
    """

    there: Translator
    back: Translator
    max_chars: int = 500
    batch_size: int = 16
    seed: int = 1
    keep_unchanged: bool = False

    def run(self, documents: Iterable[str], fingerprint: str, characters: int, out: Path) -> tuple[Counter[str], bool]:
        """Writes {"text": ..., "original": ...} lines to `out`, or resumes it.

        FILE.part has a line for the settings and one for each batch with the counts up to it; FILE and FILE.json, the
        settings and counts, are made of it at the end.

        Args:
            documents: Always the same in the same order.
            fingerprint: Of the documents.
            characters: Of all of them, for the progress bar.
            out: The file.

        Returns:
            Counts of documents and characters read, documents written and their new_characters, documents that came
            back unchanged or empty, or (endless) with a piece whose translation reached no end; and whether the file
            was finished already.

        Raises:
            UserError: the file exists with other documents or settings, or is not of back-translation.
        """
        settings = {"format": _FORMAT, "source": fingerprint, **self._settings()}
        header, part = _as_line(settings), out.with_name(f"{out.name}.part")
        record = out.with_name(f"{out.name}.json")
        with _locked(out):
            if out.exists():
                finished = _parsed(record.read_bytes() if record.exists() else b"")
                _check(finished, settings, out)
                remove(part)  # left by a process that was killed at its end
                return Counter(finished["counts"]), True
            counts = _resume(part, header, settings)
            if counts:
                say(f"{out}: resuming after {counts['documents']:,} documents")
            rest = islice(documents, counts["documents"], None)
            with Progress("translating", max(characters - counts["characters"], 1)) as progress:
                while batch := list(islice(rest, self.batch_size)):
                    lines = self._lines(batch, self.translate(batch, counts["documents"]), counts)
                    with disk_errors(out, hint=_RESUMES), part.open("ab") as file:
                        file.write(_as_line({"counts": counts, "lines": lines}))
                        fsync_file(file)
                    progress.advance(sum(map(len, batch)))
            with disk_errors(out, hint=_RESUMES):
                write_bytes(record, json.dumps({**settings, "counts": counts}, indent=1).encode())
                with part.open("rb") as file, staged_file(out) as whole:
                    file.seek(len(header))
                    whole.writelines(_as_line(line) for batch in file for line in json.loads(batch)["lines"])
            remove(part)
        return counts, False

    def _settings(self) -> dict[str, Any]:
        """All that decides what is written, besides the documents."""
        ways = {f"{way} {key}": value for way, one in self._ways() for key, value in one.configuration().items()}
        others = {"max_chars": self.max_chars, "batch_size": self.batch_size, "seed": self.seed}
        return {**ways, **others, "keep_unchanged": self.keep_unchanged}

    def _lines(self, documents: list[str], translations: list[str | None], counts: Counter[str]) -> list[Any]:
        """Lines to be written; adds to the counts."""
        lines = []
        for original, text in zip(documents, translations, strict=True):
            counts.update(documents=1, characters=len(original))
            unchanged = text is not None and text.split() == original.split()
            if text is None or unchanged or not text.strip():
                counts["endless" if text is None else "unchanged" if unchanged else "empty"] += 1
            if text is not None and (self.keep_unchanged if unchanged else text.strip()):
                counts.update(written=1, new_characters=len(text))
                lines.append({"text": text, "original": original})
        return lines

    def translate(self, documents: list[str], first: int) -> list[str | None]:
        """Documents there and back, numbered from `first`; None for those whose translation reached no end."""
        texts = dict(enumerate(documents, first))
        for way, translator in self._ways():
            texts = self._one_way(way, translator, texts)
        return [texts.get(number) for number in range(first, first + len(documents))]

    def _ways(self) -> tuple[tuple[str, Translator], ...]:
        return ("there", self.there), ("back", self.back)

    def _one_way(self, way: str, translator: Translator, texts: dict[int, str]) -> dict[int, str]:
        def fits(text: str) -> bool:
            return len(text) <= self.max_chars and translator.fits(text)

        pieces = {number: list(split_pieces(text, fits, translator.separators)) for number, text in texts.items()}
        keys = [(number, at) for number, parts in pieces.items() for at, (_, sent) in enumerate(parts) if sent]
        translations: dict[tuple[int, int], str | None] = {}
        for start in range(0, len(keys), self.batch_size):
            batch = keys[start : start + self.batch_size]
            seeds = [_seed(f"{self.seed} {way} {number} {at}") for number, at in batch]
            results = translator.translate([pieces[number][at][0] for number, at in batch], seeds)
            translations.update(zip(batch, results, strict=True))
        joined = {}
        for number, parts in pieces.items():
            whole = [translations.get((number, at), text) for at, (text, _) in enumerate(parts)]
            if None not in whole:
                joined[number] = "".join(text for text in whole if text is not None)
        return joined


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Refuses a second process that writes the file."""
    with disk_errors(out):
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = lock_file(out.with_name(f".{out.name}.lock"), timeout=0)
        except TimeoutError:
            raise UserError(f"another process writes {out}; wait for it, or give another file") from None
    with lock:
        yield


def _resume(part: Path, header: bytes, settings: dict[str, Any]) -> Counter[str]:
    """The counts after the last whole batch of FILE.part; what a killed process left beyond is truncated."""
    counts = Counter[str]()
    with disk_errors(part), part.open("a+b") as file:
        file.seek(0)
        first = file.readline()
        if first != header and header.startswith(first):  # a new file, or killed in its first line
            file.truncate(0)
            file.write(header)
        else:
            _check(_parsed(first), settings, part)
            size = len(first)
            for line in file:
                batch = _parsed(line) if line.endswith(b"\n") else {}
                if "counts" not in batch:
                    break
                counts, size = Counter(batch["counts"]), size + len(line)
            file.truncate(size)
        fsync_file(file)
    return counts


def _check(record: dict[str, Any], settings: dict[str, Any], file: Path) -> None:
    """Refuses a file of other documents or settings."""
    another = "give another file, or remove it"
    if record.get("format") != _FORMAT:
        raise UserError(f"{file} exists, and was not written by back-translation; {another}")
    for key, value in settings.items():
        if record.get(key) != value:
            raise UserError(f"{file} exists, made with {key} {record.get(key)!r}, not {value!r}; {another}")


def split_pieces(
    text: str, fits: Callable[[str], bool], separators: tuple[str, ...] = ()
) -> Iterator[tuple[str, bool]]:
    """A text in parts, each with whether it is a piece to translate; white space and separators are not.

    Paragraphs that do not fit are split into sentences, as many in a piece as fit; these between words, these anywhere.

    Args:
        text: Any.
        fits: Whether a piece can be taken; if it can, so can all its beginnings.
        separators: Texts that are in no piece, such as what is between source and target in a translator's prompt.
    """
    borders = "|".join([_PARAGRAPH, *map(re.escape, sorted(separators, key=len, reverse=True))])
    for number, paragraph in enumerate(re.split(f"({borders})", text)):
        if number % 2:
            yield paragraph, False
            continue
        for part in _fitting(paragraph, fits, _BORDERS):
            core = part.strip()
            before, _, after = part.partition(core) if core else (part, "", "")
            yield from ((piece, sent) for piece, sent in ((before, False), (core, True), (after, False)) if piece)


def _fitting(text: str, fits: Callable[[str], bool], borders: tuple[re.Pattern[str], ...]) -> Iterator[str]:
    """Parts that fit, split after the first of the borders that suffices."""
    if not text.strip() or len(text) < 2 or fits(text.strip()):
        yield text
        return
    ends = [match.end() for match in borders[0].finditer(text)]
    held = ""
    for start, end in zip([0, *ends], [*ends, len(text)], strict=True):
        unit = text[start:end]
        if held and (held + unit).strip() and not fits((held + unit).strip()):
            yield from _fitting(held, fits, borders[1:] or borders)
            held = ""
        held += unit
    yield from _fitting(held, fits, borders[1:] or borders)


def _seed(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little") >> 1


def _as_line(content: Any) -> bytes:
    return f"{json.dumps(content, ensure_ascii=False)}\n".encode()


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        content = parse_json(line.decode())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
