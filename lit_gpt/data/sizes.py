"""Checks of sizes and numbers of processes."""

from lit_gpt.errors import UserError


def check_sizes(**sizes: int | None) -> None:
    """Refuses a size below 1; None is left to its default.

    Args:
        sizes: By the argument's name.
    """
    for name, value in sizes.items():
        if value is not None and value < 1:
            raise UserError(f"{name} {value} of the data is not a positive number; give at least 1")


def check_workers(num_workers: int) -> None:
    """Refuses a negative number of processes."""
    if num_workers < 0:
        raise UserError(f"num_workers {num_workers} is negative; give 0 to read in the training process itself")
