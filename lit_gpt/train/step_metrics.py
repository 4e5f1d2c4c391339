"""Step metrics: loss, learning rate, gradient norm, tokens per second and model FLOPs utilization (MFU)."""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.profilers import PassThroughProfiler

from lit_gpt import cost
from lit_gpt.checkpoint import Checkpoint, write_fields
from lit_gpt.train.accumulators import Accumulators
from lit_gpt.train.lean_callback import LeanCallback
from lit_gpt.train.loggers import CSVLog
from lit_gpt.train.stopping import NonFiniteStop


class _NoProfiler(PassThroughProfiler):
    """A profiler without overhead: Lightning opens some eighty of its contexts a step."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager:  # type: ignore[override]
        return self._nothing


class StepMetrics(LeanCallback):
    """Reads the accumulators every `trainer.log_every_n_steps` optimizer steps and logs all step metrics.

    `train_loss` is the mean over all tokens since the last read. Where a step was skipped on the device because its
    gradient was not finite, the run ends here.
    """

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}  # the last values, for the bar and for the last line
        self.reads = 0  # how often train_loss was read
        self._step = -1
        self._flops_per_second = 0.0
        self._flops_per_token = 0.0
        self._validating: AbstractContextManager | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if type(trainer.profiler) is PassThroughProfiler:  # type: ignore[attr-defined]
            trainer.profiler = _NoProfiler()  # type: ignore[attr-defined]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = trainer.global_step
        context = getattr(trainer.datamodule, "context", None)  # type: ignore[attr-defined]
        self._flops_per_token = cost.flops_per_token(pl_module.net, context)  # type: ignore[arg-type]
        self._flops_per_second = cost.peak_flops(pl_module.device, str(trainer.precision)) * trainer.world_size

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step == self._step:  # inside a gradient accumulation window
            return
        self._step = step
        if self._is_due(trainer, step):
            self._read(trainer, pl_module, step)
        elif pl_module.device.type == "cpu" and pl_module.accumulators.unhealthy:  # type: ignore[union-attr]
            self._read(trainer, pl_module, step)  # the value is at hand: no need to wait for the N-th step

    @staticmethod
    def _is_due(trainer: Trainer, step: int) -> bool:
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # 0: only at the end
        return step == trainer.max_steps or (every > 0 and step % every == 0)

    def _read(self, trainer: Trainer, pl_module: LightningModule, step: int) -> None:
        accumulators: Accumulators = pl_module.accumulators  # type: ignore[assignment]
        reading = accumulators.read()
        if not reading.new_tokens and not reading.skipped:
            return  # all targets were masked
        if reading.skipped or not math.isfinite(reading.loss):
            raise NonFiniteStop(
                f"loss or gradient is not finite: stopped at step {step} (loss {reading.loss:.4g}, gradient norm "
                f"{reading.grad_norm:.4g}); the weights were kept from it. Try a lower learning rate, a longer warmup "
                "or gradient clipping"
            )
        per_second = reading.new_tokens / reading.seconds if reading.seconds > 0 else 0.0
        self.reads += 1
        self.latest |= {
            "train_loss": reading.loss,
            "lr": accumulators.lr,
            "grad_norm": reading.grad_norm,
            "tokens": reading.tokens,
            "tokens_per_second": per_second,
            "mfu": per_second * self._flops_per_token / self._flops_per_second,
        }
        trainer.callback_metrics["train_loss"] = torch.tensor(reading.loss)
        _log(trainer, {name: self.latest[name] for name in _STEP_NAMES}, step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        accumulators = getattr(pl_module, "accumulators", None)
        if accumulators is not None and trainer.state.fn == "fit":
            self._validating = accumulators.paused()
            self._validating.__enter__()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._validating is not None:
            self._validating.__exit__(None, None, None)
            self._validating = None
        if trainer.sanity_checking:
            return
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val_")}
        self.latest |= values
        accumulators = getattr(pl_module, "accumulators", None)
        if values and accumulators is not None:
            _log(trainer, values | {"tokens": accumulators.total_tokens()}, trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._is_due(trainer, self._step):
            self._read(trainer, pl_module, self._step)  # the rest of a run that ended by epochs

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        accumulators = getattr(pl_module, "accumulators", None)
        if accumulators is not None and accumulators.unhealthy:
            raise NonFiniteStop(f"loss or gradient is not finite at step {trainer.global_step}: nothing was saved")
        # Rows logged before a checkpoint reach the disk before it: a resumed run writes only later ones.
        for logger in trainer.loggers:
            logger.save()
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                logger.experiment.flush()
            if isinstance(logger, CSVLog):
                write_fields(checkpoint, logged_rows=logger.commit() if trainer.is_global_zero else 0)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        saved = Checkpoint.of(checkpoint)
        if trainer.state.fn == "fit":
            for logger in trainer.loggers:
                if isinstance(logger, CSVLog):
                    logger.rewind(saved.step, saved.logged_rows)


_STEP_NAMES = ("train_loss", "lr", "grad_norm", "tokens", "tokens_per_second", "mfu")


def _log(trainer: Trainer, values: dict[str, float], step: int) -> None:
    for logger in trainer.loggers:
        logger.log_metrics(values, step)
