"""What TensorBoard answers over HTTP about a run that was just trained."""

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lit_gpt.cli import build

SCALARS = {
    *("train_loss", "lr", "grad_norm", "tokens", "tokens_per_second", "mfu"),
    *("val_loss", "val_perplexity", "val_bpb", "val_accuracy"),
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Iterator[str]:
    """A TensorBoard on a run of four steps with two validations."""
    folder = tmp_path_factory.mktemp("runs")
    words = ["--model.net.width=32", "--model.net.depth=1", "--model.net.context=16", "--data.tokenizer=Char"]
    words += [f"--data.source.paths={text_file}", "--data.batch_size=2", "--data.val_batch_size=64"]
    words += ["--trainer.max_steps=4", "--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1"]
    words += ["--trainer.enable_progress_bar=false", f"--trainer.default_root_dir={folder}"]
    run = build(None, words)
    run.trainer.fit(run.model, run.data)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", "0", "--load_fast", "false"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"http://localhost:\d+", line):
            yield found.group()
            break
    else:
        pytest.fail("TensorBoard did not start")
    server.terminate()
    server.wait(timeout=20)


def ask(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"{address}/data/plugin/{path}", timeout=10) as answer:
        return json.load(answer)


def test_loss_rate_speed_and_samples_are_there(address: str) -> None:
    deadline = time.monotonic() + 60
    tags: set[str] = set()
    texts: dict[str, Any] = {}
    while time.monotonic() < deadline and not (tags >= SCALARS and texts.get("run")):
        tags = set(ask(address, "scalars/tags").get("run", {}))
        texts = ask(address, "text/tags")
        time.sleep(0.3)
    assert tags >= SCALARS, SCALARS - tags
    losses = ask(address, "scalars/scalars?run=run&tag=train_loss")
    assert [step for _, step, _ in losses] == [1, 2, 3, 4]
    assert [step for _, step, _ in ask(address, "scalars/scalars?run=run&tag=val_perplexity")] == [2, 4]
    samples = ask(address, f"text/text?run=run&tag={texts['run'][0]}")
    assert [sample["step"] for sample in samples] == [2, 4]
    assert len(re.sub("<[^>]*>", "", samples[0]["text"]).strip()) > 20
