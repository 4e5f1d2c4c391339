"""Ids as people read them.

Knows: tokenizers. Does not know: where ids come from.
"""

from collections.abc import Iterable
from itertools import groupby

from lit_gpt.data.tokenizers.tokenizer import Tokenizer


def display_token(tokenizer: Tokenizer, id: int) -> str:
    """A token as Python writes its text, or its bytes where they are no whole characters; a special one by its name."""
    if id in tokenizer.special_ids:
        return tokenizer.token(id)
    piece = tokenizer._piece(id)
    try:
        return repr(piece.decode("utf-8"))
    except UnicodeDecodeError:  # a part of a character
        return repr(piece)


def decode_with_special(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text of ids, special tokens by their names in it."""
    special = tokenizer.special_ids
    return "".join(
        "".join(map(tokenizer.token, run)) if named else tokenizer.decode(run)
        for named, run in groupby(ids, special.__contains__)
    )
