"""From sources to a folder of finished corpora, made once and found again.

Knows: what decides the ids (text, splits, tokenizer), where they are kept, how processes take turns. Does not know:
windows, batches, lightning.

A prepared folder holds `manifest.json`, `tokenizer.json` and one corpus folder per text: `train`, `val`, `test` (where
there is one) and `extra/<name>`. It is written beside its place and renamed, under a file lock.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lit_gpt.data.corpus import (
    VERSION,
    Corpus,
    CorpusWriter,
    StagedFolder,
    make_folder,
    read_manifest,
    sync_folder,
    write_json,
)
from lit_gpt.data.progress import Progress, say
from lit_gpt.data.sources import Source
from lit_gpt.data.splits import TEST, TRAIN, VAL, Fractions, Piece, SplitBy, resolve, split_documents
from lit_gpt.data.tokenizers import Tokenizer
from lit_gpt.errors import UserError

_FORM = "lit_gpt prepared text"


class Survey(NamedTuple):
    """What one reading of a text tells."""

    fingerprint: str
    documents: int
    characters: int
    bytes: int


@dataclass
class Recipe:
    """All that decides which ids are written.

    Args:
        source: The main text.
        tokenizer: Trained, or to be trained on the training split.
        shares: Parts of the main text for validation and test.
        split_by: See `split_documents`.
        val_source: Validation text of its own; then nothing of the main text is taken for it.
        test_source: Test text of its own.
        extra_val: Further validation texts, by name.
    """

    source: Source
    tokenizer: Tokenizer
    shares: Fractions
    split_by: SplitBy | None = None
    val_source: Source | None = None
    test_source: Source | None = None
    extra_val: dict[str, Source] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shares.check()
        val = 0.0 if self.val_source else self.shares.val
        self.shares = Fractions(val, 0.0 if self.test_source else self.shares.test)
        if not val and not self.val_source:
            raise UserError("val_fraction 0 leaves no validation text; give one above 0, or a val_source")
        for name in self.extra_val:
            if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
                raise UserError(
                    f"extra_val has a text named {name!r}; use letters, digits, _ . and - (it names a metric)"
                )
            if name in (TRAIN, VAL, TEST):
                raise UserError(f"extra_val has a text named {name!r}, as a split is; give it another name")

    def own_texts(self) -> dict[str, Source]:
        """The sources that are a split whole, by split."""
        own = {
            VAL: self.val_source,
            TEST: self.test_source,
            **{f"extra/{name}": s for name, s in self.extra_val.items()},
        }
        return {split: source for split, source in own.items() if source is not None}

    def splits(self) -> list[str]:
        """The splits that will be written, in order."""
        return [
            TRAIN,
            VAL,
            *([TEST] if self.shares.test or self.test_source else []),
            *(f"extra/{n}" for n in self.extra_val),
        ]

    def pieces(self, survey: Survey) -> Iterator[Piece]:
        """All text, each part with its split."""
        yield from split_documents(self.source, self.shares, self.split_by, survey.characters, survey.documents)
        for split, source in self.own_texts().items():
            for text in source:
                yield Piece(split, text, True, True)

    def identity(self, surveys: dict[str, Survey]) -> dict[str, Any]:
        """What has to be equal for the ids to be equal, in parts that can be named when one has changed."""
        tokenizer: Any = self.tokenizer.fingerprint() if self.tokenizer.trained else self.tokenizer.configuration()
        by = resolve(self.split_by, surveys[""].documents)
        return {
            "version": VERSION,
            "text": {split: survey.fingerprint for split, survey in surveys.items()},
            "split": {"val_fraction": self.shares.val, "test_fraction": self.shares.test, "split_by": by},
            "tokenizer": tokenizer,
        }


@dataclass
class Prepared:
    """A finished folder, opened."""

    folder: Path
    tokenizer: Tokenizer
    corpora: dict[str, Corpus]
    manifest: dict[str, Any]
    reused: bool


def prepare(recipe: Recipe, folder: str | Path | None = None) -> Prepared:
    """The corpora of a recipe: found where they are up to date, else made.

    Only one process makes them; others that want the same wait for it.

    Args:
        recipe: What is wanted.
        folder: Where; by default under the cache, in a folder named by the fingerprint of the recipe.
    """
    surveys = {"": survey(recipe.source)} | {split: survey(source) for split, source in recipe.own_texts().items()}
    identity = recipe.identity(surveys)
    target = _place(identity) if folder is None else Path(folder).expanduser()
    found = _open(target, identity)
    if found is None and folder is None and recipe.tokenizer.trained:
        # The corpus on which this tokenizer was trained, perhaps: it lies where its arguments alone tell.
        found = _open(_place({**identity, "tokenizer": recipe.tokenizer.configuration()}), identity)
    if found:
        return found
    make_folder(target.absolute().parent)
    with _locked(target):
        found = _open(target, identity)
        if found:
            return found
        _tell_why(target, identity)
        with _disk_faults(target), StagedFolder(target.absolute()) as staged:
            _build(recipe, surveys, identity, staged / "new")
            if target.exists():
                # Processes that have the old files mapped keep them until they end.
                target.rename(staged / "old")
            (staged / "new").rename(target)
        sync_folder(target.absolute().parent)
        made = _open(target, identity)
        assert made is not None
        made.reused = False
        return made


def survey(source: Source) -> Survey:
    """Fingerprint and counts of a text; remembered by the cheap signature of sources that have one."""
    signature = source.signature()
    note = cache_folder() / "surveys" / f"{signature}.json"
    if signature is not None:
        try:
            return Survey(**json.loads(note.read_text()))
        except (OSError, ValueError, TypeError):
            pass  # not there, or not readable: it is only a shortcut
    digest = hashlib.sha256()
    documents = characters = size = 0
    with Progress("reading text") as progress:
        for text in source:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
            documents, characters, size = documents + 1, characters + len(text), size + len(encoded)
            progress.advance(len(text))
    if not characters:
        raise UserError(f"{source.describe()} gives no text; check its arguments")
    result = Survey(digest.hexdigest()[:32], documents, characters, size)
    if signature is not None:
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            draft = note.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(result._asdict()))
            draft.replace(note)
        except OSError:
            pass
    return result


def cache_folder() -> Path:
    """Where corpora go by default: LIT_GPT_CACHE, else lit_gpt in XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("LIT_GPT_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lit_gpt"


def _place(identity: dict[str, Any]) -> Path:
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / "corpora" / key


def _build(recipe: Recipe, surveys: dict[str, Survey], identity: dict[str, Any], folder: Path) -> None:
    folder.mkdir()
    main, total = surveys[""], sum(survey.characters for survey in surveys.values())
    tokenizer = recipe.tokenizer
    if not tokenizer.trained:
        pieces = recipe.pieces(main) if tokenizer.sees_all_text else _training_pieces(recipe, main)
        with Progress("training the tokenizer", total if tokenizer.sees_all_text else main.characters) as progress:
            tokenizer.train(_counted((piece.text for piece in pieces), progress))
    writers = {split: CorpusWriter(folder / split, tokenizer) for split in recipe.splits()}
    try:
        with Progress("tokenizing", total) as progress:
            for split, text, begins, ends in recipe.pieces(main):
                writers[split].add(text, begins, ends)
                progress.advance(len(text))
            corpora = {split: writer.close() for split, writer in writers.items()}
    finally:
        for writer in writers.values():
            writer.abandon()
    for split, counts in corpora.items():
        if not counts["characters"]:
            _refuse_empty(split, recipe, main)
    tokenizer.save(folder / "tokenizer.json")
    sources = {
        "": recipe.source.describe(),
        **{split: source.describe() for split, source in recipe.own_texts().items()},
    }
    content = {
        "format": _FORM,
        "version": VERSION,
        "identity": identity,
        "tokenizer": tokenizer.fingerprint(),
        "sources": sources,
        "splits": list(corpora),
    }
    write_json(folder / "manifest.json", content)
    sync_folder(folder)


def _training_pieces(recipe: Recipe, main: Survey) -> Iterator[Piece]:
    pieces = split_documents(recipe.source, recipe.shares, recipe.split_by, main.characters, main.documents)
    return (piece for piece in pieces if piece.split == TRAIN)


def _counted(texts: Iterable[str], progress: Progress) -> Iterator[str]:
    for text in texts:
        yield text
        progress.advance(len(text))


def _refuse_empty(split: str, recipe: Recipe, main: Survey) -> None:
    word = {TRAIN: "training", VAL: "validation", TEST: "test"}.get(split, split)
    if split in recipe.own_texts():
        raise UserError(f"{word} text {recipe.own_texts()[split].describe()} is empty; give one with text")
    raise UserError(
        f"the {word} split is empty: its fraction of {main.documents} document(s) with {main.characters} characters is"
        " none; raise the fraction, split by position, or give a source of its own"
    )


def _open(target: Path, identity: dict[str, Any]) -> Prepared | None:
    """The folder's content if it is that of the recipe, None if it has to be made."""
    if not target.exists():
        return None
    if not target.is_dir():
        raise UserError(f"data.folder {target} is a file; give a folder")
    if not (target / "manifest.json").exists():
        if any(target.iterdir()):
            raise UserError(f"data.folder {target} holds other files and no corpus; give a new or an empty folder")
        return None
    manifest = read_manifest(target / "manifest.json", _FORM, VERSION)
    # A trained tokenizer is asked for by its fingerprint, one to be trained by its arguments.
    if identity not in (manifest["identity"], {**manifest["identity"], "tokenizer": manifest["tokenizer"]}):
        return None
    if not all((target / part).exists() for part in ("tokenizer.json", *manifest["splits"])):
        return None  # removed by hand, as is advised where a part is damaged
    try:
        tokenizer = Tokenizer.load(target / "tokenizer.json")
    except UserError as fault:
        raise UserError(f"{fault}; or remove {target} and prepare again") from None
    fingerprint = tokenizer.fingerprint()
    corpora = {split: Corpus(target / split, tokenizer.vocab_size) for split in manifest["splits"]}
    for split, corpus in corpora.items():
        if not corpus.manifest["tokenizer"] == manifest["tokenizer"] == fingerprint:
            raise UserError(
                f"{target / split} was written with another tokenizer than {target / 'tokenizer.json'}; remove {target}"
            )
    return Prepared(target, tokenizer, corpora, manifest, reused=True)


def _tell_why(target: Path, identity: dict[str, Any]) -> None:
    if (target / "manifest.json").exists():
        old = read_manifest(target / "manifest.json", _FORM, VERSION)["identity"]
        changed = [part for part in identity if old.get(part) != identity[part]]
        why = f"{' and '.join(changed)} changed" if changed else "parts are missing"
        say(f"{target}: {why}, preparing it again")


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(target.absolute().parent / f".{target.name}.lock")
    with _disk_faults(target):
        try:
            lock.acquire(timeout=2)
        except Timeout:
            say(f"waiting for another process that prepares {target}")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _disk_faults(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"no permission to write {target}; give another data.folder or set LIT_GPT_CACHE") from None
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"no space left to write {target}; free some, or give a data.folder on another disk"
            ) from None
        raise
