"""Early ends of a run: a non-finite loss, SIGINT and SIGTERM; each saves at an optimizer step and has an exit code.

How signals reach the process is in `lit_gpt.signals`.
"""

import os
import signal
from abc import ABC, abstractmethod
from contextlib import ExitStack
from enum import Enum, auto
from typing import Any, NoReturn

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from lit_gpt import signals
from lit_gpt.train.boundaries import between_steps, validation_due
from lit_gpt.train.lean_callback import LeanCallback


class StopRun(Exception):
    """Ends the run at once; its text is one line for the user, `exit_code` is for the shell."""

    exit_code = 1


class NonFiniteStop(StopRun):
    """The loss or the gradient stopped being finite; the weights are those of the last finite step."""

    exit_code = 3


class StoppedBySignal(StopRun):
    """SIGINT or SIGTERM arrived and the state was saved at the end of an optimizer step.

    `resume_command` and `validate_command` are what the user can type next; `reported` is whether this process is the
    one of several that prints the line.
    """

    def __init__(
        self, signum: int, step: int, saved: str | None, validating: bool = False, complete: bool = False
    ) -> None:
        super().__init__(signum, step, saved, validating, complete)
        self.exit_code = 128 + signum
        self.signum, self.step, self.saved = signum, step, saved
        self.resume_command, self.validate_command = "--resume", "`lit-gpt validate`"
        self.validating, self.complete, self.reported = validating, complete, True

    def __str__(self) -> str:
        where = f"saved {self.saved}; {self.resume_command} goes on from there" if self.saved else "nothing was saved"
        if self.saved and self.complete:  # nothing goes on there
            where = f"saved {self.saved}, the end of the training; its validation is left to {self.validate_command}"
        when = "in the validation after" if self.validating else "after"
        return f"stopped by {signal.Signals(self.signum).name} {when} step {self.step}: {where}"


class Validation(Enum):
    """Where the validation of an optimizer step is."""

    DONE = auto()  # or there is none
    DUE = auto()
    BEGUN = auto()


class ValidateAtEnd(LeanCallback):
    """Has the last step of a run validated, whatever the interval: what a run reached is always known."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == trainer.max_steps or (
            trainer.max_epochs == trainer.current_epoch + 1 and trainer.fit_loop.epoch_loop._num_ready_batches_reached()
        ):
            trainer.should_stop = True  # Lightning validates before an early stop


class StopOnSignal(LeanCallback):
    """Turns SIGINT and SIGTERM into a checkpoint of the last optimizer step; its place is behind what logs the step.

    In training a signal waits for the end of the optimizer step; in a validation for the end of the batch or, with
    several ranks, of the validation. A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self._holds = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        trainer._signal_connector = _Signals(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._holds:
            self._holds = True
            signals.hold()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.world_size == 1 and signals.waiting() is None:
            return
        if between_steps(trainer):
            stop_if_asked(trainer, Validation.DUE if validation_due(trainer) else Validation.DONE)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if not self._holds or trainer.state.fn != "fit" or signals.waiting() is None:  # elsewhere signals do not wait
            return
        # Several ranks may have different numbers of batches here: they agree at the end of the validation instead.
        if trainer.world_size == 1 and between_steps(trainer):
            stop_if_asked(trainer, Validation.BEGUN)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not signals.installed():  # of a notebook: given back by now
            self.end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        launcher = trainer.strategy.launcher
        if isinstance(exception, signals.Stopped) and isinstance(launcher, _SubprocessScriptLauncher):
            launcher.kill(signal.SIGKILL)  # the other ranks wait for this one, and have nothing to lose
        self.end()

    def end(self) -> None:
        """Has signals wait no longer: a command says so when its run is written down, loggers and all."""
        if self._holds:
            self._holds = False
            signals.release()


class SavesAtStop(ABC):
    """A callback that saves the state to resume from when a run is stopped."""

    @abstractmethod
    def save(self, trainer: Trainer) -> str | None:
        """Saves the state of the last optimizer step; returns the path, None where nothing is saved."""


def stop_if_asked(trainer: Trainer, validation: Validation = Validation.DONE) -> None:
    """Stops the run where a rank has received a signal. All ranks must call it: with several, they communicate."""
    signum = signals.waiting() or 0
    if trainer.world_size > 1:
        received = torch.tensor(signum, device=trainer.strategy.root_device)
        signum = int(trainer.strategy.reduce(received, reduce_op="max"))
    if signum:
        stop(trainer, signum, validation)


def stop(trainer: Trainer, signum: int, validation: Validation = Validation.DONE) -> NoReturn:
    """Save the state of the last optimizer step and end the run; all ranks must take part.

    Args:
        trainer: Of the run.
        signum: The signal that asks for it.
        validation: Where the validation of this step is: one that is not done is done whole by the resumed run.
    """
    saved = None
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, SavesAtStop):
            saved = callback.save(trainer)  # with the validation that is not done, if any (see `boundaries`)
    signals.taken()
    complete = trainer.global_step == trainer.max_steps
    error = StoppedBySignal(signum, trainer.global_step, saved, validation is Validation.BEGUN, complete)
    if not trainer.is_global_zero:
        error.reported = False
        if trainer.strategy.launcher is not None:
            error.exit_code = 0  # Lightning kills the first process where one that it has started ends with another
    raise error


class _Signals(_SignalConnector):
    """Lightning's signals without its SIGTERM, which raises in the middle of accumulation and saves nothing; what it
    does for SLURM stays."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__(trainer)
        self._handled = ExitStack()

    def register_signal_handlers(self) -> None:
        if self.trainer.state.fn == "fit":  # in a notebook for this call alone; a command has them already
            self._handled.enter_context(signals.handled())
        super().register_signal_handlers()
        signals.put_back()

    def teardown(self) -> None:
        super().teardown()
        late = signals.waiting()
        self._handled.close()
        if late is not None and not signals.installed():  # of a notebook or script, which has its own answer to it
            os.kill(os.getpid(), late)
