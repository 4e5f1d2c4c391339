"""What the Trainer costs over a bare PyTorch loop that trains the same net on the same text.

Both run in one process, in turns; what is compared is the median of each turn over stretches of ten steps, so that the
read-back and the logging of every tenth step count. The Trainer has everything on: bar,
metrics.csv, TensorBoard, checks of the loss, signals, data from the corpus on disk. The loop has a batch from memory,
forward, backward, clipping, fused AdamW and a schedule.

    python benchmarks/trainer_overhead.py --steps 200 --turns 5
"""

import argparse
import contextlib
import io
import math
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

SIZES = {  # name: net, batch size
    "0.8M": ({"width": 128, "depth": 4, "heads": 4, "context": 64}, 12),
    "12M": ({"width": 384, "depth": 6, "heads": 6, "context": 128}, 12),
}
STRETCH = 10  # log_every_n_steps
LEFT_OUT = 20  # first steps of a turn: allocation, caches


def make_data(folder: Path, net: dict[str, int], batch_size: int) -> Any:
    """Random crops of characters, as nanoGPT takes them; the text is this machine's own standard library."""
    from lit_gpt.data import RandomCrops, TextFiles, TokenData
    from lit_gpt.data.tokenizers.byte_and_char import Char

    text = "".join(p.read_text(errors="ignore") for p in sorted(Path(statistics.__file__).parent.glob("a*.py")))
    (folder / "text.txt").write_text("".join(c for c in text if c.isascii()))
    return TokenData(
        source=lambda: TextFiles(str(folder / "text.txt")),
        tokenizer=Char,
        folder=str(folder / "corpus"),
        context=net["context"],
        batch_size=batch_size,
        sampler=RandomCrops,
    )


def new_net(vocabulary: int, sizes: dict[str, int]) -> Any:
    from lit_gpt.model import GPT

    return GPT(vocabulary, **sizes, seed=0)  # type: ignore[arg-type]


def bare(data: Any, sizes: dict[str, int], batch_size: int, steps: int) -> list[float]:
    """Seconds of each step of the loop that nobody needs a framework for."""
    from lit_gpt.nn import linear_cross_entropy

    net, context = new_net(data.vocab_size, sizes), sizes["context"]
    text = torch.from_numpy(data.corpus("train").ids[:].astype("int64"))
    matrices = {"params": [p for p in net.parameters() if p.ndim >= 2], "weight_decay": 0.1}
    rest = {"params": [p for p in net.parameters() if p.ndim < 2], "weight_decay": 0.0}
    optimizer = torch.optim.AdamW([matrices, rest], lr=1e-3, fused=True)
    seconds, begun = [], time.perf_counter()
    for step in range(steps):
        rate = 1e-3 * (0.1 + 0.45 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        starts = torch.randint(len(text) - context - 1, (batch_size,)).tolist()
        inputs = torch.stack([text[i : i + context] for i in starts])
        targets = torch.stack([text[i + 1 : i + 1 + context] for i in starts])
        loss = net(
            inputs,
            reduce=lambda hidden, weight, softcap, aux, targets=targets: (
                linear_cross_entropy(hidden.flatten(0, 1), weight, targets.flatten(), softcap) / targets.numel()
            ),
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        now = time.perf_counter()
        seconds.append(now - begun)
        begun = now
    return seconds


def with_trainer(data: Any, sizes: dict[str, int], steps: int, folder: Path) -> list[float]:
    """Seconds of each step of a whole run as the command line makes it."""
    import lightning.pytorch as lightning
    from lightning.pytorch.loggers import TensorBoardLogger

    from lit_gpt.train.checkpointing import BestCheckpoint, LastCheckpoint, VerifiedIO
    from lit_gpt.train.exact_resume import ExactResume
    from lit_gpt.train.loggers import CSVLog
    from lit_gpt.train.module import LitGPT
    from lit_gpt.train.progress_bar import TrainingProgressBar
    from lit_gpt.train.step_metrics import StepMetrics
    from lit_gpt.train.stopping import StopOnSignal, ValidateAtEnd
    from lit_gpt.train.summary import RunSummary

    class Times(lightning.Callback):
        seconds: list[float] = []

        def on_train_start(self, *_: Any) -> None:
            self.seconds, self.begun = [], time.perf_counter()

        def on_train_batch_end(self, *_: Any) -> None:
            now = time.perf_counter()
            self.seconds.append(now - self.begun)
            self.begun = now

    times, bar = Times(), TrainingProgressBar()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        gradient_clip_val=1.0,
        log_every_n_steps=STRETCH,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        enable_model_summary=False,
        logger=[CSVLog(folder), TensorBoardLogger(folder, name="", version="")],
        callbacks=[
            ExactResume(),
            StopOnSignal(),
            ValidateAtEnd(),
            StepMetrics(),
            RunSummary(),
            bar,
            BestCheckpoint(folder / "checkpoints"),
            LastCheckpoint(folder / "checkpoints"),
            times,
        ],
        plugins=[VerifiedIO()],
    )
    model = LitGPT(
        new_net(data.vocab_size, sizes), optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1)
    )
    with contextlib.redirect_stdout(_Terminal()), contextlib.redirect_stderr(io.StringIO()):
        trainer.fit(model, datamodule=data)
    return times.seconds


def usual_step(seconds: list[float]) -> float:
    """Median over stretches of as many steps as lie between two log rows, per step."""
    counted = seconds[LEFT_OUT:]
    return statistics.median(
        statistics.mean(counted[i : i + STRETCH]) for i in range(0, len(counted) - STRETCH + 1, STRETCH)
    )


class _Terminal(io.StringIO):
    """Takes the bar as a terminal would."""

    def isatty(self) -> bool:
        return True


def main() -> None:
    """Print one row for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="steps of a turn")
    parser.add_argument("--turns", type=int, default=5, help="turns of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--profile", action="store_true", help="show where one turn of the Trainer spends its time")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    print(f"{sys.platform}, torch {torch.__version__}, {torch.get_num_threads()} threads, {options.steps} steps a turn")
    print(f"{'size':>6}  {'loop ms':>8}  {'Trainer ms':>10}  {'ratio':>6}  ratio of each turn")
    for name in options.sizes:
        sizes, batch_size = SIZES[name]
        with tempfile.TemporaryDirectory() as folder:
            data = make_data(Path(folder), sizes, batch_size)
            if options.profile:
                _profile(data, sizes, options.steps, Path(folder))
                continue
            loops, trainers = [], []
            for turn in range(options.turns):
                # who goes first changes, so that a machine that warms up or slows down favors neither
                for ours in (False, True) if turn % 2 else (True, False):
                    if ours:
                        seconds = with_trainer(data, sizes, options.steps, Path(folder) / str(turn))
                        trainers.append(usual_step(seconds))
                    else:
                        loops.append(usual_step(bare(data, sizes, batch_size, options.steps)))
        ratios = [b / a for a, b in zip(loops, trainers, strict=True)]
        loop, trainer = 1e3 * statistics.median(loops), 1e3 * statistics.median(trainers)
        each = " ".join(f"{r:.3f}" for r in ratios)
        print(f"{name:>6}  {loop:8.2f}  {trainer:10.2f}  {statistics.median(ratios):6.3f}  {each}", flush=True)


def _profile(data: Any, sizes: dict[str, int], steps: int, folder: Path) -> None:
    import cProfile
    import pstats

    profile = cProfile.Profile()
    profile.runcall(with_trainer, data, sizes, steps, folder / "profile")
    pstats.Stats(profile).sort_stats("tottime").print_stats(40)


if __name__ == "__main__":
    main()
