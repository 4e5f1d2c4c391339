"""Text to token ids on disk: scan, split, encode, publish; done once and found again.

A prepared folder holds `manifest.json`, `tokenizer.json` and one corpus folder per split: `train`, `val`, `test` (where
there is one) and `extra/<name>`. It is made in a working folder beside it, which stays when the work is stopped, so
that the next run continues it; then it is renamed, all under a file lock.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from lit_gpt.data.corpus.encode import encode, shards_folder
from lit_gpt.data.corpus.engines import Engine, InProcess, Processes
from lit_gpt.data.corpus.prepared import Prepared, open_if_current, prepared_manifest
from lit_gpt.data.corpus.publish import publish
from lit_gpt.data.corpus.recipe import Recipe
from lit_gpt.data.corpus.scan import Scan
from lit_gpt.data.corpus.shared_documents import SharedDocuments, shared_files
from lit_gpt.data.corpus.split import split
from lit_gpt.data.corpus.train_tokenizer import trained_tokenizer
from lit_gpt.data.corpus.working_folder import (
    check_replaceable,
    clear_left_over,
    locked,
    place_of,
    working_folder,
)
from lit_gpt.data.folders import cache_folder, disk_hints, make_folder
from lit_gpt.data.progress import say

_SMALL = 1 << 24  # characters below which other processes cost more than they bring


def prepare(recipe: Recipe, folder: str | Path | None = None, engine: Engine | None = None) -> Prepared:
    """Prepares the corpora of a recipe, or opens them where they are up to date.

    Only one process prepares them; others that want the same wait for it. What was stopped, even by SIGKILL, continues
    where it was.

    Args:
        recipe: What to prepare.
        folder: Where; by default under the cache, in a folder named by the fingerprint of the recipe.
        engine: Who encodes; by default this process for small texts and one process for each core for others.
    """
    scans = recipe.scans()
    identity = recipe.identity(scans)
    target = _cache_path(identity) if folder is None else place_of(folder)
    prepared = open_if_current(target, identity)
    if prepared is None and folder is None and recipe.tokenizer.trained:
        # Perhaps the corpus on which this tokenizer was trained, whose folder is named by its arguments alone.
        prepared = open_if_current(_cache_path({**identity, "tokenizer": recipe.tokenizer.configuration()}), identity)
    if prepared:
        clear_left_over(prepared.folder, [identity, prepared.manifest["identity"]])
    else:
        check_replaceable(target)
        make_folder(target.absolute().parent)
        with locked(target):
            prepared = open_if_current(target, identity) or _run(recipe, scans, identity, target, engine)
    prepared.warnings = source_warnings(recipe)
    return prepared


def _run(
    recipe: Recipe, scans: dict[str, Scan], identity: dict[str, Any], target: Path, engine: Engine | None
) -> Prepared:
    """All stages after the scan."""
    _say_what_changed(target, identity)
    characters = sum(scan.characters for scan in scans.values())
    with disk_hints(target), working_folder(target.absolute(), identity) as working:
        tokenizer = trained_tokenizer(recipe, scans, working / "tokenizer.json")
        shared = SharedDocuments(working)
        chunks = shared.watch(split(recipe, scans))
        shards_at = shards_folder(working, identity)
        shards, cut = encode(chunks, tokenizer, recipe.format, shards_at, engine or _engine(characters), characters)
        facts = {
            "identity": identity,
            "dropped": {split: scan.dropped for split, scan in scans.items() if scan.dropped},
            "dropped_characters": sum(scan.dropped_characters for scan in scans.values()),
            "cut": cut,
            "notes": [*_notes(recipe, scans[""]), *shared.lines(recipe.own_sources())],
        }
        publish(shards, recipe, scans[""], tokenizer, facts, working, target)
    prepared = open_if_current(target, identity)
    assert prepared is not None
    prepared.reused = False
    return prepared


def _engine(characters: int) -> Engine:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return InProcess() if characters < _SMALL else Processes(cores)


def _cache_path(identity: dict[str, Any]) -> Path:
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return cache_folder() / "corpora" / key


def _say_what_changed(target: Path, identity: dict[str, Any]) -> None:
    if (target / "manifest.json").exists():
        old = prepared_manifest(target)["identity"]
        changed = [part for part in identity if old.get(part) != identity[part]]
        why = f"{' and '.join(changed)} changed" if changed else "parts are missing"
        say(f"{target}: {why}, preparing it again")


def _notes(recipe: Recipe, main: Scan) -> list[str]:
    """What the sources report of their reading, and what filters make of it."""
    notes = [note for source in recipe.sources() for note in source.notes()]
    if recipe.filters and main.dropped and recipe.source.repeats:
        notes.append(
            "shares are of what was read, before filters: one against duplicates leaves out what is read again"
        )
    return notes


def source_warnings(recipe: Recipe) -> list[str]:
    """Lines on what is named and not read, and on what is read for training and for evaluation; as it is now."""
    own = recipe.own_sources()
    not_read = [f"{split}: {line}" for split, source in own.items() for line in source.not_read()]
    return [*recipe.source.not_read(), *not_read, *shared_files(recipe.source, own)]
