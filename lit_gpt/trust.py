"""Whose code a file may name: the user's word, in one place for checkpoints, settings in them and tokenizers."""

import os


def trusted_by_user() -> set[str]:
    """Packages in the environment variable LIT_GPT_TRUST, separated by commas or spaces."""
    return set(os.environ.get("LIT_GPT_TRUST", "").replace(",", " ").split())
