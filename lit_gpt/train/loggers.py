"""A logger for metrics.csv: one row for each log call, kept across resumes (Lightning's CSVLogger deletes them)."""

import csv
import io
import math
import time
from argparse import Namespace
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lit_gpt import atomic_io, signals

COLUMNS = (
    "step", "tokens", "train_loss", "val_loss", "val_perplexity", "val_bpb", "val_accuracy",
    "lr", "grad_norm", "tokens_per_second", "mfu",
)  # fmt: skip


class CSVLog(Logger):
    """Appends rows to `metrics.csv`; a new metric becomes a new column.

    Args:
        folder: Where the file is.
        flush_seconds: Rows reach the disk at least this often.
    """

    def __init__(self, folder: str | Path, flush_seconds: float = 1.0) -> None:
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.flush_seconds = flush_seconds
        self._columns: list[str] | None = None
        self._rows: list[dict[str, Any]] = []
        self._flushed = time.monotonic()
        self._count: int | None = None  # rows in the file, where they have been counted

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @property
    def log_dir(self) -> str:
        return str(self.path.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run's config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row."""
        self._rows.append({"step": step, **metrics})
        if time.monotonic() - self._flushed > self.flush_seconds:
            self.save()

    @rank_zero_only
    def rewind(self, step: int, count: int | None = None) -> None:
        """Drops rows after `step`, and all but the first `count`: a resumed run writes them again."""
        self.save()
        rows = [row for row in self._read() if float(row["step"] or 0) <= step][:count]
        if self._columns is not None:
            self._rewrite(rows)
        self._count = len(rows)

    def commit(self) -> int:
        """Writes buffered rows and waits for the disk; returns the number of rows. Called with each checkpoint."""
        self.save()
        if self._count is None:
            self._count = len(self._read())
        if self.path.exists():
            atomic_io.fsync_path(self.path)
        return self._count

    @rank_zero_only
    def save(self) -> None:
        """Writes buffered rows."""
        self._flushed = time.monotonic()
        rows, self._rows = self._rows, []
        if rows:
            with atomic_io.disk_errors(self.path), signals.held():
                self._append(rows)

    def _append(self, rows: list[dict[str, Any]]) -> None:
        if self._columns is None:
            self._read()
        known = self._columns or list(COLUMNS)
        new = sorted({name for row in rows for name in row} - set(known))
        if self._columns is None or new:
            before = self._read()
            self._columns = known + new
            self._rewrite(before)
        with open(self.path, "a", newline="") as file:
            csv.DictWriter(file, self._columns or []).writerows(_shown(row) for row in rows)
        if self._count is not None:
            self._count += len(rows)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes buffered rows."""
        with suppress(atomic_io.CannotWrite) if status == "failed" else nullcontext():  # its error is reported already
            self.save()

    def _read(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with open(self.path, newline="") as file:
            reader = csv.DictReader(file)
            rows = [row for row in reader if None not in row and None not in row.values()]  # a torn last line goes
            if reader.fieldnames:
                self._columns = list(reader.fieldnames)
        return rows

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns or list(COLUMNS), restval="")
        writer.writeheader()
        writer.writerows(rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic_io.write_bytes(self.path, text.getvalue().encode())


def _shown(row: dict[str, Any]) -> dict[str, str]:
    return {name: _number(value) for name, value in row.items()}


def _number(value: Any) -> str:
    number = float(value)
    whole = math.isfinite(number) and number == int(number) and abs(number) < 2**53
    return str(int(number)) if whole else f"{number:.8g}"
