"""Where training stands in the order of its rows, in numbers that mean the same for any number of ranks.

Knows: epochs, slots, batches. Does not know: rows, text, trainers.
"""

from typing import Any, NamedTuple


class EpochShape(NamedTuple):
    """How an epoch is gone through.

    slots: places in the order. batch: slots in a batch of all ranks together. batches: of each rank, as the trainer
    limits them. sampler: name of its class.
    """

    slots: int
    batch: int
    batches: int
    sampler: str


class TrainingPosition:
    """How far training has come: where it began, and how many batches it has seen since."""

    def __init__(self) -> None:
        self._start, self._counted = (0, 0), 0  # epoch and slot when so many batches had been trained on
        self._resumed: int | None = None  # slot of the epoch that was resumed, as it was then

    def position(self, trained: int, shape: EpochShape) -> tuple[int, int]:
        """Epoch and slot of the next batch.

        Args:
            trained: Batches of a rank that the trainer has counted.
            shape: Of this training.
        """
        epoch, slot = self._start
        batches = trained - self._counted
        if batches < 0:  # another training, from its beginning
            return 0, 0
        left = self._left(shape)
        if batches < left:
            return epoch, slot + batches * shape.batch
        epochs, batches = divmod(batches - left, shape.batches)
        return epoch + 1 + epochs, batches * shape.batch

    def _left(self, shape: EpochShape) -> int:
        """Batches of the epoch in which it began."""
        return max(-(-(min(shape.slots, shape.batches * shape.batch) - self._start[1]) // shape.batch), 0)

    def done(self, shape: EpochShape) -> int | None:
        """Batches of the trainer's epoch that are done at this shape, once after a resume; None where it counts right.

        The trainer ends an epoch by their number, and counted those of another batch size or number of ranks.
        """
        slot, self._resumed = self._resumed, None
        if slot is None:
            return None
        return shape.batches - self._left(shape) if slot else shape.batches  # at slot 0 the trainer ends the one before

    def consumed(self, trained: int, shape: EpochShape) -> int:
        """Slots that all ranks together have trained on, empty ones included."""
        epoch, slot = self.position(trained, shape)
        return epoch * shape.batches * shape.batch + slot

    def state(self, trained: int, shape: EpochShape) -> dict[str, Any]:
        """All of it as plain data."""
        epoch, slot = self.position(trained, shape)
        consumed = self.consumed(trained, shape)
        place = {"epoch": epoch, "slot": slot, "batches": trained, "consumed": consumed}
        return {**place, "slots": shape.slots, "sampler": shape.sampler}

    def go_on(self, state: dict[str, Any], shape: EpochShape) -> str | None:
        """Stands where `state` was taken.

        Where an epoch has other places now, it goes on from the same share of one.

        Returns:
            What of the epoch is then not exact; None where all is.
        """
        slots, sampler = state.get("slots", shape.slots), state.get("sampler", shape.sampler)
        slot = state["slot"] if slots == shape.slots else state["slot"] * shape.slots // max(slots, 1)
        self._start, self._counted = (state["epoch"], slot), state["batches"]
        self._resumed = state["slot"]
        if (slots, sampler) == (shape.slots, shape.sampler) or not slot:
            return None
        was, now = f"{slots:,} rows or batches in {sampler}", f"{shape.slots:,} in {shape.sampler}"
        return (
            f"an epoch was {was} and is {now} now; the one that was begun goes on from the same share of it, so in it"
            " some text comes twice or not at all; later epochs are whole"
        )
