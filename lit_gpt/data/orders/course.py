"""Where training stands in the order of its rows, in numbers that mean the same for any number of ranks.

Knows: epochs, slots, batches. Does not know: rows, text, trainers.
"""

from typing import Any, NamedTuple


class Pace(NamedTuple):
    """How an epoch is gone through.

    slots: places in the order. batch: slots in a batch of all ranks together. batches: of each rank, as the trainer
    limits them. order: name of the order.
    """

    slots: int
    batch: int
    batches: int
    order: str


class Course:
    """How far training has come: where it began, and how many batches it has seen since."""

    def __init__(self) -> None:
        self._start, self._counted = (0, 0), 0  # epoch and slot when so many batches had been trained on
        self._resumed: int | None = None  # slot of the epoch that was resumed, as it was then

    def position(self, trained: int, pace: Pace) -> tuple[int, int]:
        """Epoch and slot of the next batch.

        Args:
            trained: Batches of a rank that the trainer has counted.
            pace: Of this training.
        """
        epoch, slot = self._start
        batches = trained - self._counted
        if batches < 0:  # another training, from its beginning
            return 0, 0
        left = self._left(pace)
        if batches < left:
            return epoch, slot + batches * pace.batch
        epochs, batches = divmod(batches - left, pace.batches)
        return epoch + 1 + epochs, batches * pace.batch

    def _left(self, pace: Pace) -> int:
        """Batches of the epoch in which it began."""
        return max(-(-(min(pace.slots, pace.batches * pace.batch) - self._start[1]) // pace.batch), 0)

    def done(self, pace: Pace) -> int | None:
        """Batches of the trainer's epoch that are done at this pace, once after a resume; None where it counts right.

        The trainer ends an epoch by their number, and counted those of another batch size or number of ranks.
        """
        slot, self._resumed = self._resumed, None
        if slot is None:
            return None
        return pace.batches - self._left(pace) if slot else pace.batches  # at slot 0 the trainer ends the one before

    def consumed(self, trained: int, pace: Pace) -> int:
        """Slots that all ranks together have trained on, empty ones included."""
        epoch, slot = self.position(trained, pace)
        return epoch * pace.batches * pace.batch + slot

    def begin(self, consumed: int, trained: int, pace: Pace) -> None:
        """Stands after so many slots."""
        epoch, slot = divmod(consumed, pace.batches * pace.batch)
        self._start, self._counted = (epoch, slot), trained

    def state(self, trained: int, pace: Pace) -> dict[str, Any]:
        """All of it as plain data."""
        epoch, slot = self.position(trained, pace)
        consumed = self.consumed(trained, pace)
        place = {"epoch": epoch, "slot": slot, "batches": trained, "consumed": consumed}
        return {**place, "slots": pace.slots, "order": pace.order}

    def go_on(self, state: dict[str, Any], pace: Pace) -> str | None:
        """Stands where `state` was taken.

        Where an epoch has other places now, it goes on from the same share of one.

        Returns:
            What of the epoch is then not exact; None where all is.
        """
        slots, order = state.get("slots", pace.slots), state.get("order", pace.order)
        slot = state["slot"] if slots == pace.slots else state["slot"] * pace.slots // max(slots, 1)
        self._start, self._counted = (state["epoch"], slot), state["batches"]
        self._resumed = state["slot"]
        if (slots, order) == (pace.slots, pace.order) or not slot:
            return None
        was, now = f"{slots:,} rows or batches in {order}", f"{pace.slots:,} in {pace.order}"
        return (
            f"an epoch was {was} and is {now} now; the one that was begun goes on from the same share of it, so in it"
            " some text comes twice or not at all; later epochs are whole"
        )
