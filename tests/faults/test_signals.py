"""SIGINT and SIGTERM at any stage: exit code 130 or 143, one line, nothing lost."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import signal_points
from signal_points import POINTS, SIGNALS

from lit_gpt import signals
from lit_gpt.__main__ import main

CODES = {"SIGINT": 130, "SIGTERM": 143}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of all points; in one process of its own, as a gradient computed here would spoil its forks."""
    folder = tmp_path_factory.mktemp("points")
    words = [sys.executable, signal_points.__file__, str(folder), str(folder / "results.json")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    assert results["whole"]["code"] == results["tuned"]["code"] == results["measured"]["code"] == 0
    return results


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("point", POINTS)
def test_a_signal_at_any_point_loses_nothing(point: str, name: str, found: dict[str, Any]) -> None:
    one = found[f"{point} {name}"]
    assert one["stopped"]["code"] == CODES[name], one["stopped"]
    assert re.fullmatch(f"lit-gpt: stopped by {name} [^\n]+\n", one["stopped"]["err"])
    assert one["after"]["code"] == 0, one["after"]
    if point == "validate":
        assert one["after"]["out"] == found["measured"]["out"]
        return
    whole = found["tuned reached" if point == "validation before fine-tuning" else "reached"]
    assert one["reached"]["step"] == whole["step"] == 6
    assert one["reached"]["state"] == whole["state"]
    assert one["reached"]["staged"] == []
    if point == "last validation":  # its absence is said
        assert "its validation is left to `lit-gpt validate " in one["stopped"]["err"]
    else:
        assert one["reached"]["rows"] == whole["rows"]


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_a_signal_at_start_up_ends_it_with_one_line(tmp_path: Path, name: str) -> None:
    done = signal_points.start_up(tmp_path, SIGNALS[name])
    assert done.returncode == CODES[name]
    assert re.fullmatch(f"lit-gpt: stopped by {name}: the same command starts again\n", done.stderr)
    assert done.stdout == "" and not (tmp_path / "runs").exists()


def send(signum: int) -> None:
    os.kill(os.getpid(), signum)


def command(monkeypatch: pytest.MonkeyPatch, does: Any) -> None:
    monkeypatch.setattr("lit_gpt.__main__.find", lambda name: lambda words: does())


@pytest.mark.parametrize("name", SIGNALS)
def test_what_is_held_is_done_whole(name: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    done: list[str] = []

    def does() -> int:
        with signals.doing("writing", "half of it is there"):
            with signals.held():
                send(SIGNALS[name])
                done.append("held")
            done.append("never")
        return 0

    before = [signal.getsignal(signum) for signum in signals.SIGNALS]
    command(monkeypatch, does)
    assert main(["any"]) == CODES[name]
    assert done == ["held"]
    assert capsys.readouterr().err == f"lit-gpt: stopped by {name} while writing: half of it is there\n"
    assert [signal.getsignal(signum) for signum in signals.SIGNALS] == before


def test_a_signal_that_a_destructor_swallows_comes_again(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    class Swallows:
        def __del__(self) -> None:
            send(signal.SIGTERM)

    def does() -> int:
        Swallows()
        time.sleep(20)  # ended by the signal
        return 0

    command(monkeypatch, does)
    assert main(["any"]) == 143
    assert capsys.readouterr().err == "lit-gpt: stopped by SIGTERM: the same command starts again\n"


def test_a_signal_that_comes_out_as_another_error_is_told(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def does() -> int:
        try:
            send(signal.SIGINT)
        except BaseException:
            raise ImportError("numpy failed to import") from None
        return 0

    command(monkeypatch, does)
    assert main(["any"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_a_second_signal_ends_the_process_at_once() -> None:
    code = (
        "import os, signal; from lit_gpt import signals\n"
        "with signals.handled(), signals.held():\n"
        "    os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGTERM); print('never')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (143, "")
    assert done.stderr == "lit-gpt: stopped by a second SIGTERM, at once\n"


def test_a_forked_worker_leaves_ctrl_c_to_its_parent() -> None:
    code = (
        "import os, signal; from lit_gpt import signals\n"
        "with signals.handled():\n"
        "    for signum in signals.SIGNALS:\n"
        "        child = os.fork()\n"
        "        if not child:\n"
        "            os.kill(os.getpid(), signum); os._exit(7)\n"
        "        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["7", "143"], "")
