"""How a tokenizer learns from a recipe's text: from which splits, how much of them, drawn evenly.

Knows: recipes, tokenizers. Does not know: folders, ids.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from lit_gpt.data.corpus.packets import drawn
from lit_gpt.data.corpus.splits import TRAIN, Part
from lit_gpt.data.corpus.survey import Survey
from lit_gpt.data.progress import Progress

if TYPE_CHECKING:
    from lit_gpt.data.corpus.preparation import Recipe


def train_tokenizer(recipe: "Recipe", surveys: dict[str, Survey]) -> None:
    """Lets the recipe's tokenizer learn what it learns when the text is prepared.

    Args:
        recipe: With a tokenizer that is still to be trained.
        surveys: Of the recipe.
    """
    tokenizer = recipe.tokenizer
    if tokenizer.sees_all_text:
        total = sum(found.characters for found in surveys.values())
        parts: Iterable[Part] = recipe.parts(surveys)
    else:
        total = surveys[""].characters
        parts = (part for part in recipe.main_parts(surveys[""]) if part.split == TRAIN)
    with Progress("training the tokenizer", total if tokenizer.learns_from is None else None) as progress:
        tokenizer.train(_counted(drawn(parts, total, tokenizer.learns_from), progress.advance))


def _counted(texts: Iterable[str], advance: Callable[[int], None]) -> Iterator[str]:
    for text in texts:
        yield text
        advance(len(text))
