"""Errors that the user can fix. Imports no other module, so that every layer may raise them."""


class UserError(ValueError):
    """A mistake in a config, an argument or a file: one line that says what is wrong, where, and what would do."""


def not_implemented(owner: object, method: str) -> UserError:
    """The error of a method that a subclass has to define: a component's base was named, or an incomplete class."""
    return UserError(f"{type(owner).__name__} has no {method}; define it in a subclass, or name another class")
