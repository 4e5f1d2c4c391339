"""Batches of the training order that are not trained on, such as those at which a loss became infinite.

Knows numbers of batches. Does not know: what is in them, optimizer steps.
"""

from collections.abc import Iterable, Sequence

from lit_gpt.errors import UserError

Range = int | Sequence[int]


class SkippedBatches:
    """Numbers of batches to skip. A batch is what all ranks together take in one micro-batch; the first is number 1.

    The numbers go on over the epochs, and a skipped batch keeps its number and its place: no other one moves.

    Args:
        ranges: Numbers, and pairs of a first and a last number.

    Raises:
        UserError: naming `skip_batches`, what is wrong and what would do.
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
        raise UserError(f"skip_batches: {given!r} is no range of batches; the first is number 1, the last at least it")
    return first, last
