"""Position of training in the data, for resume: epoch and slot, independent of the number of ranks."""

from typing import Any, NamedTuple


class EpochShape(NamedTuple):
    """Size of an epoch.

    slots: slots in an epoch. batch: slots in a batch of all ranks. batches: batches per rank, as limited by the
    trainer. sampler: name of its class.
    """

    slots: int
    batch: int
    batches: int
    sampler: str


class TrainingPosition:
    """Position of training: where it began or resumed, and the batches since."""

    def __init__(self) -> None:
        self._start, self._counted = (0, 0), 0  # epoch and slot after this number of batches
        self._resumed: int | None = None  # slot in the state that was resumed

    def position(self, trained: int, shape: EpochShape) -> tuple[int, int]:
        """Epoch and slot of the next batch.

        Args:
            trained: Batches of a rank that the trainer has counted.
            shape: Size of an epoch.
        """
        epoch, slot = self._start
        batches = trained - self._counted
        if batches < 0:  # a new training
            return 0, 0
        left = self._left(shape)
        if batches < left:
            return epoch, slot + batches * shape.batch
        epochs, batches = divmod(batches - left, shape.batches)
        return epoch + 1 + epochs, batches * shape.batch

    def _left(self, shape: EpochShape) -> int:
        """Batches left in the epoch in which it began."""
        return max(-(-(min(shape.slots, shape.batches * shape.batch) - self._start[1]) // shape.batch), 0)

    def done(self, shape: EpochShape) -> int | None:
        """Batches of the current epoch that are done, once after a resume; None if the trainer's count is right.

        The trainer ends an epoch by this count, which was saved with another batch size or number of ranks.
        """
        slot, self._resumed = self._resumed, None
        if slot is None:
            return None
        return shape.batches - self._left(shape) if slot else shape.batches  # at slot 0 the trainer ends the one before

    def consumed(self, trained: int, shape: EpochShape) -> int:
        """Slots that all ranks have trained on, empty ones included."""
        epoch, slot = self.position(trained, shape)
        return epoch * shape.batches * shape.batch + slot

    def state(self, trained: int, shape: EpochShape) -> dict[str, Any]:
        """The position as plain data, for a checkpoint."""
        epoch, slot = self.position(trained, shape)
        consumed = self.consumed(trained, shape)
        place = {"epoch": epoch, "slot": slot, "batches": trained, "consumed": consumed}
        return {**place, "slots": shape.slots, "sampler": shape.sampler}

    def go_on(self, state: dict[str, Any], shape: EpochShape) -> str | None:
        """Resumes from `state`; if an epoch has another size now, from the same fraction of it.

        Returns:
            A note if the resumed epoch is not exact; None if it is.
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
