"""Ctrl-C reaches every process of a terminal, and one of them answers: workers, encoders and ranks leave it to it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lit_gpt.checkpoint import manifest

ROOT = Path(__file__).parents[2]
NET = """--data.tokenizer Byte --data.context 8 --data.batch_size 4 --model.net.width 16 --model.net.depth 1
    --model.net.heads 2 --trainer.max_steps 1000000 --trainer.val_check_interval 10 --trainer.limit_val_batches 1
    --trainer.accelerator cpu --trainer.enable_progress_bar false --sample.max_new_tokens 2""".split()


def started(words: list[str], folder: Path) -> subprocess.Popen:
    """A command in a process group of its own, as a shell starts it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")}
    environment |= {"PYTHONPATH": str(ROOT), "LIT_GPT_CACHE": str(folder / "cache")}
    with open(folder / "out", "w") as out, open(folder / "err", "w") as err:
        return subprocess.Popen(
            [sys.executable, "-m", "lit_gpt", *words], stdout=out, stderr=err, env=environment, start_new_session=True
        )


def wait_for(process: subprocess.Popen, pattern: str, folder: Path) -> None:
    """Waits until the command has written a file."""
    for _ in range(3000):
        if any(folder.glob(pattern)):
            return
        assert process.poll() is None, (folder / "err").read_text()
        time.sleep(0.05)
    raise AssertionError(f"no {pattern}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "everyone", "options"),
    [
        ("SIGINT", True, ["--data.num_workers", "2"]),
        ("SIGTERM", False, ["--data.num_workers", "2"]),
        ("SIGINT", True, ["--trainer.devices", "2", "--trainer.strategy", "ddp"]),
        ("SIGTERM", False, ["--trainer.devices", "2", "--trainer.strategy", "ddp"]),
    ],
    ids=["workers, SIGINT", "workers, SIGTERM", "ranks, SIGINT", "ranks, SIGTERM"],
)
def test_one_of_several_processes_tells_of_a_stop(
    tmp_path: Path, text_file: Path, name: str, everyone: bool, options: list[str]
) -> None:
    words = ["fit", "--name", "one", "--trainer.default_root_dir", str(tmp_path / "runs")]
    process = started([*words, "--data.source.paths", str(text_file), *NET, *options], tmp_path)
    wait_for(process, "runs/one/checkpoints/last.ckpt", tmp_path)
    (os.killpg if everyone else os.kill)(process.pid, getattr(signal, name))
    assert process.wait(120) == 128 + getattr(signal, name)
    said = (tmp_path / "err").read_text()
    assert "Traceback" not in said
    assert len(re.findall("^lit-gpt: ", said, re.M)) == 1
    assert re.search(f"lit-gpt: stopped by {name} .*: saved .*`lit-gpt fit --name one .* --resume` goes on", said)
    whole, refused = manifest.newest_valid(tmp_path / "runs/one/checkpoints")
    assert whole is not None and refused == []
    assert ended(process.pid)


def ended(group: int) -> bool:
    """Whether no process of the group is left, soon."""
    for _ in range(300):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def encodes(status: Path, parent: int) -> bool:
    """Whether a process is one that encodes for the parent."""
    try:
        return f"PPid:\t{parent}\n" in status.read_text() and "popen_loky" in (status.parent / "cmdline").read_text()
    except OSError:  # it has ended
        return False


@pytest.mark.slow
def test_encoders_leave_ctrl_c_to_prepare(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    with open(text, "w") as file:
        file.writelines(f"the cat {n} sat on mat {n * n % 97} and saw the moon.\n" for n in range(1_000_000))
    words = ["prepare", "--data.source.paths", str(text), "--data.tokenizer", "Byte", "--workers", "2"]
    process = started(words, tmp_path)
    wait_for(process, "cache/corpora/.*.preparing/shards*/*", tmp_path)
    encoders = [file for file in Path("/proc").glob("[0-9]*/status") if encodes(file, process.pid)]
    assert len(encoders) == 2
    for status in encoders:
        blocked = int(re.search(r"SigBlk:\s*(\w+)", status.read_text()).group(1), 16)
        assert blocked >> (signal.SIGINT - 1) & 1
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 130
    line = "lit-gpt: stopped by SIGINT while preparing \\S+: the same command goes on where it was\n"
    assert re.fullmatch(line, (tmp_path / "err").read_text())
    assert ended(process.pid)
    assert started(words, tmp_path).wait(120) == 0
    assert "going on with what was prepared" in (tmp_path / "err").read_text()
