"""The working folder beside a prepared folder: its lock, and what a stopped run left in it for the next one."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lit_gpt import atomic_io, signals
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.folders import exclusive, make_folder, write_json
from lit_gpt.data.progress import say
from lit_gpt.errors import UserError


class Stopped(UserError):
    """The work ends here; the next run continues it."""


def place_of(folder: str | Path) -> Path:
    """The folder that a path means: for a link its target, since the link itself would be replaced."""
    place = Path(folder).expanduser()
    return Path(os.path.realpath(place)) if place.is_symlink() or place.name in ("", "..") else place


def check_replaceable(target: Path) -> None:
    """Refuses a folder that no rename can replace, before work is put into it."""
    if os.path.ismount(target):
        raise UserError(
            f"data.folder {target} is where a disk is mounted, so it cannot be made anew; give a folder in it, such as"
            f" {target / 'corpus'}"
        )
    here, real = Path.cwd(), Path(os.path.realpath(target))
    if real == here or real in here.parents:
        raise UserError(f"data.folder {target} holds the folder that this runs in; give a folder in it, such as corpus")


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """One process at a time."""
    with exclusive(_lock_of(target), f"prepares {target}"):
        yield


@contextmanager
def working_folder(target: Path, identity: dict[str, Any]) -> Iterator[Path]:
    """The working folder of a target, with what a stopped run of the same recipe left in it.

    It is removed at the end, unless the work is stopped or the disk is full.
    """
    working = _beside(target)
    if _recipe_in(working) == identity:
        say(f"{target}: going on with what was prepared before it was stopped")
    else:
        shutil.rmtree(working, ignore_errors=True)
        make_folder(working)
        write_json(working / "recipe.json", identity)
    try:
        with signals.doing(f"preparing {target}", "the same command goes on where it was"):
            yield working
    except UserError as error:
        if not isinstance(error, Stopped):
            shutil.rmtree(working, ignore_errors=True)
        raise
    shutil.rmtree(working, ignore_errors=True)


def clear_left_over(target: Path, identities: list[dict[str, Any]]) -> None:
    """Removes the working folder of a finished target, where a process was killed before it did so.

    Args:
        target: The prepared folder.
        identities: Of the recipes that are finished; the working folder of another recipe is kept.
    """
    working = _beside(target.absolute())
    if not working.exists():
        return
    with suppress(OSError):  # another process works there, or this user can only read
        with atomic_io.lock_file(_lock_of(target), timeout=0):
            if _recipe_in(working) in (None, *identities):
                shutil.rmtree(working, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.preparing")


def _lock_of(target: Path) -> Path:
    return target.absolute().parent / f".{target.name}.lock"


def _recipe_in(working: Path) -> Any:
    try:
        return parse_json((working / "recipe.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
