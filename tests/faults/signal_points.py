"""Runs commands in forked processes that send themselves a signal at a chosen point; writes what came of it.

`python signal_points.py FOLDER RESULTS [POINT ...]`: everything is imported once and no gradient is computed in this
process, so each fork begins as a fresh process of the command does.
"""

import functools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

NET = """--data.tokenizer BPE --data.tokenizer.vocab_size 300 --data.context 8 --data.batch_size 4 --model.net.width 16
    --model.net.depth 1 --model.net.heads 2 --model.net.dropout 0.1"""
COURSE = """--trainer.max_steps 6 --trainer.accumulate_grad_batches 2 --trainer.val_check_interval 4
    --trainer.limit_val_batches 3 --trainer.log_every_n_steps 1 --trainer.accelerator cpu
    --trainer.enable_progress_bar false --sample.max_new_tokens 4"""
SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}

# Where the signal is sent: module, attribute, at which call, whether ahead of the call or behind it.
POINTS: dict[str, tuple[str, str, int, str]] = {
    "tokenizer training": ("lit_gpt.data.corpus.train_tokenizer", "_drawn", 1, "ahead"),
    "encoding": ("lit_gpt.data.corpus.encoder", "Encoder.encode", 1, "behind"),
    "publishing": ("lit_gpt.atomic_io", "swap_folder", 1, "behind"),
    "loader start": ("lit_gpt.data.module", "TokenData.train_dataloader", 1, "behind"),
    "first step": ("lit_gpt.train.module", "LitGPT.training_step", 1, "behind"),
    "inside an accumulation window": ("lit_gpt.train.module", "LitGPT.training_step", 3, "behind"),
    "optimizer step": ("lit_gpt.train.module", "LitGPT.configure_gradient_clipping", 3, "behind"),
    "start of a validation": ("lit_gpt.train.module", "LitGPT.on_validation_start", 2, "ahead"),
    "middle of a validation": ("lit_gpt.train.module", "LitGPT.validation_step", 5, "behind"),
    "end of a validation": ("lit_gpt.train.module", "LitGPT.on_validation_epoch_end", 2, "behind"),
    "best save": ("lit_gpt.train.checkpointing", "BestCheckpoint._write", 2, "ahead"),
    "last save": ("lit_gpt.train.checkpointing", "LastCheckpoint._write", 2, "ahead"),
    "manifest": ("lit_gpt.checkpoint.manifest", "write_manifest", 2, "ahead"),
    "log flush": ("lit_gpt.train.loggers", "CSVLog._append", 3, "ahead"),
    "sampling": ("lit_gpt.train.samples", "SampleText.generate", 1, "ahead"),
    "last validation": ("lit_gpt.train.module", "LitGPT.validation_step", 8, "behind"),
    "validate": ("lit_gpt.train.module", "LitGPT.validation_step", 2, "behind"),
    "validation before fine-tuning": ("lit_gpt.train.module", "LitGPT.validation_step", 2, "behind"),
}


class Place:
    """One folder with its own cache, in which commands are run."""

    def __init__(self, folder: Path, text: Path, base: Path) -> None:
        self.folder, self.text, self.base = folder, text, base
        folder.mkdir(parents=True, exist_ok=True)

    def words(self, point: str) -> list[str]:
        """The command of a point."""
        if point == "validate":
            return [
                "validate",
                str(self.base),
                "--trainer.accelerator",
                "cpu",
                "--trainer.enable_progress_bar",
                "false",
            ]
        begins = f"fit --name one --trainer.default_root_dir {self.folder / 'runs'} --data.source.paths {self.text}"
        if point == "validation before fine-tuning":
            return shlex.split(f"{begins} {COURSE} --model.init_from {self.base} --data.context 8 --data.batch_size 4")
        workers = " --data.num_workers 2" if point == "loader start" else ""
        return shlex.split(f"{begins} {NET} {COURSE}{workers}")

    def run(self, words: list[str], patch: Callable[[], None] | None = None) -> dict[str, Any]:
        """Runs a command in a fork; returns its exit code and what it printed."""
        number = len(list(self.folder.glob("*.err")))
        out, err = self.folder / f"{number}.out", self.folder / f"{number}.err"
        child = os.fork()
        if child == 0:
            code = 70
            try:
                for descriptor, file in ((1, out), (2, err)):
                    os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), descriptor)
                os.environ["LIT_GPT_CACHE"] = str(self.folder / "cache")
                if patch is not None:
                    patch()
                from lit_gpt.__main__ import main

                code = main(words)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        return {"code": os.waitstatus_to_exitcode(status), "out": out.read_text(), "err": err.read_text()}

    def reached(self) -> dict[str, Any]:
        """Weights, optimizer and metrics of the run, without times."""
        return reached(self.folder / "runs/one")


def reached(run: Path) -> dict[str, Any]:
    """What a run left: a digest of the last state, and its rows of metrics.csv without times."""
    import csv
    import hashlib

    import torch

    state = torch.load(run / "checkpoints/last.ckpt", map_location="cpu", weights_only=True)
    digest = hashlib.sha256()
    for one in (*state["state_dict"].values(), *_tensors(state["optimizer_states"])):
        digest.update(one.numpy().tobytes())
    with open(run / "metrics.csv", newline="") as file:
        rows = [{k: v for k, v in row.items() if k not in ("tokens_per_second", "mfu")} for row in csv.DictReader(file)]
    staged = sorted(p.name for p in run.rglob(".*") if p.name != ".lock")
    return {"step": state["global_step"], "state": digest.hexdigest(), "rows": rows, "staged": staged}


def _tensors(value: Any) -> list[Any]:
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [tensor for one in inner for tensor in _tensors(one)]


def at(point: str, signum: int) -> Callable[[], None]:
    """What has the signal sent at a point."""
    module, attribute, call, when = POINTS[point]

    def patch() -> None:
        from importlib import import_module

        owner: Any = import_module(module)
        if point == "log flush":
            owner.CSVLog.__init__.__defaults__ = (0.0,)  # else by the clock
        *classes, name = attribute.split(".")
        for one in classes:
            owner = getattr(owner, one)
        real, calls = getattr(owner, name), 0

        @functools.wraps(real)
        def sending(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call and when == "ahead":
                os.kill(os.getpid(), signum)
            result = real(*arguments, **options)
            if calls == call and when == "behind":
                os.kill(os.getpid(), signum)
            return result

        setattr(owner, name, sending)

    return patch


def go_on(place: Place, point: str, err: str) -> list[str]:
    """The command that the line names, or the same one again."""
    named = re.search("`lit-gpt ([^`]+)` (?:goes on|resumes)", err)
    return shlex.split(named[1]) if named else place.words(point)


def main(folder: Path, results: Path, points: list[str]) -> None:
    """Runs all points with both signals."""
    import lit_gpt.cli
    import lit_gpt.commands.fit
    import lit_gpt.commands.validate
    import lit_gpt.generate.text_generator  # noqa: F401

    text = folder / "words.txt"
    text.write_text("".join(f"the cat {n} sat on mat {n * n % 97} and saw the moon.\n" for n in range(300)))
    whole = Place(folder / "whole", text, folder / "whole/runs/one")
    found: dict[str, Any] = {"whole": whole.run(whole.words("")), "reached": whole.reached()}
    tuned = Place(folder / "tuned", text, whole.base)
    found["tuned"] = tuned.run(tuned.words("validation before fine-tuning"))
    found["tuned reached"] = tuned.reached()
    found["measured"] = whole.run(whole.words("validate"))
    for point in points or POINTS:
        for name, signum in SIGNALS.items():
            place = Place(folder / f"{point} {name}".replace(" ", "_"), text, whole.base)
            stopped = place.run(place.words(point), at(point, signum))
            after = place.run(go_on(place, point, stopped["err"]))
            ends = {} if point == "validate" else place.reached()
            found[f"{point} {name}"] = {"stopped": stopped, "after": after, "reached": ends}
    results.write_text(json.dumps(found, indent=1))


# A process that sends itself the signal while it imports torch: nothing can be forked for this one.
START_UP = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.kill(os.getpid(), int(sys.argv[1]))
sys.meta_path.insert(0, Finder())
from lit_gpt.__main__ import main
sys.exit(main(sys.argv[2:]))
"""


def start_up(folder: Path, signum: int) -> subprocess.CompletedProcess:
    """Runs `fit` in a process that is stopped as it starts."""
    words = ["fit", "--name", "one", "--trainer.default_root_dir", str(folder / "runs"), "--data.source.paths", "x.txt"]
    return subprocess.run(
        [sys.executable, "-c", START_UP, str(int(signum)), *words], capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
