"""Batches to skip in training, such as those with an infinite loss."""

from collections.abc import Iterable, Sequence

from lit_gpt.errors import UserError

Range = int | Sequence[int]


class SkippedBatches:
    """Numbers of batches to skip. A batch is one micro-batch of all ranks; the first is number 1.

    Numbers continue over epochs. A skipped batch keeps its number and position, so that no other one moves.

    Args:
        ranges: Numbers, and pairs of a first and a last number.

    Raises:
        UserError: A range is malformed.
    """

    def __init__(self, ranges: Range | Iterable[Range] | None = None) -> None:
        listed = [ranges] if isinstance(ranges, int) else list(ranges or ())
        self.ranges = tuple(_first_and_last(one) for one in listed)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and any(first <= number <= last for first, last in self.ranges)


def _first_and_last(given: Range) -> tuple[int, int]:
    both = (given, given) if isinstance(given, int) else tuple(given) if isinstance(given, list | tuple) else ()
    if len(both) != 2 or not all(isinstance(one, int) and not isinstance(one, bool) for one in both):
        raise UserError(
            f"skip_batches: {given!r} is neither the number of a batch nor a first and a last one; "
            "write [120, [200, 210]]"
        )
    first, last = both
    if first < 1 or last < first:
        raise UserError(
            f"skip_batches: {given!r} is not a range of batches; the first is at least 1, the last not below it"
        )
    return first, last
