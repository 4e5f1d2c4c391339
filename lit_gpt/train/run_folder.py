"""Run directories: create, lock, list and clean them up; read and write run.json."""

import csv
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
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from lit_gpt import atomic_io
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.errors import UserError

CONFIG, FACTS, METRICS, CHECKPOINTS = "config.yaml", "run.json", "metrics.csv", "checkpoints"
_LOCK = ".lock"
_PACKAGES = ("lit-gpt", "torch", "lightning", "torchmetrics", "tokenizers", "jsonargparse", "safetensors", "numpy")


@dataclass
class RunDirectory:
    """The directory that a run writes to, its lock, and the checkpoint that it resumes from."""

    folder: Path | None = None  # None: nothing is written, as when validating
    checkpoint: Path | None = None  # that --resume continues from
    lock: IO[str] | None = None
    name: str | None = None  # as requested; the folder's may end in a number
    claimed: bool = False  # created by this process, which removes it if the run never starts
    notes: list[str] = field(default_factory=list)  # printed before the first step

    def release(self) -> None:
        """Releases the lock."""
        if self.lock is not None:
            self.lock.close()
            self.lock = None


def claim(root: str | Path, name: str) -> RunDirectory:
    """Creates and locks a new run directory: `<root>/<name>`, or `<name>-2`, `<name>-3`, ... if that exists.

    Other processes take it for a run once its run.json exists; it is locked before that.

    Raises:
        UserError: No permission, or a file is where a folder should be.
    """
    root = Path(root)
    writable(root)
    number = 1
    while True:
        folder = root / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise UserError(_no_folder(folder, error)) from None
        else:
            run_dir = RunDirectory(folder, lock=lock(folder), name=name, claimed=True)
            write_facts(folder, {"name": name, "started": now(), "state": "running"})
            return run_dir


def _no_folder(folder: Path, error: OSError) -> str:
    return (
        f"cannot make the run directory {folder}: {error.strerror}; "
        "choose another folder with --trainer.default_root_dir or another --name"
    )


def writable(root: Path) -> None:
    """Refuses early, before text is prepared, a root in which no run directory could be made."""
    parent = atomic_io.existing_parent(root)
    if not parent.is_dir():
        raise UserError(_no_folder(root, NotADirectoryError(20, f"{parent} is not a folder")))
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(_no_folder(root, PermissionError(13, f"no write permission in {parent}")))


def of_name(root: str | Path, name: str) -> list[Path]:
    """The directories of the runs that requested exactly this name, newest first.

    The requested name is in run.json: `gpt-2` is the second run named `gpt`, or one that was named `gpt-2`. Sorted by
    the start in run.json, then by number; never by the files' times, which copying changes.
    """
    pattern = re.compile(re.escape(name) + r"(?:-(\d+))?")
    matches = []
    for folder in Path(root).iterdir() if Path(root).is_dir() else ():
        match = pattern.fullmatch(folder.name)
        if match and folder.is_dir():
            facts = read_facts(folder)
            if facts.get("name", folder.name) == name:
                matches.append((_seconds(facts.get("started")), int(match[1] or 1), folder))
    return [folder for _, _, folder in sorted(matches, reverse=True)]


def to_resume(root: str | Path, name: str) -> list[Path]:
    """The directories that `--resume` searches: those of `of_name`, else the directory of that name."""
    folders = of_name(root, name)
    if not folders and (Path(root) / name / FACTS).is_file():
        folders = [Path(root) / name]
    return folders


def _seconds(when: Any) -> float:
    try:
        return datetime.fromisoformat(str(when)).timestamp()
    except ValueError:
        return 0.0


def lock(folder: Path, timeout: float = 0.5) -> IO[str]:
    """Locks a run directory until the returned file is closed or the process ends.

    Args:
        folder: The run directory.
        timeout: Seconds to wait: `running` holds the lock for an instant.

    Raises:
        UserError: Another process holds it, or the folder cannot be written.
    """
    try:
        return atomic_io.lock_file(folder / _LOCK, timeout)
    except TimeoutError:
        raise UserError(
            f"{folder} is being written by another run; wait for it, or start one with another --name"
        ) from None
    except OSError as error:
        raise UserError(f"cannot write in the run directory {folder}: {error.strerror}") from None


def never_saved(folder: Path) -> bool:
    """Whether the run of a directory ended before its first checkpoint, so that nothing of it can be used.

    A run that finished with `--trainer.enable_checkpointing false` has its metrics.
    """
    facts = read_facts(folder)
    return "name" in facts and facts.get("state") != "done" and not any((folder / CHECKPOINTS).glob("*.ckpt"))


def start_over(folder: Path) -> None:
    """Removes the metrics of a run that never saved, for the run that reuses its directory."""
    for file in (folder / METRICS, *folder.glob("events.out.tfevents.*")):
        file.unlink(missing_ok=True)


def sweep(root: str | Path) -> list[Path]:
    """Removes the temporary files that killed processes left in the run directories of a root.

    These are files `.NAME.PID`, where NAME is one that a run writes, and unlocked folders `.NAME.PID.importing`. Files
    of a live process and everything in a locked directory stay. Call it before this process writes: a file with its own
    PID is of an earlier process, as in containers, where each start may get the same PID.

    Returns:
        The removed paths.
    """
    removed: list[Path] = []
    for folder in Path(root).iterdir() if Path(root).is_dir() else ():
        if _IMPORT.fullmatch(folder.name) and (folder / _LOCK).is_file():  # a run directory once it is whole
            if not running(folder):
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
        elif os.access(folder / FACTS, os.F_OK):
            hidden = [*folder.glob(".*"), *(folder / CHECKPOINTS).glob(".*")]
            staged = [file for file in hidden if _is_stale(file) and not file.is_dir()]
            if staged and not running(folder):
                for file in staged:
                    with suppress(OSError):  # another user's, or swept by another start at this instant
                        file.unlink()
                        removed.append(file)
    return removed


_IMPORT = re.compile(r"\..+\.\d+\.importing")
_STAGED = re.compile(r"\..+\.(?:ckpt|json|csv|yaml)\.(\d+)")


def _is_stale(path: Path) -> bool:
    """Whether a file is a temporary one whose writer is dead."""
    match = _STAGED.fullmatch(path.name)
    return match is not None and (int(match[1]) == os.getpid() or not _alive(int(match[1])))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def discard(folder: Path) -> None:
    """Removes the directory of a run that never started; keeps it if it holds a checkpoint."""
    if not any(folder.glob(f"{CHECKPOINTS}/*.ckpt")):
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # the root, if no other run lies in it
            folder.parent.rmdir()


def running(folder: Path) -> bool:
    """Whether a process holds the run directory."""
    return atomic_io.is_locked(folder / _LOCK)


def facts(argv: list[str], threads: int) -> dict[str, Any]:
    """The entries of run.json for a start: command, commit, versions, machine, threads."""
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
    """The processor's name, where the system has it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def git_commit() -> str | None:
    """The git commit of this code, with `+changes` if files differ from it; None outside a clone."""
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
    """Replaces run.json."""
    atomic_io.write_bytes(folder / FACTS, (json.dumps(values, indent=2) + "\n").encode())


def read_facts(folder: Path) -> dict[str, Any]:
    """The entries of run.json; none if it is missing or damaged."""
    try:
        values = parse_json((folder / FACTS).read_text(encoding="utf-8"))
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
    """`running`, the state at its end (`done`, `stopped`, `failed`), or `broken off` if the process was killed."""
    if running(folder):
        return "running"
    recorded = read_facts(folder).get("state", "broken off")
    return "broken off" if recorded == "running" else str(recorded)


def runs(root: str | Path) -> list[Path]:
    """All run directories directly in a folder that this user can read, oldest first."""
    folders = [folder for folder in Path(root).iterdir() if os.access(folder / FACTS, os.R_OK)]
    return sorted(folders, key=lambda folder: (str(read_facts(folder).get("started", "")), folder.name))
