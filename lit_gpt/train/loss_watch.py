"""Warnings about the loss: spikes, NaN in validation, and batches to skip where a NaN recurs after a resume."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from lit_gpt.data.module import TokenData
from lit_gpt.train import run_folder
from lit_gpt.train.lean_callback import LeanCallback
from lit_gpt.train.step_metrics import StepMetrics
from lit_gpt.train.stopping import NonFiniteStop

JUMP = 1000.0  # a spike of one step to this multiple of the lowest loss so far is reported
_LEAST = 1e-3  # nats; a lower loss counts as this


class LossWatch(LeanCallback):
    """Reports a thousandfold loss spike, NaN in validation alone, and how to skip the batches of a recurrent NaN.

    Args:
        folder: The run directory; its run.json records the steps at which a loss was not finite.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._meter: StepMetrics | None = None
        self._reads = 0
        self._lowest = math.inf
        self._step, self._first_batch = 0, 1
        self._said: set[str] = set()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        meters = [one for one in trainer.callbacks if isinstance(one, StepMetrics)]  # type: ignore[attr-defined]
        self._meter = meters[0] if meters else None
        self._reads, self._said = self._meter.reads if self._meter is not None else 0, set()
        if trainer.global_step == 0:
            self._lowest = math.inf
        self._note(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"lowest": self._lowest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._lowest = state_dict["lowest"]

    def _note(self, trainer: Trainer) -> None:
        """Remember where the last finite loss was read."""
        self._step, self._first_batch = trainer.global_step, _next_batch(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self._meter is None or self._meter.reads == self._reads:
            return
        self._reads, loss = self._meter.reads, self._meter.latest["train_loss"]
        steps = max(trainer.global_step - self._step, 1)  # the loss is their mean
        floor = max(self._lowest, _LEAST)
        if (loss - floor) * steps >= (JUMP - 1) * floor:
            self._tell_jump(trainer, loss, floor)
        elif loss < 10 * floor:
            self._said.discard("train_loss")
        self._lowest = min(self._lowest, loss)
        self._note(trainer)

    def _tell_jump(self, trainer: Trainer, loss: float, floor: float) -> None:
        if "train_loss" in self._said or not trainer.is_global_zero:
            return
        self._said.add("train_loss")
        first, last = self._step + 1, trainer.global_step
        where = f"steps {first} to {last}" if first < last else f"step {last}"
        print(
            f"train_loss jumped from {floor:.4g} to {loss:.4g} in {where}: a lower learning rate, a longer warmup or "
            "gradient clipping helps, or --resume from a checkpoint before it with "
            f"--skip_batches '{_ranges(trainer, self._first_batch)}'",
            flush=True,
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        losses = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val_loss")}
        bad = {name for name, value in losses.items() if not math.isfinite(value)}
        accumulators = getattr(pl_module, "accumulators", None)
        if bad - self._said and trainer.is_global_zero and not (accumulators is not None and accumulators.unhealthy):
            loss = None if self._meter is None else self._meter.latest.get("train_loss")
            train = "" if loss is None else f" (train_loss {loss:.4g})"
            said = ", ".join(f"{name} is {losses[name]}" for name in sorted(bad))
            print(
                f"{said} at step {trainer.global_step}, while training is finite{train}: no token of that text is "
                "trained on, or the net overflows on it (--trainer.precision 32-true); it counts as no best",
                flush=True,
            )
        self._said = (self._said - losses.keys()) | bad

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, NonFiniteStop) or not trainer.is_global_zero:
            return
        step, facts = trainer.global_step, run_folder.read_facts(self.folder)
        before = [int(one) for one in facts.get("not_finite", [])]
        run_folder.write_facts(self.folder, {**facts, "not_finite": [*before, step]})
        every = max(trainer.log_every_n_steps, 1)  # type: ignore[attr-defined]
        if any(abs(one - step) < every for one in before):
            # A CPU checks each step, a GPU each read: the cause is anywhere since the last one.
            on_cpu = pl_module.device.type == "cpu"
            first = max(self._first_batch, _next_batch(trainer) - trainer.accumulate_grad_batches if on_cpu else 1)
            lr = getattr(getattr(pl_module, "accumulators", None), "lr", 0.0)
            exception.args = (
                f"{exception}. It was not finite at this step in an earlier attempt either. Try --resume with "
                f"--skip_batches '{_ranges(trainer, first)}', which skips these batches, or with a lower "
                f"--model.optimizer.lr than the {lr:.3g} of this step's schedule",
            )


def _next_batch(trainer: Trainer) -> int:
    data = trainer.datamodule  # type: ignore[attr-defined]
    return data.next_batch if isinstance(data, TokenData) else 1


def _ranges(trainer: Trainer, first: int) -> list[Sequence[int]]:
    """The value for `--skip_batches`: what is skipped now, and the batches from `first` to the current one."""
    data = trainer.datamodule  # type: ignore[attr-defined]
    skipped = data.skip.ranges if isinstance(data, TokenData) else ()
    return [*map(list, skipped), [first, max(_next_batch(trainer) - 1, first)]]
