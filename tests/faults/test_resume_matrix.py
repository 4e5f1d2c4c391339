"""Runs killed by SIGKILL at random batches and resumed: bit-exactly the run that was never stopped.

One process imports the package and forks a child for each run, so that a run costs a second and dies like a real one.
"""

import csv
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from lit_gpt import signals
from lit_gpt.cli import CLI, quiet
from lit_gpt.commands.fit import resumed, train
from lit_gpt.config.command_line import CommandLine

BATCHES = 40  # of each run, in two epochs, the first of which ends with a short window
MEASURED = ("tokens_per_second", "mfu")  # the columns of metrics.csv that tell times
# validation interval in batches: where every validation is due at the end of a window, and where most are due inside
INTERVALS = {1: {"boundary": 6, "inside": 7}, 4: {"boundary": 8, "inside": 6}, 5: {"boundary": 10, "inside": 7}}


class KillAt(Callback):
    """Kills the process when it begins with a batch of the run, counted from 0 over all epochs."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.batch:
            os.kill(os.getpid(), signal.SIGKILL)


def forked(work: Callable[[], Any], log: Path) -> int:
    """Runs `work` in a forked child; returns 0, or the negated signal that killed it. Its output goes to a file."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with open(log, "a") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                sys.stdout = sys.stderr = file
                try:
                    work()
                    code = 0
                except BaseException:
                    traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fit(words: list[str], kill: int | None = None) -> None:
    torch.set_num_threads(1)
    quiet()
    with signals.handled():  # as the command does
        command_line = CommandLine(words)
        cli = CLI("fit", command_line, *resumed(command_line))
        if kill is not None:
            cli.trainer.callbacks.append(KillAt(kill))
        train(cli)


def words(folder: Path, accumulate: int, interval: int, workers: int) -> list[str]:
    text = folder / "text.txt"
    if not text.exists():
        draw = random.Random(1)
        text.write_text("".join(draw.choice("abcdefgh ") for _ in range(480)))
    values = {
        "name": "run",
        "data.source": "TextFiles",
        "data.source.paths": text,
        "data.tokenizer": "Byte",
        "data.context": 8,
        "data.batch_size": 2,
        "data.val_fraction": 0.2,
        "data.num_workers": workers,
        "data.folder": folder / "ids",
        "model.net.width": 8,
        "model.net.depth": 1,
        "model.net.heads": 2,
        "model.net.context": 8,
        "model.net.dropout": 0.1,
        "last.every_n_train_steps": 2,
        "sample.max_new_tokens": 2,
        "trainer.accelerator": "cpu",
        "trainer.accumulate_grad_batches": accumulate,
        "trainer.max_steps": BATCHES // accumulate,
        "trainer.val_check_interval": interval,
        "trainer.log_every_n_steps": 3,
        "trainer.enable_progress_bar": "false",
    }
    return [f"--{key}={value}" for key, value in values.items()]


def rows(run: Path) -> list[dict[str, str]]:
    with open(run / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in MEASURED} for row in csv.DictReader(file)]


def state(run: Path) -> dict[str, Any]:
    """All that a run ended with, but for clocks."""
    values = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    values["accumulators"].pop("seconds")
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "accumulators", "tokens", "global_step", "TokenData")
    return {key: values[key] for key in kept} | {"random": values["callbacks"]["ExactResume"]}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def check(tmp_path: Path, accumulate: int, where: str, workers: int, kills: int) -> None:
    told = words(tmp_path, accumulate, INTERVALS[accumulate][where], workers)
    root, log = "--trainer.default_root_dir=", tmp_path / "log.txt"
    assert forked(lambda: fit([*told, f"{root}{tmp_path / 'whole'}"]), log) == 0, log.read_text()
    whole = tmp_path / "whole" / "run"
    draw = random.Random(f"{accumulate} {where} {workers}")
    for batch in draw.sample(range(2 * accumulate + 1, BATCHES - 1), kills):
        parts = f"{root}{tmp_path / str(batch)}"
        assert forked(lambda p=parts, b=batch: fit([*told, p], b), log) == -signal.SIGKILL, log.read_text()  # type: ignore[misc]
        assert forked(lambda p=parts: fit([*told, p, "--resume"]), log) == 0, log.read_text()  # type: ignore[misc]
        resumed_run = tmp_path / str(batch) / "run"
        assert rows(resumed_run) == rows(whole), f"killed at batch {batch}"
        ours, theirs = state(resumed_run), state(whole)
        assert [key for key in theirs if not same(ours[key], theirs[key])] == [], f"killed at batch {batch}"
        assert len(list((resumed_run / "checkpoints").glob("last-*.ckpt"))) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_inside_a_window_resumes_exactly(tmp_path: Path) -> None:
    check(tmp_path, 4, "inside", 0, kills=1)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("where", ["boundary", "inside"])
@pytest.mark.parametrize("accumulate", [1, 4, 5])
def test_killed_runs_resume_exactly(tmp_path: Path, accumulate: int, where: str, workers: int) -> None:
    check(tmp_path, accumulate, where, workers, kills=3)
