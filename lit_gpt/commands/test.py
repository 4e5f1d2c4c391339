"""Measure a checkpoint on its test text."""

from lit_gpt.commands.validate import measure


def main(argv: list[str]) -> int:
    """Runs `lit-gpt test`."""
    return measure("test", argv)
