"""From sources to a folder of finished corpora, made once and found again.

A prepared folder holds `manifest.json`, `tokenizer.json` and one corpus folder per text: `train`, `val`, `test` (where
there is one) and `extra/<name>`. Shards of it are written into a working folder beside its place, which stays when the
work is stopped; they are joined there and the result is renamed, all under a file lock.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_gpt.data.corpus.corpus import VERSION, CorpusWriter
from lit_gpt.data.corpus.encoding import Encoder, read_shard
from lit_gpt.data.corpus.engines import Engine, InProcess, Packet, Processes
from lit_gpt.data.corpus.overlap import SharedDocuments, shared_files
from lit_gpt.data.corpus.packets import Pieces, as_parts, packets, shard_at, shards_in
from lit_gpt.data.corpus.prepared import FORM, Prepared, open_if_current, prepared_manifest
from lit_gpt.data.corpus.scan import Scan, scan, staying
from lit_gpt.data.corpus.splits import HASHED, TEST, TRAIN, VAL, Fractions, Part, SplitBy, resolve, split_passages
from lit_gpt.data.corpus.train_tokenizer import train_tokenizer
from lit_gpt.data.corpus.working_folder import (
    check_replaceable,
    clear_left_over,
    locked,
    place_of,
    put_in_place,
    working_folder,
)
from lit_gpt.data.filters.filter import Filter
from lit_gpt.data.folders import cache_folder, disk_hints, make_folder, write_json
from lit_gpt.data.formats.format import Format, PlainText
from lit_gpt.data.progress import Progress, say
from lit_gpt.data.sources.source import Source
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError

_SMALL = 1 << 24  # characters below which other processes cost more than they bring


@dataclass
class Recipe:
    """All that decides which ids are written.

    Args:
        source: The main text.
        tokenizer: Trained, or to be trained on the training split.
        shares: Parts of the main text for validation and test.
        split_by: See `split_passages`.
        val_source: Validation text of its own; then nothing of the main text is taken for it.
        test_source: Test text of its own.
        extra_val: Further validation texts, by name.
        format: How each document is laid out.
        filters: What leaves documents out of the main text.
    """

    source: Source
    tokenizer: Tokenizer
    shares: Fractions
    split_by: SplitBy | None = None
    val_source: Source | None = None
    test_source: Source | None = None
    extra_val: dict[str, Source] = field(default_factory=dict)
    format: Format = field(default_factory=PlainText)
    filters: list[Filter] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shares.check()
        self.val_source = self.val_source or self.source.own_split(VAL)
        self.test_source = self.test_source or self.source.own_split(TEST)
        val = 0.0 if self.val_source else self.shares.val
        self.shares = Fractions(val, 0.0 if self.test_source else self.shares.test)
        if not val and not self.val_source:
            raise UserError("val_fraction 0 leaves no validation text; give one above 0, or a val_source")
        if self.source.repeats and (val or self.shares.test):
            if self.split_by not in (None, "hash"):
                raise UserError(
                    f"split_by {self.split_by} would put documents that {type(self.source).__name__} reads again into"
                    " training and validation; take split_by hash, or give a val_source"
                )
            self.split_by = "hash"
        for name in self.extra_val:
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
                raise UserError(
                    f"extra_val has a text named {name!r}; use letters, digits, _ . and - (it names a metric)"
                )
            if name in (TRAIN, VAL, TEST):
                raise UserError(f"extra_val has a text named {name!r}, as a split is; give it another name")
        self.format = self.format.for_tokenizer(self.tokenizer)
        wanted = [*self.format.special_tokens]
        wanted += [name for source in (self.source, *self.own_texts().values()) for name in source.special_tokens]
        self.tokenizer.with_special(wanted)

    def own_texts(self) -> dict[str, Source]:
        """The sources that are a split whole, by split."""
        own = {
            VAL: self.val_source,
            TEST: self.test_source,
            **{f"extra/{name}": s for name, s in self.extra_val.items()},
        }
        return {split: source for split, source in own.items() if source is not None}

    def warnings(self) -> list[str]:
        """What is named and not read, and what is read for training and for evaluation; as it is now, a line each."""
        own = self.own_texts()
        lines = self.source.not_read()
        lines += [f"{split}: {line}" for split, source in own.items() for line in source.not_read()]
        return lines + shared_files(self.source, own)

    def splits(self) -> list[str]:
        """The splits that will be written, in order."""
        return [
            TRAIN,
            VAL,
            *([TEST] if self.shares.test or self.test_source else []),
            *(f"extra/{n}" for n in self.extra_val),
        ]

    def scans(self) -> dict[str, Scan]:
        """What there is of each text: the main one under "", own ones under their splits."""
        own = {split: scan(source) for split, source in self.own_texts().items()}
        return {"": scan(self.source, self.filters), **own}

    def parts(self, scans: dict[str, Scan]) -> Iterator[Part]:
        """All text, each part with its split; the main one first."""
        yield from self.main_parts(scans[""])
        for split, source in self.own_texts().items():
            yield from as_parts(split, staying(source, scans[split], not self.format.divisible))

    def main_parts(self, found: Scan) -> Iterator[Part]:
        """The main text, each part with its split."""
        divisible = self.format.divisible
        chunks = staying(self.source, found, not divisible)
        return split_passages(chunks, self.shares, self.split_by, found.characters, found.documents, divisible)

    def identity(self, scans: dict[str, Scan]) -> dict[str, Any]:
        """What has to be equal for the ids to be equal, in parts that can be named when one has changed."""
        tokenizer: Any = self.tokenizer.fingerprint() if self.tokenizer.trained else self.tokenizer.configuration()
        by = resolve(self.split_by, scans[""].documents)
        hashed = {"hashed": HASHED} if by == "hash" else {}
        identity = {
            "version": VERSION,
            "text": {split: scan.fingerprint for split, scan in scans.items()},
            "split": {"val_fraction": self.shares.val, "test_fraction": self.shares.test, "split_by": by, **hashed},
            "format": self.format.identity(),
            "filters": [one.configuration() for one in self.filters],
            "tokenizer": tokenizer,
        }
        plain: dict[str, Any] = json.loads(json.dumps(identity, default=str))  # as it is read back
        return plain


def prepare(recipe: Recipe, folder: str | Path | None = None, engine: Engine | None = None) -> Prepared:
    """The corpora of a recipe: found where they are up to date, else made.

    Only one process makes them; others that want the same wait for it. What was stopped, even by SIGKILL, goes on
    where it was.

    Args:
        recipe: What is wanted.
        folder: Where; by default under the cache, in a folder named by the fingerprint of the recipe.
        engine: Who encodes; by default this process for small texts and one process for each core for others.
    """
    prepared = _prepare(recipe, folder, engine)
    prepared.warnings = recipe.warnings()
    return prepared


def _prepare(recipe: Recipe, folder: str | Path | None, engine: Engine | None) -> Prepared:
    scans = recipe.scans()
    identity = recipe.identity(scans)
    target = _place(identity) if folder is None else place_of(folder)
    found = open_if_current(target, identity)
    if found is None and folder is None and recipe.tokenizer.trained:
        # The corpus on which this tokenizer was trained, perhaps: it lies where its arguments alone tell.
        found = open_if_current(_place({**identity, "tokenizer": recipe.tokenizer.configuration()}), identity)
    if found:
        clear_left_over(found.folder, [identity, found.manifest["identity"]])
        return found
    check_replaceable(target)
    make_folder(target.absolute().parent)
    with locked(target):
        found = open_if_current(target, identity)
        if found:
            return found
        _tell_why(target, identity)
        with disk_hints(target), working_folder(target.absolute(), identity) as working:
            _build(recipe, scans, identity, working, engine or _engine_for(scans))
            put_in_place(working, target)
        made = open_if_current(target, identity)
        assert made is not None
        made.reused = False
        return made


def _engine_for(scans: dict[str, Scan]) -> Engine:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    characters = sum(found.characters for found in scans.values())
    return InProcess() if characters < _SMALL else Processes(cores)


def _place(identity: dict[str, Any]) -> Path:
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / "corpora" / key


def _build(recipe: Recipe, scans: dict[str, Scan], identity: dict[str, Any], working: Path, engine: Engine) -> None:
    total = sum(found.characters for found in scans.values())
    tokenizer = _trained(recipe, scans, working)
    pieces, shards, count = Pieces(tokenizer), shards_in(working, identity), 0
    shared = SharedDocuments(working)
    shards.mkdir(exist_ok=True)
    for line in recipe.format.notes:
        say(line)
    with Progress("tokenizing", total) as progress:

        def missing() -> Iterator[Packet]:
            nonlocal count
            for packet in packets(pieces.of(shared.watch(recipe.parts(scans))), shards):
                count += 1
                if packet.shard.exists():
                    progress.advance(packet.characters)
                else:
                    yield packet

        engine.run(Encoder(tokenizer, recipe.format), missing(), progress.advance)
    corpora = _joined(recipe, tokenizer, working, [shard_at(shards, number) for number in range(count)])
    for split, counts in corpora.items():
        if not counts["characters"]:
            _refuse_empty(split, recipe, scans[""])
    tokenizer.save(working / "new" / "tokenizer.json")
    sources = {
        "": recipe.source.describe(),
        **{split: source.describe() for split, source in recipe.own_texts().items()},
    }
    content = {
        "format": FORM,
        "version": VERSION,
        "identity": identity,
        "tokenizer": tokenizer.fingerprint(),
        "sources": sources,
        "splits": list(corpora),
        "dropped": {split: found.dropped for split, found in scans.items() if found.dropped},
        "dropped_characters": sum(found.dropped_characters for found in scans.values()),
        "cut": pieces.forced,
        "notes": [*_notes(recipe, scans[""]), *shared.lines(recipe.own_texts())],
    }
    write_json(working / "new" / "manifest.json", content)


def _notes(recipe: Recipe, main: Scan) -> list[str]:
    """What the sources say of their reading, and what filters make of it."""
    notes = [note for source in (recipe.source, *recipe.own_texts().values()) for note in source.notes()]
    if recipe.filters and main.dropped and recipe.source.repeats:
        notes.append(
            "shares are of what was read, before filters: one against duplicates leaves out what is read again"
        )
    return notes


def _trained(recipe: Recipe, scans: dict[str, Scan], working: Path) -> Tokenizer:
    tokenizer, kept = recipe.tokenizer, working / "tokenizer.json"
    if tokenizer.trained:
        return tokenizer
    if kept.exists():
        return Tokenizer.load(kept)
    train_tokenizer(recipe, scans)
    tokenizer.save(kept)
    return tokenizer


def _joined(recipe: Recipe, tokenizer: Tokenizer, working: Path, shards: list[Path]) -> dict[str, Any]:
    """Makes one corpus for each split of the shards, and returns their manifests."""
    new = working / "new"
    shutil.rmtree(new, ignore_errors=True)  # of a joining that was stopped
    new.mkdir()
    masked = not recipe.format.divisible
    writers = {split: CorpusWriter(new / split, tokenizer, masked) for split in recipe.splits()}
    try:
        with Progress("joining shards", len(shards), "shards") as progress:
            for shard in shards:
                for split, encoded in read_shard(shard).items():
                    writers[split].add(encoded)
                progress.advance(1)
        return {split: writer.close() for split, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.abandon()


def _refuse_empty(split: str, recipe: Recipe, main: Scan) -> None:
    word = {TRAIN: "training", VAL: "validation", TEST: "test"}.get(split, split)
    if split in recipe.own_texts():
        raise UserError(f"{word} text {recipe.own_texts()[split].describe()} is empty; give one with text")
    would_do = "split by position" if recipe.format.divisible else "cut the text into more documents"
    raise UserError(
        f"the {word} split is empty: its fraction of {main.documents} document(s) with {main.characters} characters is"
        f" none; raise the fraction, {would_do}, or give a source of its own"
    )


def _tell_why(target: Path, identity: dict[str, Any]) -> None:
    if (target / "manifest.json").exists():
        old = prepared_manifest(target)["identity"]
        changed = [part for part in identity if old.get(part) != identity[part]]
        why = f"{' and '.join(changed)} changed" if changed else "parts are missing"
        say(f"{target}: {why}, preparing it again")
