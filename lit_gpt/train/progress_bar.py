"""Progress bar of training: one redrawn line on a terminal or in a notebook, plain lines elsewhere.

It is drawn by time, not by step: drawing at each step would cost more than a step of a small net.
"""

import shutil
import sys
import time
from typing import Any, TextIO

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from lit_gpt.train.lean_callback import LeanCallback
from lit_gpt.train.step_metrics import StepMetrics


class TrainingProgressBar(LeanCallback, ProgressBar):
    """Step, loss, tokens per second and time left.

    Args:
        refresh: Seconds between two updates of the bar.
        plain_every: Seconds between two lines without a terminal; the first ones come sooner.
    """

    def __init__(self, refresh: float = 0.25, plain_every: float = 10.0) -> None:
        super().__init__()
        self.refresh, self.plain_every = refresh, plain_every
        self._live = False
        self._enabled = True
        self._metrics: StepMetrics | None = None
        self._next = 0.0
        self._gap = 0.0
        self._begun = 0.0
        self._first_step = 0
        self._steps = 0
        self._drawn = 0
        self._paused = 0.0
        self._pause_begun = 0.0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._enabled = trainer.is_global_zero
        self._live = is_live(sys.stdout)
        found = [c for c in trainer.callbacks if isinstance(c, StepMetrics)]  # type: ignore[attr-defined]
        self._metrics = found[0] if found else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begun = time.monotonic()
        self._paused = 0.0
        self._first_step = trainer.global_step
        self._steps = pl_module.total_steps()  # type: ignore[operator]
        self._gap = self.refresh if self._live else 1.0
        self._next = self._begun + self._gap

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        now = time.monotonic()
        if now < self._next or not self._enabled:
            return
        if not self._live:
            self._gap = min(self.plain_every, 2 * self._gap)
        self._next = now + self._gap
        self._show(self._line(trainer.global_step, now))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._pause_begun = time.monotonic()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        now = time.monotonic()
        if now < self._next or not self._enabled or not self._live or trainer.state.fn != "fit":
            return
        self._next = now + self._gap
        total = trainer.num_val_batches[dataloader_idx]
        self._show(self._line(trainer.global_step, now, f"validating {batch_idx + 1}/{total}"))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._paused += time.monotonic() - self._pause_begun
        latest = self._metrics.latest if self._metrics is not None else {}
        if not self._enabled or trainer.state.fn != "fit" or trainer.sanity_checking or "val_loss" not in latest:
            return
        names: list[str] = [name for name in ("val_loss", "val_perplexity", "val_bpb") if name in latest]
        names += [name for name in latest if name.startswith("val_loss/")]  # of further texts
        shown = "  ".join(f"{name} {latest[name]:.4f}" for name in names)
        self.say(f"step {trainer.global_step}  {shown}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._enabled:
            self._show(self._line(trainer.global_step, time.monotonic()))
            self._end_line()
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                reason = getattr(callback, "stopping_reason_message", None)  # EarlyStopping
                if reason:
                    why = reason.replace("Signaling Trainer to stop.", "").strip()
                    self.say(f"stopped at step {trainer.global_step} of {self._steps}: {why}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if self._enabled:
            self._end_line()

    def say(self, text: str) -> None:
        """Print a line that stays, above the bar."""
        if self._live and self._drawn:
            sys.stdout.write("\r" + " " * self._drawn + "\r")
            self._drawn = 0
        print(text, flush=True)

    def _line(self, step: int, now: float, doing: str = "") -> str:
        latest = self._metrics.latest if self._metrics is not None else {}
        done = step - self._first_step
        spent = now - self._begun - self._paused
        left = clock(spent / done * (self._steps - step)) if done > 0 else "?"
        ending = doing or f"{left} left"
        parts = [f"step {step}/{self._steps}"]
        if self._live:
            filled = min(20, 20 * step // max(1, self._steps))
            parts.append("[" + "=" * filled + " " * (20 - filled) + "]")
        if "train_loss" in latest:
            parts.append(f"loss {latest['train_loss']:.4f}")
            if not self._live:
                parts.append(f"lr {latest['lr']:.3g}")
            if not doing:
                parts.append(f"{latest['tokens_per_second']:,.0f} tokens/s")
        return "  ".join([*parts, ending])

    def _show(self, line: str) -> None:
        if not self._live:
            print(line, flush=True)
            return
        line = line[: shutil.get_terminal_size().columns - 1]
        sys.stdout.write("\r" + line.ljust(self._drawn))
        sys.stdout.flush()
        self._drawn = len(line)

    def _end_line(self) -> None:
        if self._live and self._drawn:
            print(flush=True)
        self._drawn = 0


def is_live(stream: TextIO) -> bool:
    """Whether a line of the stream can be redrawn: a terminal, or the output of a notebook."""
    return stream.isatty() or type(stream).__module__.startswith("ipykernel")


def clock(seconds: float) -> str:
    """1:02:03, or 02:03."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes:02d}:{whole % 60:02d}"
