"""Stage 4 of preparation, publish: joins shards to one corpus per split and renames the folder to its place."""

import shutil
from pathlib import Path
from typing import Any

from lit_gpt import atomic_io
from lit_gpt.data.corpus.corpus import VERSION, CorpusWriter
from lit_gpt.data.corpus.encoder import read_shard
from lit_gpt.data.corpus.prepared import FORMAT
from lit_gpt.data.corpus.recipe import TEST, TRAIN, VAL, Recipe
from lit_gpt.data.corpus.scan import Scan
from lit_gpt.data.folders import write_json
from lit_gpt.data.progress import Progress
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError


def publish(
    shards: list[Path],
    recipe: Recipe,
    main: Scan,
    tokenizer: Tokenizer,
    facts: dict[str, Any],
    working: Path,
    target: Path,
) -> None:
    """Makes a prepared folder of shards; what was at the target before goes into the working folder.

    Args:
        shards: Files of all shards, in order.
        recipe: What they were made of.
        main: Scan of its main text.
        tokenizer: Trained.
        facts: For the manifest.
        working: The folder in which to make it.
        target: The prepared folder.

    Raises:
        UserError: A split has no text.
    """
    new = working / "new"
    shutil.rmtree(new, ignore_errors=True)  # of a run that was stopped
    new.mkdir()
    masked = not recipe.format.divisible
    writers = {split: CorpusWriter(new / split, tokenizer, masked) for split in recipe.splits()}
    try:
        with Progress("joining shards", len(shards), "shards") as progress:
            for shard in shards:
                for split, arrays in read_shard(shard).items():
                    writers[split].add(arrays)
                progress.advance(1)
        for split, writer in writers.items():
            if not writer.close()["characters"]:
                raise _empty(split, recipe, main)
    finally:
        for writer in writers.values():
            writer.abandon()
    tokenizer.save(new / "tokenizer.json")
    own = {split: source.describe() for split, source in recipe.own_sources().items()}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "tokenizer": tokenizer.fingerprint(),
        "sources": {"": recipe.source.describe(), **own},
        "splits": list(writers),
        **facts,
    }
    write_json(new / "manifest.json", content)
    atomic_io.swap_folder(new, target, old=working / "old")


def _empty(split: str, recipe: Recipe, main: Scan) -> UserError:
    word = {TRAIN: "training", VAL: "validation", TEST: "test"}.get(split, split)
    if (source := recipe.own_sources().get(split)) is not None:
        return UserError(f"{word} text {source.describe()} is empty; give one with text")
    would_do = "split by position" if recipe.format.divisible else "cut the text into more documents"
    return UserError(
        f"the {word} split is empty: its fraction of {main.documents} document(s) with {main.characters} characters is"
        f" none; raise the fraction, {would_do}, or give a source of its own"
    )
