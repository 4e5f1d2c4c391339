"""Loss spikes and losses that are not finite are reported once, with a remedy."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from standins import TinyData, tiny, trainer

from lit_gpt.__main__ import main
from lit_gpt.train import run_folder
from lit_gpt.train.loss_watch import LossWatch
from lit_gpt.train.objectives import NextToken
from lit_gpt.train.step_metrics import StepMetrics


def fit(folder: Path, factors: dict[int, float], every: int = 1, **options: Any) -> None:
    """Trains with losses that are multiplied at some steps."""

    class Scaled(NextToken):
        steps = 0

        def forward(self, net: Any, batch: Any) -> Any:
            self.steps += 1
            (total, count), parts = super().forward(net, batch)
            factor = factors.get(self.steps, 1.0)
            return (total.detach() * factor + 0 * total, count), parts

    made = trainer(max_steps=12, log_every_n_steps=every, callbacks=[StepMetrics(), LossWatch(folder)], **options)
    made.fit(tiny(objective=Scaled), datamodule=TinyData())


@pytest.mark.parametrize("every", [1, 4])
def test_a_loss_that_jumps_a_thousandfold_is_said_once(every: int, tmp_path: Path, capsys: Any) -> None:
    fit(tmp_path, {6: 1100.0, 7: 1200.0}, every)
    [said] = [line for line in capsys.readouterr().out.splitlines() if "jumped" in line]
    assert f"in step{' 6' if every == 1 else 's 5 to 8'}: " in said
    assert "--skip_batches" in said and "lower learning rate" in said


def test_a_spike_after_a_resume_is_measured_from_before(tmp_path: Path, capsys: Any) -> None:
    class Spike(NextToken):
        def forward(self, net: Any, batch: Any) -> Any:
            (total, count), parts = super().forward(net, batch)
            return (total * 5000.0, count), parts

    first, second = LossWatch(tmp_path), LossWatch(tmp_path)
    one = trainer(max_steps=3, log_every_n_steps=1, callbacks=[StepMetrics(), first])
    one.fit(tiny(), datamodule=TinyData())
    one.save_checkpoint(tmp_path / "a.ckpt")
    two = trainer(max_steps=4, log_every_n_steps=1, callbacks=[StepMetrics(), second])
    two.fit(tiny(objective=Spike), datamodule=TinyData(), ckpt_path=tmp_path / "a.ckpt")
    assert math.isfinite(first.state_dict()["lowest"])
    assert "jumped" in capsys.readouterr().out


def test_a_reading_equal_to_the_last_counts_as_new(tmp_path: Path) -> None:
    watch, meter = LossWatch(tmp_path), StepMetrics()
    made = trainer(max_steps=3, log_every_n_steps=1, callbacks=[meter, watch])
    made.fit(tiny(objective=lambda sizes: Constant(sizes)), datamodule=TinyData())
    assert meter.reads == watch._reads == 3 and watch._step == 3


class Constant(NextToken):
    def forward(self, net: Any, batch: Any) -> Any:
        (total, count), parts = super().forward(net, batch)
        return (0 * total + 2.0 * count, count), parts


@pytest.mark.parametrize("factor", [1.0, 50.0, 900.0])
def test_smaller_jumps_are_not_said(factor: float, tmp_path: Path, capsys: Any) -> None:
    fit(tmp_path, {6: factor})
    assert "jumped" not in capsys.readouterr().out


def test_nan_in_validation_alone_is_said(tmp_path: Path, capsys: Any) -> None:
    class Overflows(NextToken):
        def evaluate(self, net: Any, batch: Any) -> Any:
            scores = super().evaluate(net, batch)
            return scores._replace(nats=scores.nats * math.nan)

    made = trainer(
        max_steps=6, val_check_interval=2, check_val_every_n_epoch=None, callbacks=[StepMetrics(), LossWatch(tmp_path)]
    )
    made.fit(tiny(objective=Overflows), datamodule=TinyData())
    [said] = [line for line in capsys.readouterr().out.splitlines() if "val_loss" in line]
    assert "val_loss is nan at step 2, while training is finite" in said


POISON = """
import torch
from lit_gpt.train.objectives import NextToken

class Poisoned(NextToken):
    def forward(self, net, batch):
        (total, count), parts = super().forward(net, batch)
        return (total * (torch.nan if (batch.inputs == ord("~")).any() else 1.0), count), parts
"""


def test_a_nan_that_comes_back_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LIT_GPT_TRUST", "poison_for_a_test")
    Path("poison_for_a_test.py").write_text(POISON)
    Path("text.txt").write_text("a cat sat on a mat " * 20 + "~" + "and saw the moon rise " * 20)
    words = ["fit", "--name=one", "--model.net.width=16", "--model.net.depth=1", "--model.net.heads=2"]
    words += ["--model.net.context=8", "--data.tokenizer=Byte", "--data.batch_size=4", "--data.source.paths=text.txt"]
    words += ["--model.objective=poison_for_a_test.Poisoned", "--trainer.max_steps=22", "--last.every_n_train_steps=1"]
    words += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--sample.max_new_tokens=2"]
    assert main(words) == 3
    assert "skip_batches" not in capsys.readouterr().err
    [step] = run_folder.read_facts(Path("runs/one"))["not_finite"]
    assert main(["fit", "--name=one", "--resume"]) == 3
    said = capsys.readouterr().err
    assert "not finite at this step in an earlier attempt" in said and "lower --model.optimizer.lr" in said
    found = re.search(r"--skip_batches '(\[\[\d+, \d+\]\])'", said)
    assert found and found[1] == f"[[{step}, {step}]]"
    # What it names is the way out, and leaves out no other batch.
    assert main(["fit", "--name=one", "--resume", f"--skip_batches={found[1]}"]) == 0
    assert "step 22 " in capsys.readouterr().out
    assert torch.isfinite(torch.tensor(float(run_folder.last_metrics(Path("runs/one"))["train_loss"])))
