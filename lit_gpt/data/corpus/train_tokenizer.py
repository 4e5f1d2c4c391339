"""Trains the tokenizer of a recipe: between the stages split and encode, where it is not trained yet."""

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from lit_gpt.data.chunks import Chunk, text_of
from lit_gpt.data.corpus.recipe import TRAIN, Recipe
from lit_gpt.data.corpus.scan import Scan
from lit_gpt.data.corpus.split import split, split_main
from lit_gpt.data.progress import Progress
from lit_gpt.data.tokenizers.tokenizer import Tokenizer

_PATIENCE = 3.0  # seconds that a library has to end after Ctrl-C; what it does behind the texts cannot be ended


def trained_tokenizer(recipe: Recipe, scans: dict[str, Scan], file: Path) -> Tokenizer:
    """The tokenizer of a recipe, trained where it is not; `file` keeps it for a run that continues this one."""
    if recipe.tokenizer.trained:
        return recipe.tokenizer
    if file.exists():
        return Tokenizer.load(file)
    train_tokenizer(recipe, scans)
    recipe.tokenizer.save(file)
    return recipe.tokenizer


def train_tokenizer(recipe: Recipe, scans: dict[str, Scan]) -> None:
    """Trains the tokenizer of a recipe on its training split, or on all text where it wants that."""
    tokenizer = recipe.tokenizer
    if tokenizer.trains_on_all_splits:
        total = sum(scan.characters for scan in scans.values())
        chunks: Iterable[Chunk] = split(recipe, scans)
    else:
        total = scans[""].characters
        chunks = (chunk for chunk in split_main(recipe, scans[""]) if chunk.split == TRAIN)
    with Progress("training the tokenizer", total if tokenizer.train_chars is None else None) as progress:
        interruptible(tokenizer.train, _drawn(chunks, total, tokenizer.train_chars, progress.advance))


def _drawn(
    chunks: Iterable[Chunk], characters: int, limit: int | None, advance: Callable[[int], None]
) -> Iterator[str]:
    """Texts of chunks, evenly through them, up to a limit of characters; `characters` are in all texts together."""
    share = 1.0 if limit is None else min(limit / max(characters, 1), 1.0)
    read = taken = 0
    for chunk in chunks:
        text = text_of(chunk.content)
        if taken <= share * read:
            yield text
            advance(len(text))
            taken += len(text)
        read += len(text)


def interruptible(train: Callable[[Iterable[str]], None], texts: Iterable[str]) -> None:
    """Trains so that Ctrl-C ends it soon.

    A library reads texts in a thread of its own and gives Python no turn before it is done, which may take minutes.
    Here it is this thread that waits, and the end of it ends the texts.
    """
    stopped, errors = threading.Event(), list[BaseException]()

    def until_stopped() -> Iterator[str]:
        for text in texts:
            if stopped.is_set():
                raise InterruptedError
            yield text

    def work() -> None:
        try:
            train(until_stopped())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:
        stopped.set()
        thread.join(_PATIENCE)
        raise
    if errors:
        raise errors[0]
