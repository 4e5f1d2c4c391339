"""Processes that read ahead: one that is killed, or meets damage, ends training in one line and soon."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_gpt.__main__ import is_mistake, one_line
from lit_gpt.data import Byte, TextFiles
from lit_gpt.data.corpus.prepare import prepare
from lit_gpt.data.corpus.recipe import Fractions, Recipe
from lit_gpt.data.samplers.loading import BatchLoader, SampledSequences, load
from lit_gpt.data.samplers.samplers import RankBatches, Sequential
from lit_gpt.data.sequences.datasets import Windows
from lit_gpt.errors import UserError


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader waits less long for processes that do not end."""
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.5)


@pytest.fixture
def rows(tmp_path: Path) -> Windows:
    (tmp_path / "a.txt").write_text("some text to be read ahead " * 4000)
    corpora = prepare(Recipe(TextFiles(str(tmp_path / "a.txt")), Byte(), Fractions(0.1, 0.0)), tmp_path / "c").corpora
    return Windows(corpora["train"], 8)


def loader(rows: Windows, workers: int = 2) -> BatchLoader:
    return load(SampledSequences(rows, Sequential()), RankBatches(len(rows), 4), workers)


def test_workers_give_what_the_process_itself_gives(rows: Windows) -> None:
    own, ahead = iter(loader(rows, 0)), iter(loader(rows))
    for _ in range(5):
        assert torch.equal(next(own).inputs, next(ahead).inputs)


@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_worker_is_told_in_one_line(rows: Windows, number: int) -> None:
    batches = iter(loader(rows))
    next(batches)
    worker = batches._inner._workers[number]  # type: ignore[attr-defined]
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises((UserError, RuntimeError)) as caught:  # a RuntimeError where torch's own handler is the first
        for _ in batches:
            time.sleep(0.001)
    said = one_line(caught.value)
    assert is_mistake(caught.value) and f"process {worker.pid}, one of data.num_workers that read ahead, was" in said
    assert "\n" not in said and "lower data.num_workers" in said and "--resume" in said


def test_damage_that_a_worker_meets_is_told_without_a_traceback(rows: Windows, tmp_path: Path) -> None:
    file = tmp_path / "c" / "train" / "ids.bin"
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="ids.bin is damaged between byte 0") as caught:
        list(loader(rows))
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)


def test_both_words_of_torch_for_a_lost_worker_are_known() -> None:
    for said in ("(pid 12) is killed by signal: Killed. ", "(pid(s) 12, 13) exited unexpectedly"):
        error = RuntimeError(f"DataLoader worker {said}")
        assert is_mistake(error) and one_line(error).startswith("process 12, one of data.num_workers")
    assert not is_mistake(RuntimeError("something else"))


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_training_ends_soon_after_a_worker_is_killed(tmp_path: Path, text_file: Path, number: int) -> None:
    net = ["--model.net.width=16", "--model.net.depth=1", "--model.net.heads=2", "--model.net.context=8"]
    words = ["fit", f"--data.source.paths={text_file}", "--data.tokenizer=Byte", "--data.num_workers=2", *net]
    words += ["--trainer.max_steps=1000000", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    code = "import sys; from lit_gpt.__main__ import main; sys.exit(main(sys.argv[1:]))"
    options: dict[str, Any] = {"cwd": tmp_path, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, *words], **options) as run:
        try:
            metrics = tmp_path / "runs" / "run" / "metrics.csv"
            until = time.monotonic() + 240
            while len(found := children(run.pid)) < 2 or not metrics.exists():
                assert run.poll() is None and time.monotonic() < until
                time.sleep(0.2)
            os.kill(found[number], signal.SIGKILL)
            _, error = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 2 and "Traceback" not in error
    assert [line for line in error.splitlines() if "one of data.num_workers that read ahead" in line] == [
        error.splitlines()[-1]
    ]
