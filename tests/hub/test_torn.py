"""Imports and exports that are killed: nothing lies at the place they were asked for, and the next one goes through."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from random_models import Case, make, save

from lit_gpt.__main__ import main

# Stops for good once half of the tensors are written.
HALFWAY = """
import sys, time
from pathlib import Path
{patch}
count = 0
def slow(*words, **names):
    global count
    count += 1
    if count == 2:
        Path(sys.argv[1]).touch()
        time.sleep(600)
    return before(*words, **names)
{put}
from lit_gpt.__main__ import main
main(sys.argv[2:])
"""
IMPORT = HALFWAY.format(
    patch="from lit_gpt.hub.checkpoint_writer import CheckpointWriter; before = CheckpointWriter.put",
    put="CheckpointWriter.put = slow",
)
EXPORT = HALFWAY.format(
    patch="from lit_gpt.hub import exporter; before = exporter.save_file", put="exporter.save_file = slow"
)


def killed(program: str, words: list[str], mark: Path) -> None:
    """Runs a program until it says that it is halfway, and kills it there."""
    process = subprocess.Popen([sys.executable, "-c", program, str(mark), *words], env=os.environ)
    try:
        for _ in range(600):
            if mark.exists():
                break
            assert process.poll() is None, "it ended before it was halfway"
            time.sleep(0.1)
        assert mark.exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("command", ["import", "export"])
def test_kill_leaves_nothing_at_the_place(command: str, tmp_path: Path) -> None:
    folder = save(make(Case("llama", "multi-head")), tmp_path / "theirs")
    given, words = folder, []
    if command == "export":
        given = tmp_path / "run"
        assert main(["import", str(folder), "--out", str(given)]) == 0
        words = ["--max_shard_size", "50KB"]
    before = {file: file.read_bytes() for file in given.rglob("*") if file.is_file()}
    out = tmp_path / "there" / "out"
    call = [command, str(given), "--out", str(out), *words]
    killed(IMPORT if command == "import" else EXPORT, call, tmp_path / "mark")
    assert not out.exists()
    assert all(file.name.startswith(".out.") for file in out.parent.iterdir())  # named so that nobody takes it for one
    assert main(call) == 0
    assert (out / ("config.json" if command == "export" else "checkpoints/best.ckpt")).exists()
    assert before == {file: file.read_bytes() for file in given.rglob("*") if file.is_file()}
