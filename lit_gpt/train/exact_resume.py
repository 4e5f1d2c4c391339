"""Bit-exact resume: a callback that saves and restores the random states of every rank at optimizer steps.

The data module saves its own position, Lightning saves the weights, the optimizer and the step counts.
"""

import copy
import weakref
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lit_gpt.train.accumulators import Accumulators
from lit_gpt.train.boundaries import StepLoop, Window, at_last_step, install
from lit_gpt.train.lean_callback import LeanCallback
from lit_gpt.train.rng_state import plain_states, random_state, raw_states, restore_random_state


class ExactResume(LeanCallback):
    """Saves the random states of every rank and restores them when training starts; saves at optimizer steps alone.

    A second `trainer.fit` of the same module, after the first was interrupted or has ended, continues it: optimizer,
    schedule, token count and random states are those that it left.
    """

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._restored: dict[str, Any] | None = None
        self._window: Window | None = None
        self._fitted: weakref.ref[LightningModule] | None = None  # the module of the last fit
        self._left: dict[str, Any] = {}  # the random states that the last fit left
        self._previous: dict[str, Any] | None = None  # all other state of the last fit
        self._before_validation: dict[str, Any] | None = None  # the random states

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer
        self._restored = None  # validating a checkpoint must not resume training from it
        self._previous = None
        if stage != "fit":
            return
        install(trainer, self.open_window)
        if self._fitted is not None and self._fitted() is pl_module and trainer.optimizers:
            self._previous = self._state_of_last_fit(trainer, pl_module)  # now: setting up makes a new optimizer
        self._fitted, self._window = weakref.ref(pl_module), None

    def _state_of_last_fit(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        with at_last_step(trainer, self.open_window()):
            loops = copy.deepcopy(trainer.fit_loop.state_dict())
        precision, accumulators = trainer.precision_plugin, pl_module.accumulators
        state = {
            "loops": {"fit_loop": loops},
            "optimizer_states": [trainer.strategy.optimizer_state(optimizer) for optimizer in trainer.optimizers],
            "lr_schedulers": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
            "accumulators": accumulators.state() if isinstance(accumulators, Accumulators) else None,
        }
        if scaling := precision.state_dict():
            state[type(precision).__qualname__] = scaling
        return state

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        previous, self._previous = self._previous, None
        if previous is None or trainer.ckpt_path is not None:
            return
        # Lightning restores from it what setting up has made anew. Weights, data and callbacks are still there.
        trainer._checkpoint_connector._loaded_checkpoint = previous
        pl_module.continue_from(previous["accumulators"])  # type: ignore[operator]
        self._restored = self._left or None
        if trainer.is_global_zero:
            print(f"fit continues after step {trainer.global_step}; build() again for a new run", flush=True)

    def open_window(self) -> Window | None:
        """Where the optimizer step that is being worked on began; None between two steps."""
        trainer, window = self._trainer, self._window
        if trainer is None or window is None:
            return None
        loop = trainer.fit_loop.epoch_loop
        if isinstance(loop, StepLoop) and loop.rewound_to is not None:
            return loop.rewound_to
        worked_on = loop.batch_progress.total.ready > window.total
        return window if worked_on and trainer.global_step == window.step else None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        accumulate = trainer.accumulate_grad_batches
        if batch_idx % accumulate:
            return
        progress = trainer.fit_loop.epoch_loop.batch_progress
        device = trainer.strategy.root_device
        # NumPy's and Python's states take 0.1 ms. A step of one batch is never saved in its middle, save by an error.
        state = raw_states(device) if accumulate > 1 else {"torch": torch.get_rng_state()}
        self._window = Window(trainer.global_step, progress.total.completed, progress.current.completed, state)

    def state_dict(self) -> dict[str, Any]:
        # Called on all ranks.
        trainer = self._trainer
        if trainer is None or trainer.state.fn != "fit":
            return {}
        own = self._random_state(trainer.strategy.root_device)
        loop = trainer.fit_loop.epoch_loop
        if self._before_validation is not None and isinstance(loop, StepLoop) and loop.owes_validation():
            own = self._before_validation  # a resumed run begins with this validation
        states = [own]
        if trainer.world_size > 1:
            states = [{} for _ in range(trainer.world_size)]
            torch.distributed.all_gather_object(states, own)
        return {"ranks": states, "threads": torch.get_num_threads()}

    def _random_state(self, device: torch.device) -> dict[str, Any]:
        window = self.open_window()
        return plain_states({**raw_states(device), **(window.random if window is not None else {})})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = state_dict or None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit":
            self._before_validation = random_state(trainer.strategy.root_device)

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

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loop = trainer.fit_loop.epoch_loop
        if trainer.state.fn == "fit" and not trainer.sanity_checking and isinstance(loop, StepLoop):
            loop.validated_at = loop.batch_progress.total.ready
        self._before_validation = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._leave(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._leave(trainer)

    def _leave(self, trainer: Trainer) -> None:
        own = self._random_state(trainer.strategy.root_device)
        everyone: list[dict[str, Any]] = [{} for _ in range(trainer.world_size)]
        everyone[trainer.global_rank] = own  # the others' are with the others
        self._left = {"ranks": everyone, "threads": torch.get_num_threads()}


def _say(trainer: Trainer, reason: str) -> None:
    if trainer.is_global_zero:
        print(f"this resume is not bit-exact: {reason}", flush=True)
