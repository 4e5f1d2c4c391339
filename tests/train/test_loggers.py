"""metrics.csv: rows stay over resumes, columns grow, a torn line is dropped."""

import csv
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from standins import TinyData, tiny, trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_gpt.train.loggers import CSVLog
from lit_gpt.train.step_metrics import StepMetrics


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_second_logger_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    for first in (1, 3):
        log = CSVLog(tmp_path)
        for step in (first, first + 1):
            log.log_metrics({"train_loss": 1.0 / step}, step)
        log.finalize("success")
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3", "4"]
    assert float(rows(tmp_path)[2]["train_loss"]) == 1 / 3 or abs(float(rows(tmp_path)[2]["train_loss"]) - 1 / 3) < 1e-7


def test_columns_grow_and_old_rows_stay(tmp_path: Path) -> None:
    log = CSVLog(tmp_path)
    log.log_metrics({"train_loss": 2.5}, 1)
    log.save()
    log.log_metrics({"val_loss/novel": 3.5}, 2)
    log.save()
    first, second = rows(tmp_path)
    assert (first["train_loss"], first["val_loss/novel"]) == ("2.5", "")
    assert (second["train_loss"], second["val_loss/novel"]) == ("", "3.5")


def test_rows_past_the_step_that_is_resumed_from_are_dropped(tmp_path: Path) -> None:
    log = CSVLog(tmp_path)
    for step in range(1, 6):
        log.log_metrics({"train_loss": step}, step)
    log.save()
    again = CSVLog(tmp_path)
    again.rewind(3)
    again.log_metrics({"train_loss": 40}, 4)
    again.save()
    assert [(row["step"], row["train_loss"]) for row in rows(tmp_path)] == [
        ("1", "1"),
        ("2", "2"),
        ("3", "3"),
        ("4", "40"),
    ]


def test_a_line_torn_by_a_crash_is_dropped_on_rewind(tmp_path: Path) -> None:
    log = CSVLog(tmp_path)
    log.log_metrics({"train_loss": 1.0}, 1)
    log.save()
    with open(tmp_path / "metrics.csv", "a") as file:
        file.write("2,12")
    again = CSVLog(tmp_path)
    again.rewind(5)
    again.log_metrics({"train_loss": 2.0}, 2)
    again.save()
    assert [row["train_loss"] for row in rows(tmp_path)] == ["1", "2"]


def test_rows_are_on_disk_when_a_checkpoint_is(tmp_path: Path) -> None:
    """And a resume keeps as many as there were then, not those of the same step that came after."""
    seen: list[int] = []

    class Look(Callback):
        def on_train_batch_end(self, fit: Any, *_: Any) -> None:
            fit.save_checkpoint(tmp_path / f"{fit.global_step}.ckpt")
            seen.append(len(rows(tmp_path)))

    log = CSVLog(tmp_path, flush_seconds=1000)
    fit = trainer(max_steps=3, log_every_n_steps=1, logger=[log], callbacks=[StepMetrics(), Look()])
    fit.fit(tiny(), datamodule=TinyData())
    assert seen == [1, 2, 3]
    log.log_metrics({"val_loss": 1.0}, 2)
    again = CSVLog(tmp_path)
    resumed = trainer(max_steps=3, log_every_n_steps=1, logger=[again], callbacks=[StepMetrics()])
    resumed.fit(tiny(), datamodule=TinyData(), ckpt_path=tmp_path / "2.ckpt", weights_only=True)
    assert [row["step"] for row in rows(tmp_path)] == ["1", "2", "3"]
    assert all(row["train_loss"] for row in rows(tmp_path))


def test_tensorboard_drops_what_a_resumed_run_logs_again(tmp_path: Path) -> None:
    for first, purge in ((1, None), (4, 4)):
        log = TensorBoardLogger(save_dir=tmp_path, name="", version="", purge_step=purge)
        for step in range(first, 7):
            log.log_metrics({"train_loss": float(step)}, step)
        log.finalize("success")
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("train_loss")] == [1, 2, 3, 4, 5, 6]


def test_values_that_are_not_finite_are_written(tmp_path: Path) -> None:
    log = CSVLog(tmp_path)
    log.log_metrics({"train_loss": float("nan"), "grad_norm": float("inf")}, 1)
    log.save()
    assert (rows(tmp_path)[0]["train_loss"], rows(tmp_path)[0]["grad_norm"]) == ("nan", "inf")
