"""Run summary: a table of parameters, memory, tokens and time before training, and the last line after it."""

import time
from collections.abc import Iterator

from lightning.pytorch import LightningModule, Trainer
from rich.console import Console
from rich.table import Table

from lit_gpt import cost
from lit_gpt.atomic_io import free_bytes
from lit_gpt.cost import size
from lit_gpt.data.module import TokenData
from lit_gpt.data.training import batches_done
from lit_gpt.train.checkpointing import BestCheckpoint, LastCheckpoint
from lit_gpt.train.lean_callback import LeanCallback
from lit_gpt.train.progress_bar import clock
from lit_gpt.train.step_metrics import StepMetrics

LAST_LINE = ("val_loss", "val_perplexity", "val_bpb")


class RunSummary(LeanCallback):
    """Prints the cost of a run before it starts, and keeps its last line for the end."""

    def __init__(self) -> None:
        self._begun = 0.0
        self._last_line = ""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begun = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(style="dim")
        table.add_column()
        for name, value in rows(trainer, pl_module):
            table.add_row(name, value)
        Console(highlight=False).print(table)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        latest = next((c.latest for c in trainer.callbacks if isinstance(c, StepMetrics)), {})  # type: ignore[attr-defined]
        self._last_line = last_line(trainer.global_step, latest, time.monotonic() - self._begun)

    def final_line(self) -> str:
        """The last line of the run, which the command prints last."""
        return self._last_line


def last_line(step: int, values: dict[str, float], seconds: float) -> str:
    """`step N  tokens N  val_loss X  val_perplexity X  val_bpb X  seconds X`; nan for what was not measured."""
    nan = float("nan")
    measured = "  ".join(f"{name} {values.get(name, nan):.4f}" for name in LAST_LINE)
    return f"step {step}  tokens {int(values.get('tokens', 0))}  {measured}  seconds {seconds:.1f}"


def rows(trainer: Trainer, pl_module: LightningModule) -> Iterator[tuple[str, str]]:
    """Name and value of each line of the table."""
    net, data = pl_module.net, trainer.datamodule  # type: ignore[attr-defined]
    counts = cost.count(net)  # type: ignore[arg-type]
    yield "parameters", f"{counts.parameters:,} ({counts.trainable:,} trained, {counts.embeddings:,} in embeddings)"
    batch_size, context = getattr(data, "batch_size", None), getattr(data, "context", None)
    steps = pl_module.total_steps()  # type: ignore[operator]
    left = steps - trainer.global_step
    if batch_size and context:
        half = "16" in str(trainer.precision)
        memory = cost.training_memory(net, batch_size, context, 2 if half else 4)  # type: ignore[arg-type]
        yield "memory", f"{size(memory.total)} expected in training ({size(memory.activations)} of it activations)"
        a_batch = getattr(data, "batch_tokens", batch_size * context)
        a_step = a_batch * trainer.accumulate_grad_batches * trainer.world_size
        yield "tokens", _tokens(trainer, pl_module, left * a_step, left, a_step, counts.parameters)
        there = getattr(data, "train_tokens", None)
        if there:
            held = getattr(data, "val_tokens", 0)
            batches = data.batches_per_epoch(trainer.world_size)  # not from tokens: rows may be padded
            # After a resume from the position in the data: the batch size may have changed.
            resumed = trainer.global_step and isinstance(data, TokenData)
            epoch, done = batches_done(data) if resumed else (0, trainer.global_step * trainer.accumulate_grad_batches)
            epochs = epoch + (done + left * trainer.accumulate_grad_batches) / max(batches, 1)
            yield "text", f"{there:,} training tokens ({epochs:.2f} epochs), {held:,} for validation"
        a_process = left * a_step // trainer.world_size
        seconds = cost.forecast_seconds(net, a_process, pl_module.device, str(trainer.precision), context)  # type: ignore[arg-type]
        yield "time", f"about {clock(seconds)} for {left:,} steps at the usual share of this device's peak"
    else:
        yield "steps", f"{steps:,}"
    savers = [c for c in trainer.callbacks if isinstance(c, BestCheckpoint | LastCheckpoint)]  # type: ignore[attr-defined]
    kept = sum(c.save_top_k if isinstance(c, BestCheckpoint) else c.save_last_k for c in savers)
    if kept:
        each = cost.checkpoint_bytes(net)  # type: ignore[arg-type]
        free = free_bytes(savers[0].folder)
        # While one is written, the one that it replaces still exists.
        yield "disk", f"{size(each * (kept + 1))} for checkpoints of {size(each)}, {size(free)} free"
    yield "device", f"{pl_module.device} x {trainer.world_size}, {trainer.precision}"


def _tokens(trainer: Trainer, pl_module: LightningModule, more: int, left: int, a_step: int, parameters: int) -> str:
    accumulators = getattr(pl_module, "accumulators", None)
    if not trainer.global_step or accumulators is None:
        return f"{more:,} in {left:,} steps of {a_step:,}: {more / parameters:.3g} per parameter"
    done = accumulators.total_tokens()
    return f"{done:,} so far, {more:,} in {left:,} steps of {a_step:,}: {(done + more) / parameters:.3g} per parameter"
