"""Atomic file writes: temporary file, fsync, rename; locks, staged folders, and errors of a full or read-only disk.

At any instant, a power cut included, a path that is written here holds the old or the new bytes. Nothing else in the
package renames, calls fsync or takes a file lock; `tests/test_atomic_io.py` checks that.
"""

import errno
import fcntl
import os
import shutil
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from lit_gpt import signals
from lit_gpt.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_ERRORS = (*DISK_FULL, errno.EIO, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


class CannotWrite(UserError):
    """A file could not be written; what the path held before is still there.

    Args:
        path: The file, by the name that the user knows.
        error: What the system said.
        needed: Bytes to be written, where that is known.
        hint: What to do, or what can be continued from.
    """

    def __init__(self, path: str | Path, error: OSError, needed: int | None = None, hint: str = "") -> None:
        super().__init__(path, error, needed, hint)
        self.path, self.errno, self.needed, self.hint = Path(path), error.errno, needed, hint
        self.reason = error.strerror or str(error) or type(error).__name__
        self.free = free_bytes(self.path)

    def __str__(self) -> str:
        message = f"cannot write {self.path}: {self.reason}"
        if self.errno in DISK_FULL:
            needs = "" if self.needed is None else f"{self.needed:,} bytes are needed, "
            message += f" ({needs}{self.free:,} bytes are free)"
        return f"{message}; {self.hint}" if self.hint else message


@contextmanager
def disk_errors(path: str | Path, needed: int | None = None, hint: str = "") -> Iterator[None]:
    """Raises `CannotWrite` for this path instead of an OSError; the arguments are those of `CannotWrite`."""
    try:
        yield
    except OSError as error:
        raise CannotWrite(path, error, needed, hint) from error


def free_bytes(path: Path) -> int:
    """Bytes that this user can still write on the disk of a path, which need not exist yet."""
    try:
        return shutil.disk_usage(existing_parent(path)).free
    except OSError:
        return 0


def existing_parent(path: Path) -> Path:
    """The path itself or, where it does not exist, the nearest folder above it that does."""
    path = path.absolute()
    return next((parent for parent in (path, *path.parents) if parent.exists()), path)


# -- files -------------------------------------------------------------------------------------------------------------


def fsync_file(file: IO[Any]) -> None:
    """Flushes an open file and waits until the disk has its bytes."""
    file.flush()
    os.fsync(file.fileno())


def fsync_path(path: Path) -> None:
    """Waits until the disk has the bytes of a closed file, or the entries of a folder."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders, and does not need to
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def rename(source: Path, target: Path) -> None:
    """Renames a file or folder durably; its bytes are on disk already. Replaces a file or an empty folder."""
    os.replace(source, target)
    fsync_path(target.parent)


@contextmanager
def staged_path(path: Path) -> Iterator[Path]:
    """A temporary path, `.NAME.PID` beside `path`: what the block creates there is renamed to `path` when it ends.

    A signal waits for the end of the block. After an exception nothing is left of it.

    Raises:
        OSError: The disk refused; see `disk_errors`.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    with signals.held():
        try:
            yield staged
            rename(staged, path)
        except BaseException:
            remove(staged)
            raise


@contextmanager
def staged_file(path: Path) -> Iterator[IO[bytes]]:
    """A file opened for writing that replaces `path` when the block ends; see `staged_path`."""
    with staged_path(path) as staged, open(staged, "wb") as file:
        yield file
        fsync_file(file)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces a file's content.

    Raises:
        CannotWrite: The disk refused.
    """
    with disk_errors(path, len(content)), staged_file(path) as file:
        file.write(content)


def write_link(link: Path, target: Path) -> None:
    """Makes a symbolic link to the target, relative, so that both can be moved.

    Raises:
        CannotWrite: The disk refused.
    """
    with disk_errors(link), staged_path(link) as staged:
        staged.unlink(missing_ok=True)  # of a killed process that had this number
        staged.symlink_to(os.path.relpath(target, link.parent))


def remove(path: Path) -> None:
    """Removes a file if it is there; used after an error, so a disk that refuses this too is not reported again."""
    try:
        os.unlink(path)
    except OSError:
        pass


# -- folders -----------------------------------------------------------------------------------------------------------


@contextmanager
def staged_folder(target: Path, suffix: str = "writing") -> Iterator[Path]:
    """A folder beside `target` that is renamed to it when the block ends, and removed after an exception.

    Args:
        target: Does not exist, or is an empty folder.
        suffix: Ends the temporary name, `.NAME.PID.SUFFIX`.

    Raises:
        OSError: The disk refused; see `disk_errors`.
    """
    target = target.absolute()
    staged = target.with_name(f".{target.name}.{os.getpid()}.{suffix}")
    shutil.rmtree(staged, ignore_errors=True)  # of a killed process that had this number
    try:
        staged.mkdir(parents=True)
        yield staged
        fsync_path(staged)
        rename(staged, target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def swap_folder(new: Path, target: Path, old: Path) -> None:
    """Renames `new` to `target`, and what was at the target to `old`."""
    shutil.rmtree(old, ignore_errors=True)  # of a process that was killed after this
    with signals.held():  # a stop between the two renames would leave nothing at the target
        if target.exists():
            # Processes that have the old files mapped keep them until they end.
            os.replace(target, old)
        rename(new, target)


# -- locks -------------------------------------------------------------------------------------------------------------


def lock_file(path: Path, timeout: float | None = None) -> IO[str]:
    """Locks a file until the returned handle is closed or the process ends.

    Args:
        path: Created if it does not exist.
        timeout: Seconds to wait for another process that holds it; None waits until it lets go.

    Raises:
        TimeoutError: Another process holds it.
        OSError: The file cannot be written.
    """
    file = open(path, "w")
    try:
        if timeout is None:
            fcntl.flock(file, fcntl.LOCK_EX)
        else:
            _lock_before(time.monotonic() + timeout, file)
    except BaseException:
        file.close()
        raise
    _held.add(file)
    return file


def _lock_before(deadline: float, file: IO[str]) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{file.name} is locked by another process") from None
            time.sleep(0.01)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of `lock_file`."""
    try:
        with open(path) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _close_inherited() -> None:
    """A forked worker outlives a killed process by seconds: with its lock, it would keep a run from being resumed."""
    for file in _held:
        file.close()


_held: "weakref.WeakSet[IO[str]]" = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)
