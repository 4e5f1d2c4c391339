"""Optimizer-step boundaries with gradient accumulation: training validates, stops and saves only there.

Between two optimizer steps the gradients of an accumulation window exist in memory only. So a validation that is due
inside a window waits for the window's end, and a checkpoint that is asked for inside one holds the state of the last
optimizer step, which a resumed run continues from bit-exactly.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

_COUNTS = ("ready", "started", "processed", "completed")


class StepLoop(_TrainingEpochLoop):
    """Lightning's loop over the batches of an epoch, which validates and stops at optimizer-step boundaries alone."""

    #: Batches (of all epochs) after which the last validation ended.
    validated_at: int = -1
    #: The window at whose start progress counts while a checkpoint is made, where it is asked for inside one.
    rewound_to: "Window | None" = None
    #: The checkpoint that training resumes from was saved between a step and the validation that follows it.
    _owes_validation: bool = False

    def _should_check_val_fx(self, data_fetcher: Any) -> bool:
        if self._owes_validation:
            return True
        if self._should_accumulate():
            return False
        return bool(super()._should_check_val_fx(data_fetcher)) or self._interval_ended_in_window()

    def _interval_ended_in_window(self) -> bool:
        """Whether a multiple of `val_check_interval` lies among the batches of the window that ends here."""
        trainer: Any = self.trainer
        ready = self.batch_progress.current.ready
        every = trainer.val_check_batch
        if not ready or not every or every == float("inf") or trainer._val_check_time_interval is not None:
            return False
        if not self._should_check_val_epoch():
            return False
        accumulate = trainer.accumulate_grad_batches
        window = ready - (ready - 1) // accumulate * accumulate
        done = self.batch_progress.total.ready if trainer.check_val_every_n_epoch is None else ready
        return int(done // every) > int((done - window) // every)

    def owes_validation(self) -> bool:
        """Whether a validation is due at this boundary and has not ended yet."""
        if not self.trainer.training and not self.trainer.validating:
            return False
        if self.batch_progress.total.ready == self.validated_at:
            return False
        return self._should_check_val_fx(self.trainer.fit_loop._data_fetcher)

    @property
    def done(self) -> bool:
        if self.trainer.should_stop and self._should_accumulate():
            return False  # the accumulation window is completed first
        return super().done

    def advance(self, data_fetcher: Any) -> None:
        if self._owes_validation and self.restarting:
            self.val_loop.restarting = False  # from its first batch
            return  # on_advance_end validates
        self._owes_validation = False
        super().advance(data_fetcher)

    def on_advance_end(self, data_fetcher: Any) -> None:
        super().on_advance_end(data_fetcher)
        self._owes_validation = False

    def on_save_checkpoint(self) -> dict:
        return {**super().on_save_checkpoint(), "owes_validation": self.owes_validation()}

    def on_load_checkpoint(self, state_dict: dict) -> None:
        super().on_load_checkpoint(state_dict)
        self._owes_validation = bool(state_dict.get("owes_validation", False))
        self.validated_at = -1 if self._owes_validation else self.batch_progress.total.completed


@dataclass
class Window:
    """Where the optimizer step that is being worked on began."""

    step: int  # optimizer steps before it
    total: int  # batches before it, of all epochs
    current: int  # and of its epoch
    random: Any  # the generators' states


def validation_due(trainer: Trainer) -> bool:
    """Whether a validation follows the batch that has just ended, and has not ended itself: the one rule for it."""
    loop = trainer.fit_loop.epoch_loop
    if isinstance(loop, StepLoop):
        return loop.owes_validation()
    return loop._should_check_val_fx(trainer.fit_loop._data_fetcher)  # type: ignore[arg-type]


def between_steps(trainer: Trainer) -> bool:
    """Whether the batch that has just ended completed an optimizer step."""
    return not trainer.fit_loop._should_accumulate()


def install(trainer: Trainer, window: Callable[[], Window | None]) -> None:
    """Makes a trainer validate, stop and save at optimizer-step boundaries; once for each trainer.

    Args:
        trainer: Not yet fitted, or fitted before.
        window: Returns the start of the window that is open, None between two steps.
    """
    loop = trainer.fit_loop.epoch_loop
    if isinstance(loop, StepLoop):
        return
    loop.__class__ = StepLoop  # the same loop with the same progress: others refer to it
    save = trainer.save_checkpoint

    def save_checkpoint(*args: Any, **kwargs: Any) -> None:
        with at_last_step(trainer, window()):
            save(*args, **kwargs)

    trainer.save_checkpoint = save_checkpoint  # type: ignore[method-assign]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, Checkpoint) and not getattr(callback, "saves_at_boundaries", False):
            _after_validation(callback)


@contextmanager
def at_last_step(trainer: Trainer, window: Window | None) -> Iterator[None]:
    """Within it, the trainer's progress counts what the last optimizer step had seen, so that saving saves that."""
    loop: Any = trainer.fit_loop.epoch_loop
    progress = loop.batch_progress
    before = [{name: getattr(part, name) for name in _COUNTS} for part in (progress.total, progress.current)]
    last, stepped = progress.is_last_batch, loop._batches_that_stepped
    loop.rewound_to = window
    if window is not None:
        for part, count in ((progress.total, window.total), (progress.current, window.current)):
            part.__dict__.update(dict.fromkeys(_COUNTS, count))
        progress.is_last_batch = False
        if window.current and getattr(loop, "validated_at", -1) == window.total:
            loop._batches_that_stepped -= 1  # resuming skips the validation of this batch, and counts it once more
    elif isinstance(loop, StepLoop) and loop.owes_validation():
        for part in (progress.total, progress.current):
            part.completed = part.processed  # resuming begins with the validation, not after it
    try:
        yield
    finally:
        loop.rewound_to = None
        for part, counts in zip((progress.total, progress.current), before, strict=True):
            part.__dict__.update(counts)
        progress.is_last_batch, loop._batches_that_stepped = last, stepped


def _after_validation(callback: Checkpoint) -> None:
    """Has a checkpoint callback look at boundaries alone, and after the validation where one is due.

    A checkpoint that was saved before it would make a resumed run of a finished one leave out its last validation.
    """
    batch_end, validation_end = callback.on_train_batch_end, callback.on_validation_end
    waiting: list[tuple[Any, ...]] = []

    def on_train_batch_end(trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:
        if not between_steps(trainer):
            return
        if validation_due(trainer):
            waiting[:] = [rest]
        else:
            batch_end(trainer, pl_module, *rest)

    def on_validation_end(trainer: Trainer, pl_module: LightningModule) -> None:
        validation_end(trainer, pl_module)
        rests, waiting[:] = waiting[:], []
        for rest in rests:
            batch_end(trainer, pl_module, *rest)

    callback.on_train_batch_end = on_train_batch_end  # type: ignore[method-assign,assignment]
    callback.on_validation_end = on_validation_end  # type: ignore[method-assign]
