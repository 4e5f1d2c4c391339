"""Ends of a run that are not its planned end, and the handling of signals.

Knows when to stop and with which exit code; does not know how a checkpoint is written (see `saving`).
"""

import os
import signal
from types import FrameType
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lit_gpt.train.hooks import Lean


class StopRun(Exception):
    """Ends the run at once; its text is one line for the user, `exit_code` is for the shell."""

    exit_code = 1


class NonFiniteStop(StopRun):
    """The loss or the gradient stopped being finite; the weights are those of the last finite step."""

    exit_code = 3


class StoppedBySignal(StopRun):
    """SIGINT or SIGTERM arrived and the state was saved at the end of the optimizer step.

    `go_on` is what goes on from there, as the user has to type it.
    """

    def __init__(self, signum: int, step: int, saved: str | None) -> None:
        super().__init__(signum, step, saved)
        self.exit_code = 128 + signum
        self.signum, self.step, self.saved, self.go_on = signum, step, saved, "--resume"

    def __str__(self) -> str:
        where = f"saved {self.saved}; {self.go_on} goes on from there" if self.saved else "nothing was saved"
        return f"stopped by {signal.Signals(self.signum).name} after step {self.step}: {where}"


class ValidateAtEnd(Lean):
    """Has the last step of a run validated, whatever the interval: what a run reached is always known."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == trainer.max_steps or (
            trainer.max_epochs == trainer.current_epoch + 1 and trainer.fit_loop.epoch_loop._num_ready_batches_reached()
        ):
            trainer.should_stop = True  # Lightning validates before an early stop


class StopOnSignal(Lean):
    """Turn SIGINT and SIGTERM into a checkpoint at the next optimizer step; a second one ends the process at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self._received: int | None = None
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # After Lightning has registered its own handlers: its SIGTERM raises in the middle of accumulation and saves
        # nothing. Signals can be set in the main thread only; elsewhere (a notebook's worker thread) there are none.
        self._received = None
        try:
            for signum in self.SIGNALS:
                self._before[signum] = signal.signal(signum, self._note)
        except ValueError:
            self._before = {}

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self._received is not None:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        self._received = signum

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.world_size == 1:
            if self._received is None:
                return
        if trainer.fit_loop._should_accumulate():
            return
        signum = self._received or 0
        if trainer.world_size > 1:  # all ranks must leave at the same step; Lightning itself talks once a batch here
            import torch

            heard = torch.tensor(signum, device=trainer.strategy.root_device)
            signum = int(trainer.strategy.reduce(heard, reduce_op="max"))
        if signum:
            self._stop(trainer, signum)

    def _stop(self, trainer: Trainer, signum: int) -> None:
        from lit_gpt.train.saving import LastCheckpoint

        saved = None
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, LastCheckpoint):
                saved = callback.save(trainer)
        raise StoppedBySignal(signum, trainer.global_step, saved)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not in teardown: Lightning has put the process's own handlers back by then, and this would undo it.
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}
