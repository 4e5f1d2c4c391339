"""Two processes on the CPU give the loss curve of one process with twice the batch."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def main(processes: int, batch_size: int, accumulate: int, out: str) -> None:
    """Train the stand-in and write what was logged; run in a process of its own."""
    from standins import TinyData, tiny, trainer

    from lit_gpt.train.checkpointing import LastCheckpoint, VerifiedIO
    from lit_gpt.train.exact_resume import ExactResume
    from lit_gpt.train.loggers import CSVLog
    from lit_gpt.train.step_metrics import StepMetrics
    from lit_gpt.train.stopping import StopOnSignal, ValidateAtEnd

    folder = Path(out)
    fit = trainer(
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_steps=50,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=1.0,
        log_every_n_steps=1,
        enable_checkpointing=True,
        logger=[CSVLog(folder)],
        callbacks=[ExactResume(), StopOnSignal(), ValidateAtEnd(), StepMetrics(), LastCheckpoint(folder)],
        plugins=[VerifiedIO()],
        val_check_interval=20,
        check_val_every_n_epoch=None,
    )
    fit.fit(tiny(), datamodule=TinyData(batch_size, masked=True, rows=96))


def unequal(out: str) -> None:
    """Train on two processes, of which one has a validation batch more; a signal comes in the first validation."""
    import os
    import signal

    from lightning.pytorch import Callback
    from standins import Rows, TinyData, Turns, loader, tiny, trainer

    from lit_gpt import signals
    from lit_gpt.train.checkpointing import LastCheckpoint, VerifiedIO
    from lit_gpt.train.exact_resume import ExactResume
    from lit_gpt.train.stopping import StopOnSignal, StoppedBySignal

    class Unequal(TinyData):
        def val_dataloader(self) -> Any:
            rows = 4 + 4 * self.trainer.global_rank
            return loader(Rows(rows, self.context, 2, False), 2, Turns(rows, 0, 0, 1))

    class Signals(Callback):
        def on_validation_batch_start(self, fit: Any, module: Any, batch: Any, batch_idx: int, *_: Any) -> None:
            if fit.global_step == 4 and fit.global_rank == 1 and batch_idx == 3:  # the one that rank 0 does not have
                os.kill(os.getpid(), signal.SIGTERM)

    callbacks = [ExactResume(), Signals(), StopOnSignal(), LastCheckpoint(out)]
    fit = trainer(
        devices=2,
        strategy="ddp",
        max_steps=6,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        enable_checkpointing=True,
        callbacks=callbacks,
        plugins=[VerifiedIO()],
    )
    with signals.handled():
        try:
            fit.fit(tiny(), datamodule=Unequal(rows=96))
        except StoppedBySignal as stopped:
            if fit.is_global_zero:
                print(stopped, flush=True)


def test_ranks_with_unequal_validations_stop_together(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(HERE)!r})\nimport test_ddp\ntest_ddp.unequal({str(tmp_path)!r})\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=180, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "stopped by SIGTERM after step 4: saved" in done.stdout
    assert (tmp_path / "last-000004.ckpt").exists()


# 12 batches an epoch: the last window of five is a short one
@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_two_processes_equal_one_with_twice_the_batch(tmp_path: Path, accumulate: int) -> None:
    import csv

    curves = []
    for processes, batch_size in ((1, 8), (2, 4)):
        out = tmp_path / str(processes)
        out.mkdir()
        code = f"import test_ddp; test_ddp.main({processes}, {batch_size}, {accumulate}, {json.dumps(str(out))})"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
        script = out / "run.py"  # a file: Lightning starts the second process by running it again
        script.write_text(f"import sys\nsys.path.insert(0, {str(HERE)!r})\n{code}\n")
        done = subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, timeout=120, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        with open(out / "metrics.csv", newline="") as file:
            curves.append(list(csv.DictReader(file)))
    one, two = curves
    assert len(one) == len(two) > 50
    assert one[-1]["step"] == "50"
    for a, b in zip(one, two, strict=True):
        assert (a["step"], a["tokens"]) == (b["step"], b["tokens"])
        for name in ("train_loss", "grad_norm", "val_loss", "val_bpb", "val_accuracy"):
            assert (a[name] == "") == (b[name] == "")
            if a[name]:
                assert float(a[name]) == pytest.approx(float(b[name]), abs=1e-5), (a["step"], name)


@pytest.mark.slow
def test_nanogpt_char_on_two_processes_from_the_command_line(tmp_path: Path, text_file: Path) -> None:
    """50 steps of the config as it is shipped: 12 windows on each of two processes against 24 on one."""
    import csv

    config = HERE.parent.parent / "configs" / "nanogpt_char.yaml"
    words = [f"--config={config}", f"--data.source.paths={text_file}", "--trainer.accelerator=cpu"]
    words += ["--trainer.max_steps=50", "--trainer.log_every_n_steps=1", "--trainer.val_check_interval=25"]
    words += [f"--trainer.default_root_dir={tmp_path}"]
    ways = {
        "one": ["--data.batch_size=24"],
        "two": ["--data.batch_size=12", "--trainer.devices=2", "--trainer.strategy=ddp"],
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    curves = []
    for name, own in ways.items():
        command = [sys.executable, "-m", "lit_gpt", "fit", *words, *own, f"--name={name}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        with open(tmp_path / name / "metrics.csv", newline="") as file:
            curves.append([row for row in csv.DictReader(file) if row["train_loss"]])
    assert [row["step"] for row in curves[0]] == [row["step"] for row in curves[1]] == [str(n) for n in range(1, 51)]
    apart = max(abs(float(a["train_loss"]) - float(b["train_loss"])) for a, b in zip(*curves, strict=True))
    print(f"largest difference of the loss over 50 steps: {apart:.2e}")
    assert apart <= 1e-5
