"""What a disk refuses, told in one line: which file, why, and how much space there is.

Knows files and error numbers; knows nothing of what is written.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lit_gpt.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
FAULTS = (*FULL, errno.EIO, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


class CannotWrite(UserError):
    """A file could not be written; nothing that was there before was lost.

    Args:
        path: The file.
        error: What the system said.
        needed: Bytes that are to be written, where that is known.
    """

    def __init__(self, path: str | Path, error: OSError, needed: int | None = None) -> None:
        super().__init__(path, error, needed)
        self.path, self.errno, self.needed = Path(path), error.errno, needed
        self.reason = error.strerror or str(error) or type(error).__name__
        self.free = free_bytes(self.path)
        self.left = ""  # what is still there to go on from, where whoever tells it knows

    def __str__(self) -> str:
        said = f"cannot write {self.path}: {self.reason}"
        if self.errno in FULL:
            needs = "" if self.needed is None else f"{self.needed:,} bytes are needed, "
            said += f" ({needs}{self.free:,} bytes are free)"
        return f"{said}; {self.left}" if self.left else said


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write where a path is, or would be."""
    at = path.absolute()
    while not at.exists() and at != at.parent:
        at = at.parent
    try:
        return shutil.disk_usage(at).free
    except OSError:
        return 0


@contextmanager
def writing(path: str | Path, needed: int | None = None) -> Iterator[None]:
    """Tells what the system refuses within the block as a fault of this file.

    Args:
        path: What is written, by the name that the user knows.
        needed: Bytes that are to be written, where that is known.

    Raises:
        CannotWrite: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise CannotWrite(path, error, needed) from error


def remove(path: Path) -> None:
    """Removes what is half written, if it is there; a disk that refuses that too has been told of already."""
    try:
        os.unlink(path)
    except OSError:
        pass
