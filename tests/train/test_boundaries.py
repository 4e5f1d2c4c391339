"""Saving, validating and stopping at optimizer-step boundaries, whatever asks for them and whenever it does."""

import signal
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from standins import TinyData, tiny, trainer

from lit_gpt.train.checkpointing import VerifiedIO
from lit_gpt.train.exact_resume import ExactResume
from lit_gpt.train.loggers import CSVLog
from lit_gpt.train.step_metrics import StepMetrics
from lit_gpt.train.stopping import ValidateAtEnd

pytestmark = pytest.mark.filterwarnings("ignore:.*(dataloader is not resumable|callbacks used to create)")

slow = partial(pytest.param, marks=pytest.mark.slow)

BATCHES = 22  # of an epoch: with windows of 4, its last one has two
STEPS = 11  # in two epochs


class Died(Exception):
    pass


class SaveIn(Callback):
    """Saves in one hook, at a batch of the run, and ends the run."""

    def __init__(self, path: Path, hook: str, batch: int) -> None:
        self.path, self.batch, self.done = path, batch, False
        setattr(self, hook, self.save)

    def save(self, fit: Any, *_: Any, **__: Any) -> None:
        if fit.fit_loop.epoch_loop.total_batch_idx == self.batch and not self.done:
            self.done = True
            fit.save_checkpoint(self.path)
            raise Died


class DieAt(Callback):
    """Ends the run in the backward pass of a batch."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_before_backward(self, fit: Any, *_: Any) -> None:
        if fit.fit_loop.epoch_loop.total_batch_idx == self.batch:
            raise Died


def run(folder: Path, *callbacks: Callback, resume: Path | None = None, **options: Any) -> dict[str, Any]:
    """What a run ended with: weights, optimizer, rows of metrics.csv, steps that were validated."""
    settings = {"accumulate_grad_batches": 4, "val_check_interval": 6, "check_val_every_n_epoch": None}
    fit = trainer(
        **{"max_steps": STEPS, "log_every_n_steps": 3, **settings, **options},
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        callbacks=[ExactResume(), ValidateAtEnd(), StepMetrics(), *callbacks],
        plugins=[VerifiedIO()],
        logger=[CSVLog(folder)],
    )
    torch.manual_seed(7 if resume else 0)
    model = tiny(dropout=0.2)
    try:
        fit.fit(model, datamodule=TinyData(rows=4 * BATCHES), ckpt_path=resume, weights_only=True)
    except Died:
        pass
    return outcome(fit, model, folder)


def outcome(fit: Any, model: Any, folder: Path) -> dict[str, Any]:
    state = {f"net.{name}": tensor for name, tensor in model.net.state_dict().items()}
    for number, moments in enumerate(fit.optimizers[0].state.values()):
        state |= {f"{number}.{name}": tensor.clone() for name, tensor in moments.items()}
    file = folder / "metrics.csv"
    lines = file.read_text().splitlines() if file.exists() else []
    rows = [line.rsplit(",", 2)[0] for line in lines]  # without tokens_per_second and mfu
    return {"state": state, "rows": rows, "stepped": fit.fit_loop.epoch_loop._batches_that_stepped}


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a["rows"] == b["rows"]
    assert a["state"].keys() == b["state"].keys()
    assert [name for name, tensor in a["state"].items() if not torch.equal(tensor, b["state"][name])] == []
    assert a["stepped"] == b["stepped"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(tmp_path_factory.mktemp("whole"))


# A window inside of the first epoch, the short one at its end, the first one of the second epoch; a few of all pairs
# by default.
IN_WINDOW = [("on_train_batch_start", 9), ("on_before_backward", 20), ("on_train_batch_end", 24)]
HOOKS = ("on_train_batch_start", "on_before_backward", "on_after_backward", "on_train_batch_end")
REST = [slow(hook, batch) for hook in HOOKS for batch in (9, 10, 20, 24) if (hook, batch) not in IN_WINDOW]


@pytest.mark.parametrize(("hook", "batch"), [*IN_WINDOW, *REST])
def test_a_save_inside_a_window_resumes_exactly(whole: Any, tmp_path: Path, hook: str, batch: int) -> None:
    run(tmp_path, SaveIn(tmp_path / "a.ckpt", hook, batch))
    assert_same(run(tmp_path, resume=tmp_path / "a.ckpt"), whole)


# A boundary with a validation; the end of an epoch; another one with a validation.
AROUND = [("on_train_batch_end", 7), ("on_validation_batch_end", 29)]
VALIDATION_HOOKS = ("on_train_batch_end", "on_validation_start", "on_validation_batch_end", "on_validation_end")
OTHERS = [slow(hook, batch) for hook in VALIDATION_HOOKS for batch in (7, 21, 29) if (hook, batch) not in AROUND]


@pytest.mark.parametrize(("hook", "batch"), [*AROUND, *OTHERS])
def test_a_save_around_a_validation_resumes_exactly(whole: Any, tmp_path: Path, hook: str, batch: int) -> None:
    validates = run(tmp_path, SaveIn(tmp_path / "a.ckpt", hook, batch))
    if not (tmp_path / "a.ckpt").exists():
        assert hook.startswith("on_validation") and validates["rows"] == whole["rows"]
        return
    assert_same(run(tmp_path, resume=tmp_path / "a.ckpt"), whole)


TRIGGERS = [
    {"train_time_interval": timedelta(0)},
    {"every_n_train_steps": 1},
    {"save_on_exception": True},
    {"monitor": "val_loss"},
    {"every_n_train_steps": 3, "monitor": "val_loss"},
]


@pytest.mark.parametrize(
    ("options", "die"),
    [(TRIGGERS[0], 17), (TRIGGERS[2], 23), *(slow(options, die) for options in TRIGGERS for die in (18, 21))],
    ids=str,
)
def test_lightnings_own_checkpoints_resume_exactly(whole: Any, tmp_path: Path, options: Any, die: int) -> None:
    saves = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1 if options.get("monitor") else 1, **options)
    run(tmp_path, saves, DieAt(die))
    newest = max(tmp_path.glob("step*.ckpt"), key=lambda path: int(path.stem.partition("=")[2].partition("-")[0]))
    assert_same(run(tmp_path, resume=newest), whole)


class Validated(Callback):
    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_validation_end(self, fit: Any, module: Any) -> None:
        self.steps.append(fit.global_step)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"accumulate_grad_batches": 1, "max_steps": 30}, [6, 12, 18, 24, 30]),
        # after batches 8, 12, 20 of the first epoch of 22; 2, 8, 14, 20 of the second
        ({}, [2, 3, 5, 7, 8, 10, 11]),
        ({"val_check_interval": 3, "max_steps": 6}, [1, 2, 3, 4, 5, 6]),
        ({"val_check_interval": 6, "check_val_every_n_epoch": 1}, [2, 3, 5, 8, 9, 11]),
        ({"val_check_interval": 0.5, "check_val_every_n_epoch": 1}, [3, 6, 9, 11]),
    ],
)
def test_validation_waits_for_the_end_of_its_window(tmp_path: Path, options: Any, steps: list[int]) -> None:
    validated = Validated()
    run(tmp_path, validated, **options)
    assert validated.steps == steps


def test_an_early_stop_waits_for_the_end_of_its_window(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_train_batch_end(self, fit: Any, *_: Any) -> None:
            fit.should_stop = fit.fit_loop.epoch_loop.total_batch_idx >= 9

    validated = Validated()
    run(tmp_path, Stop(), validated)
    assert validated.steps == [2, 3]


@pytest.mark.parametrize(
    ("error", "batch"),
    [
        *((Died, 9), (KeyboardInterrupt, 20)),
        *(slow(error, batch) for error in (Died, KeyboardInterrupt) for batch in (7, 10, 21, 23)),
    ],
)
def test_a_second_fit_continues_the_first(whole: Any, tmp_path: Path, error: Any, batch: int, capsys: Any) -> None:
    class Once(Callback):
        raised = False

        def on_train_batch_end(self, fit: Any, *_: Any) -> None:
            if fit.fit_loop.epoch_loop.total_batch_idx == batch and not self.raised:
                self.raised = True
                raise error

    settings = {"accumulate_grad_batches": 4, "val_check_interval": 6, "check_val_every_n_epoch": None}
    callbacks = [ExactResume(), ValidateAtEnd(), StepMetrics(), Once()]
    fit = trainer(max_steps=STEPS, log_every_n_steps=3, callbacks=callbacks, logger=[CSVLog(tmp_path)], **settings)
    torch.manual_seed(0)
    model, data = tiny(dropout=0.2), TinyData(rows=4 * BATCHES)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises((Died, SystemExit)):
            fit.fit(model, datamodule=data)
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning leaves it ignored
    torch.manual_seed(5)
    capsys.readouterr()
    fit.fit(model, datamodule=data)
    assert "fit continues after step" in capsys.readouterr().out
    assert_same(outcome(fit, model, tmp_path), whole)


def test_a_second_fit_of_another_module_begins_anew(tmp_path: Path) -> None:
    fit = trainer(max_steps=3, callbacks=[ExactResume(), StepMetrics()])
    fit.fit(tiny(), datamodule=TinyData())
    fit.fit_loop.epoch_loop.max_steps = 5
    other = tiny()
    fit.fit(other, datamodule=TinyData())
    assert other.accumulators is not None
    assert other.accumulators.total_tokens() == 2 * 4 * 16
