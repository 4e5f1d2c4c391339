"""How a tokenizer learns from a recipe's text: from which splits, how much of them, drawn evenly.

Knows: recipes, tokenizers. Does not know: folders, ids.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from lit_gpt.data.corpus.packets import drawn
from lit_gpt.data.corpus.scan import Scan
from lit_gpt.data.corpus.splits import TRAIN, Part
from lit_gpt.data.progress import Progress

if TYPE_CHECKING:
    from lit_gpt.data.corpus.preparation import Recipe

_PATIENCE = 3.0  # seconds that a library has to end after Ctrl-C; what it does behind the texts cannot be ended


def train_tokenizer(recipe: "Recipe", scans: dict[str, Scan]) -> None:
    """Lets the recipe's tokenizer learn what it learns when the text is prepared.

    Args:
        recipe: With a tokenizer that is still to be trained.
        scans: Of the recipe.
    """
    tokenizer = recipe.tokenizer
    if tokenizer.trains_on_all_splits:
        total = sum(found.characters for found in scans.values())
        parts: Iterable[Part] = recipe.parts(scans)
    else:
        total = scans[""].characters
        parts = (part for part in recipe.main_parts(scans[""]) if part.split == TRAIN)
    with Progress("training the tokenizer", total if tokenizer.train_chars is None else None) as progress:
        interruptible(tokenizer.train, _counted(drawn(parts, total, tokenizer.train_chars), progress.advance))


def interruptible(train: Callable[[Iterable[str]], None], texts: Iterable[str]) -> None:
    """Trains so that Ctrl-C ends it soon.

    A library reads texts in a thread of its own and gives Python no turn before it is done, which may take minutes.
    Here it is this thread that waits, and the end of it ends the texts.
    """
    stopped, faults = threading.Event(), list[BaseException]()

    def until_stopped() -> Iterator[str]:
        for text in texts:
            if stopped.is_set():
                raise InterruptedError
            yield text

    def work() -> None:
        try:
            train(until_stopped())
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:
        stopped.set()
        thread.join(_PATIENCE)
        raise
    if faults:
        raise faults[0]


def _counted(texts: Iterable[str], advance: Callable[[int], None]) -> Iterator[str]:
    for text in texts:
        yield text
        advance(len(text))
