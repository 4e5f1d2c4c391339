"""Runs that end early: signals and numbers that are not finite."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from standins import TinyData, tiny, trainer
from torch import Tensor

from lit_gpt import signals
from lit_gpt.checkpoint import manifest
from lit_gpt.train.checkpointing import BestCheckpoint, LastCheckpoint, VerifiedIO
from lit_gpt.train.objectives import NextToken
from lit_gpt.train.step_metrics import StepMetrics
from lit_gpt.train.stopping import NonFiniteStop, StopOnSignal, StoppedBySignal, ValidateAtEnd


class SignalAt(Callback):
    def __init__(self, batch: int, signum: int) -> None:
        self.batch, self.signum = batch, signum

    def on_train_batch_start(self, fit: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.batch:
            os.kill(os.getpid(), self.signum)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_the_step_boundary_with_a_checkpoint(tmp_path: Path, signum: int, code: int) -> None:
    before = signal.getsignal(signum)
    callbacks = [SignalAt(4, signum), StopOnSignal(), LastCheckpoint(tmp_path)]
    fit = trainer(
        max_steps=10,
        accumulate_grad_batches=3,
        limit_val_batches=0,
        enable_checkpointing=True,
        callbacks=callbacks,
        plugins=[VerifiedIO()],
    )
    with pytest.raises(StoppedBySignal, match=r"after step 2: saved .*last-000002.ckpt") as stopped:
        fit.fit(tiny(), datamodule=TinyData())
    assert stopped.value.exit_code == code
    assert "\n" not in str(stopped.value)
    assert manifest.verify(tmp_path / "last.ckpt")["step"] == 2
    assert signal.getsignal(signum) is before


def test_handlers_are_put_back_when_a_run_ends_well() -> None:
    before = [signal.getsignal(signum) for signum in signals.SIGNALS]
    trainer(max_steps=2, callbacks=[StopOnSignal()]).fit(tiny(), datamodule=TinyData())
    assert [signal.getsignal(signum) for signum in signals.SIGNALS] == before


class Breaks(NextToken):
    """The loss of one micro-batch is not a number."""

    at = 7
    calls = 0

    def forward(self, net: Any, batch: Any) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
        (total, count), parts = super().forward(net, batch)
        type(self).calls += 1
        return (total * (float("nan") if type(self).calls == self.at else 1.0), count), parts


@pytest.mark.parametrize("adam", [torch.optim.AdamW, torch.optim.SGD])
def test_a_loss_that_is_not_finite_ends_the_run_and_spoils_nothing(tmp_path: Path, adam: Any) -> None:
    Breaks.calls = 0
    kept: list[Tensor] = []

    class Keep(Callback):
        def on_train_batch_end(self, fit: Any, module: Any, *_: Any) -> None:
            kept.append(torch.cat([p.detach().flatten() for p in module.net.parameters()]))

    callbacks = [Keep(), StepMetrics(), BestCheckpoint(tmp_path), LastCheckpoint(tmp_path, every_n_train_steps=6)]
    fit = trainer(
        max_steps=20,
        limit_val_batches=0,
        log_every_n_steps=100,
        enable_checkpointing=True,
        callbacks=callbacks,
        plugins=[VerifiedIO()],
    )
    model = tiny(objective=Breaks, optimizer=lambda groups: adam(groups, lr=1e-3))
    with pytest.raises(NonFiniteStop, match="stopped at step 7") as stopped:
        fit.fit(model, datamodule=TinyData())
    assert stopped.value.exit_code == 3
    assert torch.equal(kept[6], kept[5])
    assert torch.isfinite(kept[6]).all()
    assert sorted(p.name for p in tmp_path.glob("*.ckpt")) == ["last-000006.ckpt", "last.ckpt"]


def test_nothing_is_saved_over_a_step_that_was_not_finite(tmp_path: Path) -> None:
    Breaks.calls = 0
    fit = trainer(max_steps=7, limit_val_batches=0)  # no StepMetrics: nobody has looked yet
    model = tiny(objective=Breaks)
    fit.fit(model, datamodule=TinyData())
    last = LastCheckpoint(tmp_path)
    with pytest.raises(NonFiniteStop, match="nothing was saved"):
        last.save(fit)
    assert list(tmp_path.glob("*.ckpt")) == []


@pytest.mark.parametrize("options", [{"max_steps": 5}, {"max_steps": -1, "max_epochs": 1}])
def test_the_last_step_is_always_validated(options: dict[str, int]) -> None:
    validated: list[int] = []

    class Note(Callback):
        def on_validation_end(self, fit: Any, module: Any) -> None:
            validated.append(fit.global_step)

    fit = trainer(val_check_interval=3, check_val_every_n_epoch=None, callbacks=[ValidateAtEnd(), Note()], **options)
    fit.fit(tiny(), datamodule=TinyData(rows=20))
    assert fit.global_step == 5
    assert validated == [3, 5]
