"""A run that was ended and resumed is, bit by bit, the run that was not."""

import random
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from lightning.pytorch import Callback
from standins import TinyData, tiny, trainer

from lit_gpt.train.checkpointing import LastCheckpoint, VerifiedIO
from lit_gpt.train.exact_resume import ExactResume
from lit_gpt.train.rng_state import random_state, restore_random_state
from lit_gpt.train.step_metrics import StepMetrics
from lit_gpt.train.stopping import ValidateAtEnd

pytestmark = pytest.mark.filterwarnings("ignore:.*dataloader is not resumable")  # the stand-in resumes by itself


class Losses(Callback):
    """Every micro-batch's loss, to the last bit."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, fit: Any, module: Any, outputs: Any, *_: Any) -> None:
        self.seen.append(float(outputs["loss"]))


class Killed(Exception):
    pass


class KillAt(Callback):
    """Ends the process, as far as Lightning can see, after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, fit: Any, *_: Any) -> None:
        if fit.global_step == self.step:
            raise Killed


def run(
    folder: Path, steps: int, resume: bool = False, kill: int | None = None, every: int | None = 5, **options: Any
) -> tuple[dict[str, torch.Tensor], list[float], StepMetrics]:
    losses, meter = Losses(), StepMetrics()
    callbacks = [ExactResume(), ValidateAtEnd(), meter, losses, LastCheckpoint(folder, every_n_train_steps=every)]
    settings = {"val_check_interval": 7, "check_val_every_n_epoch": None, "accumulate_grad_batches": 1}
    fit = trainer(
        max_steps=steps,
        enable_checkpointing=True,
        callbacks=[*callbacks, *([KillAt(kill)] if kill else [])],
        plugins=[VerifiedIO()],
        **(settings | options),
    )
    torch.manual_seed(99 if resume else 0)
    model = tiny(dropout=0.2)
    try:
        path = str(folder / "last.ckpt") if resume else None
        fit.fit(model, datamodule=TinyData(rows=40), ckpt_path=path, weights_only=True)
    except Killed:
        pass
    state = {f"net.{k}": v for k, v in model.net.state_dict().items()}
    for i, moments in enumerate(fit.optimizers[0].state.values()):
        state |= {f"{i}.{k}": v.clone() for k, v in moments.items()}
    return state, losses.seen, meter


@pytest.mark.parametrize(
    ("accumulate", "precision"), [(1, "32-true"), (3, "32-true"), (1, "64-true"), (1, "bf16-true")]
)
def test_killed_and_resumed_equals_never_stopped(tmp_path: Path, accumulate: int, precision: str) -> None:
    options = {"accumulate_grad_batches": accumulate, "precision": precision}
    whole, losses, meter = run(tmp_path / "whole", 20, **options)
    run(tmp_path / "parts", 20, kill=13, **options)  # last saved at step 10
    resumed, tail, again = run(tmp_path / "parts", 20, resume=True, **options)
    assert tail == losses[-len(tail) :]
    assert 0 < len(tail) < len(losses)
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    for name in ("tokens", "train_loss", "val_loss"):
        assert again.latest[name] == meter.latest[name]


def test_saved_at_a_validation_and_resumed_equals_never_stopped(tmp_path: Path) -> None:
    whole, losses, _ = run(tmp_path / "whole", 20, every=None)
    run(tmp_path / "parts", 20, kill=17, every=None)  # saved at the validation of step 14
    resumed, tail, _ = run(tmp_path / "parts", 20, resume=True, every=None)
    assert tail == losses[-6:]
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


def test_a_finished_run_goes_on_when_more_steps_are_asked_for(tmp_path: Path) -> None:
    run(tmp_path, 8)
    _, tail, meter = run(tmp_path, 12, resume=True)
    assert len(tail) == 4
    assert meter.latest["tokens"] == 12 * 4 * 16


def test_settings_come_from_the_user_and_not_from_the_checkpoint(tmp_path: Path) -> None:
    first = trainer(max_steps=2)
    first.fit(tiny(), datamodule=TinyData())
    first.save_checkpoint(tmp_path / "a.ckpt")
    second = trainer(max_steps=4)
    model = tiny(
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=5e-2, betas=(0.5, 0.6)),
        schedule=lambda optimizer, steps: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
    )
    second.fit(model, datamodule=TinyData(), ckpt_path=str(tmp_path / "a.ckpt"), weights_only=True)
    assert second.optimizers[0].param_groups[0]["betas"] == (0.5, 0.6)


def test_validating_a_checkpoint_is_no_resume(tmp_path: Path) -> None:
    run(tmp_path, 8)
    model, meter, data = tiny(), StepMetrics(), TinyData()
    fit = trainer(max_steps=2, callbacks=[ExactResume(), meter])
    fit.validate(model, datamodule=data, ckpt_path=str(tmp_path / "last.ckpt"), weights_only=True, verbose=False)
    torch.manual_seed(5)
    fit.fit(model, datamodule=data)
    assert meter.latest["tokens"] == 2 * 4 * 16
    assert torch.initial_seed() == 5


def test_all_random_states_come_back() -> None:
    def draws() -> list[float]:
        return [random.random(), numpy.random.rand(), float(torch.rand(())), random.gauss(0, 1)]

    numpy.random.randn()  # leaves a second normal number cached
    state = random_state(torch.device("cpu"))
    first = draws()
    draws()
    restore_random_state(state, torch.device("cpu"))
    assert draws() == first
