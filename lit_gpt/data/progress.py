"""Progress bar and progress lines on stderr; silent for the first two seconds."""

import sys
import time
from types import TracebackType
from typing import Any

_PATIENCE = 2.0  # seconds before anything is shown
_LINE_EVERY = 10.0  # seconds between plain lines where there is no terminal


def say(line: str) -> None:
    """One plain line on stderr."""
    print(line, file=sys.stderr, flush=True)


class Progress:
    """A bar with the time left on a terminal, plain lines elsewhere.

    Args:
        title: What is being done, such as "tokenizing".
        total: Amount of work; None where unknown.
        unit: What work is counted in.
    """

    def __init__(self, title: str, total: int | None = None, unit: str = "characters") -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, 0
        self._bar: Any = None
        self._started = self._said = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def advance(self, amount: int) -> None:
        """Says that more has been done."""
        self.done += amount
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done)
        elif sys.stderr.isatty():
            if now - self._started > _PATIENCE:
                self._open()
        elif now - max(self._said, self._started + _PATIENCE - _LINE_EVERY) > _LINE_EVERY:
            self._said = now
            say(f"{self.title}: {self._share()}")

    def _share(self) -> str:
        if not self.total:
            return f"{self.done:,} {self.unit}"
        spent = time.monotonic() - self._started
        left = spent * max(self.total - self.done, 0) / max(self.done, 1)
        return f"{min(100.0 * self.done / self.total, 100.0):.0f} %, about {left:.0f} s left"

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        self._bar = Bar(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self.title, total=self.total, completed=self.done)
        self._bar.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        spent = time.monotonic() - self._started
        if error is None and spent > _PATIENCE:
            say(f"{self.title}: {self.done:,} {self.unit} in {spent:.1f} s")
