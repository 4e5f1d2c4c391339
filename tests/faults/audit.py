"""What Python does while a hostile file is read: an audit hook notes processes, writes and strangers' modules."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PROCESSES = {
    "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "pty.spawn",
    "subprocess.Popen",
}  # fmt: skip
CONNECTIONS = {"socket.connect", "socket.bind", "socket.sendto"}
CHANGES = {
    "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "os.truncate",
    "shutil.copyfile", "shutil.move", "shutil.rmtree",
}  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
#: What the program itself starts: the commit and the processor of a run's record.
OUR_OWN = (["git", "rev-parse"], ["git", "status"], ["git", "-C"], ["uname", "-p"])


class _Watch:
    def __init__(self) -> None:
        self.allowed: tuple[str, ...] | None = None  # None: nothing is noted
        self.seen: list[str] = []
        self.strangers: set[str] = set()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed is None:
            return
        if event in PROCESSES:
            words = [str(word) for word in arguments[1]] if event == "subprocess.Popen" else []
            if not any(words[: len(own)] == own for own in OUR_OWN):
                self.seen.append(f"{event} {arguments!r:.200}")
        elif event in CONNECTIONS:
            self.seen.append(f"{event} {arguments[1:]!r:.100}")
        elif event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
            mode, flags = arguments[1], arguments[2]
            if (isinstance(mode, str) and set(mode) & set("wax+")) or (isinstance(flags, int) and flags & WRITES):
                self._written(event, arguments[0])
        elif event in CHANGES:
            for path in arguments[:2]:
                if isinstance(path, (str, bytes, os.PathLike)) and event not in ("os.link", "os.symlink"):
                    self._written(event, path)
            if event in ("os.link", "os.symlink"):
                self._written(event, arguments[1])
        elif event == "import" and arguments[0].partition(".")[0] in self.strangers:
            self.seen.append(f"import {arguments[0]}")

    def _written(self, event: str, path: Any) -> None:
        where = os.path.realpath(os.fsdecode(path))
        assert self.allowed is not None
        if where != "/dev/null" and not where.startswith(self.allowed):
            self.seen.append(f"{event} {where}")


_WATCH = _Watch()
_installed = False


@contextmanager
def watched(*allowed: Path, strangers: set[str]) -> Iterator[list[str]]:
    """Notes each process that is started, each file that is changed outside, each import of a stranger's module.

    Args:
        allowed: Folders in which files may be changed.
        strangers: Packages that may not be imported.
    """
    global _installed
    if not _installed:  # a hook cannot be taken away, so there is one, which is silent outside of this block
        sys.addaudithook(_WATCH)
        _installed = True
    _WATCH.seen, _WATCH.strangers = [], strangers
    _WATCH.allowed = tuple(f"{folder.resolve()}{os.sep}" for folder in allowed) + tuple(
        str(folder.resolve()) for folder in allowed
    )
    try:
        yield _WATCH.seen
    finally:
        _WATCH.allowed = None
