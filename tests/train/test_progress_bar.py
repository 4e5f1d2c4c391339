"""What is seen of a run: plain lines without a terminal, one redrawn line on it, the table and the last line."""

import io
import re
import sys

import pytest
from lightning.pytorch.callbacks import EarlyStopping
from standins import TinyData, tiny, trainer

from lit_gpt.train.progress_bar import TrainingProgressBar, clock
from lit_gpt.train.step_metrics import StepMetrics
from lit_gpt.train.stopping import ValidateAtEnd
from lit_gpt.train.summary import RunSummary, last_line


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    monkeypatch.setattr(sys, "stdout", stream)
    summary = RunSummary()
    fit = trainer(
        max_steps=30,
        log_every_n_steps=5,
        enable_progress_bar=True,
        val_check_interval=10,
        check_val_every_n_epoch=None,
        callbacks=[ValidateAtEnd(), StepMetrics(), summary, TrainingProgressBar(refresh=0.0)],
    )
    fit.fit(tiny(), datamodule=TinyData())
    print(summary.final_line())
    return stream.getvalue()


def test_plain_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, io.StringIO())
    assert "\r" not in text
    assert re.search(r"^step 30/30  loss \d\.\d+  lr \S+  [\d,]+ tokens/s  00:00 left$", text, re.MULTILINE)
    assert len(re.findall(r"^step \d+  val_loss", text, re.MULTILINE)) == 3


def test_one_line_is_redrawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, Terminal())
    bars = [piece for piece in re.split(r"[\r\n]", text) if "/30  [" in piece]
    assert len(bars) >= 30
    assert re.match(r"step 30/30  \[={20}\]  loss \d\.\d+  [\d,]+ tokens/s  00:00 left", bars[-1])


def test_the_table_and_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, io.StringIO())
    for name in ("parameters", "memory", "tokens", "text", "time", "device"):
        assert re.search(rf"^{name} ", text, re.MULTILINE), name
    assert "1,920 in 30 steps of 64: 0.275 per parameter" in text
    number = r"\d+\.\d{4}"
    last = rf"step 30  tokens 1920  val_loss {number}  val_perplexity {number}  val_bpb {number}  seconds \d+\.\d"
    assert re.fullmatch(last, text.splitlines()[-1])


def test_what_was_not_measured_is_nan_in_the_last_line() -> None:
    assert last_line(3, {"tokens": 5}, 1.25) == (
        "step 3  tokens 5  val_loss nan  val_perplexity nan  val_bpb nan  seconds 1.2"
    )


@pytest.mark.parametrize(("seconds", "text"), [(0, "00:00"), (59.6, "01:00"), (3600, "1:00:00"), (90061, "25:01:01")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_an_early_stop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    fit = trainer(
        max_steps=30,
        enable_progress_bar=True,
        val_check_interval=5,
        check_val_every_n_epoch=None,
        callbacks=[EarlyStopping("val_loss", min_delta=100.0, patience=1), StepMetrics(), TrainingProgressBar()],
    )
    fit.fit(tiny(), datamodule=TinyData())
    assert re.search(r"^stopped at step 10 of 30: .*val_loss", stream.getvalue(), re.MULTILINE)
