"""What a run needs, besides weights, optimizer and its place in the data, to go on as if it had never stopped.

Knows random states; the place in the data is kept by the data module, the steps by Lightning.
"""

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy
import torch
from lightning.pytorch import LightningModule, Trainer

from lit_gpt.train.hooks import Lean

GPU_STATE = "cuda"


class ExactResume(Lean):
    """Saves the random states of every rank and restores them when training starts."""

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._restored: dict[str, Any] | None = None
        self._before_validation: dict[str, Any] | None = None
        self._validation_ahead = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer
        self._restored = None  # a checkpoint that was validated is not gone on from

    def state_dict(self) -> dict[str, Any]:
        # Called on all ranks.
        trainer = self._trainer
        if trainer is None or trainer.state.fn != "fit":
            return {}
        own = random_state(trainer.strategy.root_device)
        if self._validation_ahead and self._before_validation is not None:
            own = self._before_validation
        states = [own]
        if trainer.world_size > 1:
            states = [{} for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(states, own)
        return {"ranks": states, "threads": torch.get_num_threads()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict or None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._before_validation = random_state(trainer.strategy.root_device)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._before_validation = None

    @contextmanager
    def validation_ahead(self) -> Iterator[None]:
        """Within it, the random states that are saved are those from before the validation that is under way."""
        self._validation_ahead = True
        try:
            yield
        finally:
            self._validation_ahead = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Not earlier: making the loaders' iterators draws from the generator too.
        state, self._restored = self._restored, None
        if state is None:
            return
        if state["threads"] != torch.get_num_threads():
            _say(trainer, f"resumed with {torch.get_num_threads()} threads, saved with {state['threads']}")
        ranks = state["ranks"]
        if len(ranks) != trainer.world_size:
            _say(trainer, f"resumed on {trainer.world_size} processes, saved on {len(ranks)}: dropout will differ")
            return
        restore_random_state(ranks[trainer.global_rank], trainer.strategy.root_device)


@contextmanager
def validation_ahead(trainer: Trainer) -> Iterator[None]:
    """Within it, what is saved in the middle of a validation is the state from before it: a resume begins with it."""
    loop = trainer.fit_loop.epoch_loop.val_loop
    progress = loop.batch_progress
    before = progress.state_dict()
    # What Lightning takes for a validation that was broken off; so it does it again, here from its first batch.
    count: Any
    for count in (progress.total, progress.current):
        count.ready, count.started, count.processed, count.completed = 1, 1, 0, 0
    progress.is_last_batch = False
    with ExitStack() as stack:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ExactResume):
                stack.enter_context(callback.validation_ahead())
        try:
            yield
        finally:
            progress.load_state_dict(before)


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators as plain data and tensors."""
    version, internal, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = numpy.random.get_state(legacy=True)
    words = torch.from_numpy(numpy.asarray(keys).astype("int64"))
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": [version, list(internal), gauss],
        "numpy": [str(kind), words, int(position), int(has_gauss), float(cached)],
    }
    if device.type == "cuda":
        state[GPU_STATE] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Undo `random_state`."""
    torch.set_rng_state(state["torch"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    numpy.random.set_state((kind, keys.numpy().astype("uint32"), position, has_gauss, cached))
    if device.type == "cuda" and GPU_STATE in state:
        torch.cuda.set_rng_state(state[GPU_STATE], device)


def _say(trainer: Trainer, reason: str) -> None:
    if trainer.is_global_zero:
        print(f"this resume is not bit-exact: {reason}", flush=True)
