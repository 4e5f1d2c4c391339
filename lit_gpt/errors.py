"""The error that is the user's to mend. Knows no other module, so that every layer may raise it."""


class UserError(ValueError):
    """A mistake in a config, an argument or a file: one line that says what is wrong, where, and what would do."""
