"""Run directories: claimed atomically, locked while a run writes, described by run.json, listed.

Knows files only: no torch, no training.
"""

import csv
import fcntl
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from lit_gpt.errors import UserError

CONFIG, FACTS, METRICS, CHECKPOINTS = "config.yaml", "run.json", "metrics.csv", "checkpoints"
_LOCK = ".lock"
_PACKAGES = ("lit-gpt", "torch", "lightning", "torchmetrics", "tokenizers", "jsonargparse", "safetensors", "numpy")


@dataclass
class Place:
    """Where a run writes, and what it goes on from."""

    folder: Path | None = None  # None: nothing is written, as when validating
    checkpoint: Path | None = None  # what --resume goes on from
    lock: IO[str] | None = None
    notes: list[str] = field(default_factory=list)  # said before the first step


def claim(root: str | Path, name: str) -> Path:
    """Makes a run directory that no other run has: `<root>/<name>`, or `<name>-2`, `<name>-3`, ... where that is taken.

    Raises:
        UserError: no permission, or a file stands where a folder should.
    """
    root = Path(root)
    writable(root)
    number = 1
    while True:
        folder = root / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise UserError(_no_folder(folder, error)) from None


def _no_folder(folder: Path, error: OSError) -> str:
    return (
        f"cannot make the run directory {folder}: {error.strerror}; "
        "choose another place with --trainer.default_root_dir or another --name"
    )


def writable(root: Path) -> None:
    """Refuses early, before text is prepared, a root in which no run directory could be made."""
    at = root.absolute()
    while not at.exists() and at != at.parent:
        at = at.parent
    if not at.is_dir():
        raise UserError(_no_folder(root, NotADirectoryError(20, f"{at} is not a folder")))
    if not os.access(at, os.W_OK | os.X_OK):
        raise UserError(_no_folder(root, PermissionError(13, f"no write permission in {at}")))


def of_name(root: str | Path, name: str) -> list[Path]:
    """The run directories of a name, newest first: by their number, never by time stamps."""
    pattern = re.compile(re.escape(name) + r"(?:-(\d+))?")
    found = []
    for folder in Path(root).iterdir() if Path(root).is_dir() else ():
        match = pattern.fullmatch(folder.name)
        if match and folder.is_dir():
            found.append((int(match[1] or 1), folder))
    return [folder for _, folder in sorted(found, reverse=True)]


def lock(folder: Path) -> IO[str]:
    """Keeps others from writing to a run directory until the returned file is closed or the process ends.

    Raises:
        UserError: another process holds it, or the folder cannot be written.
    """
    try:
        file = open(folder / _LOCK, "w")
    except OSError as error:
        raise UserError(f"cannot write in the run directory {folder}: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise UserError(
            f"{folder} is being written by another run; wait for it, or start one with another --name"
        ) from None
    return file


def discard(folder: Path) -> None:
    """Takes back a claimed directory of a run that never began; keeps it where a checkpoint was written."""
    if not any(folder.glob(f"{CHECKPOINTS}/*.ckpt")):
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # the root, if no other run lies in it
            folder.parent.rmdir()


def running(folder: Path) -> bool:
    """Whether a process holds the run directory."""
    try:
        with open(folder / _LOCK) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


def facts(argv: list[str], threads: int) -> dict[str, Any]:
    """What run.json says of a start: command, commit, versions, machine, threads."""
    return {
        "command": shlex.join(["lit-gpt", *argv]),
        "started": now(),
        "git_commit": git_commit(),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {
            "host": platform.node(),
            "system": platform.platform(),
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        },
        "threads": threads,
        "folder": os.getcwd(),
        "executable": sys.executable,
    }


def now() -> str:
    """Local time with its offset, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def processor() -> str:
    """The processor's name where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit() -> str | None:
    """The commit of the clone that this code lies in, `+changes` where files differ from it; None outside a clone."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def write_facts(folder: Path, values: dict[str, Any]) -> None:
    """Replaces run.json in one step, so that a reader never sees half of it."""
    part = folder / f"{FACTS}.part"
    part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / FACTS)


def read_facts(folder: Path) -> dict[str, Any]:
    """run.json, or nothing where it is missing or broken."""
    try:
        values = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def last_metrics(folder: Path) -> dict[str, str]:
    """The last value of every column of metrics.csv."""
    last: dict[str, str] = {}
    try:
        with open(folder / METRICS, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                last.update({key: value for key, value in row.items() if key and value})
    except OSError:
        pass
    return last


def state(folder: Path) -> str:
    """`running`, what the run said at its end (`done`, `stopped`, `failed`), or `broken off` where it could not say."""
    if running(folder):
        return "running"
    said = read_facts(folder).get("state", "broken off")
    return "broken off" if said == "running" else str(said)


def runs(root: str | Path) -> list[Path]:
    """All run directories under a folder, one level deep, oldest first; those that this user may not read left out."""
    found = [folder for folder in Path(root).iterdir() if os.access(folder / FACTS, os.R_OK)]
    return sorted(found, key=lambda folder: (str(read_facts(folder).get("started", "")), folder.name))
