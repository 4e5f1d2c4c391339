"""Token ids as text for people: each token with its bytes, special tokens by their names."""

from collections.abc import Iterable
from itertools import groupby

from lit_gpt.data.tokenizers.tokenizer import Tokenizer


def display_token(tokenizer: Tokenizer, id: int) -> str:
    """The repr of a token's text, or of its bytes where they are no whole characters; the name of a special token."""
    if id in tokenizer.special_ids:
        return tokenizer.token(id)
    token = tokenizer.bytes_of(id)
    try:
        return repr(token.decode())
    except UnicodeDecodeError:  # a part of a character
        return repr(token)


def decode_with_special(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text of ids with the names of special tokens."""
    special = tokenizer.special_ids
    return "".join(
        "".join(map(tokenizer.token, run)) if named else tokenizer.decode(run)
        for named, run in groupby(ids, special.__contains__)
    )
