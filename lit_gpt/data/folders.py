"""Folders that appear whole or not at all, and the small JSON files that say what is in them.

Knows: names, renames, the disk. Does not know: what the files hold.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lit_gpt import disk
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.progress import say
from lit_gpt.errors import UserError


class StagedFolder:
    """A folder beside the target to write in; removed at the end with whatever was not moved out of it."""

    def __init__(self, target: Path) -> None:
        self.path = target.parent / f".{target.name}.{os.getpid()}.writing"

    def __enter__(self) -> Path:
        shutil.rmtree(self.path, ignore_errors=True)  # left by a process that was killed and had our number
        make_folder(self.path)
        return self.path

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        UserError: this user may not, or the disk is full or read-only.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise UserError(
            f"folder {path} cannot be made ({fault.strerror}); give another data.folder or set LIT_GPT_CACHE"
        ) from None


def read_manifest(path: Path, form: str, version: int, keys: Sequence[str] = ()) -> dict[str, Any]:
    """A manifest, after a look at whether it is one, of this version, and whole.

    Args:
        path: Its file.
        form: What the folder is, as its `format` says.
        version: The one that this program reads.
        keys: What it has to say.
    """
    try:
        manifest = parse_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path.parent} is not a finished {form}: it has no {path.name}; prepare it") from None
    except ValueError as fault:
        raise UserError(f"{path} is damaged ({fault}); remove {path.parent} and prepare again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != form:
        raise UserError(f"{path} is not the manifest of a {form}; give another folder")
    if manifest.get("version") != version:
        raise UserError(
            f"{path} is of version {manifest.get('version')}, this program reads version {version};"
            f" remove {path.parent} and prepare again"
        )
    if missing := [key for key in keys if key not in manifest]:
        raise UserError(f"{path} is damaged (it lacks {', '.join(missing)}); remove {path.parent} and prepare again")
    return manifest


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON and waits until the disk has it."""
    # Of names that are no Unicode the odd bytes are written as JSON's own escapes.
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the disk has a folder's entries."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_folder() -> Path:
    """Where corpora go by default: LIT_GPT_CACHE, else lit_gpt in XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("LIT_GPT_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lit_gpt"


@contextmanager
def one_at_a_time(lock: Path, does: str) -> Iterator[None]:
    """One process at a time; says so where it has to wait.

    Args:
        lock: File that is locked, in a folder that is there.
        does: What the other one is at, such as "prepares corpus".
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock)
    with disk_faults(lock.parent):
        try:
            held.acquire(timeout=2)
        except Timeout:
            say(f"waiting for another process that {does}")
            held.acquire()
    try:
        yield
    finally:
        held.release()


@contextmanager
def disk_faults(target: Path) -> Iterator[None]:
    """Tells a full disk or a missing permission in one line that names the folder."""
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"no permission to write {target}; give another data.folder or set LIT_GPT_CACHE") from None
        if fault.errno == errno.EFBIG:
            raise UserError(
                f"a file of {target} grows larger than the disk or a limit of this user (ulimit -f) allows; give a"
                " data.folder on another disk, or raise the limit"
            ) from None
        if fault.errno in disk.FULL:
            raise UserError(
                f"no space left to write {target} ({disk.free_bytes(target):,} bytes are free); free some and run it"
                " again (it goes on where it stopped), or give a data.folder on another disk"
            ) from None
        if fault.errno == errno.EIO:
            raise UserError(
                f"{fault.filename or target} cannot be written or read: {fault.strerror}; run it again (it goes on"
                " where it stopped), or give a data.folder on another disk"
            ) from None
        raise
