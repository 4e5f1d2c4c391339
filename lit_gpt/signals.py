"""SIGINT and SIGTERM for the whole life of a process: one handler, one way to end, one line.

Independent of commands and training. Outside of `held` blocks a signal raises `Stopped` at once; within one it waits
for the end of the block, or until the code polls `waiting`. A second signal ends the process at once.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
AGAIN = "the same command starts again"


class Stopped(BaseException):
    """SIGINT or SIGTERM ended the process outside the training loop. Its text is one line for the user.

    Not a KeyboardInterrupt: Lightning turns that into exit code 1, and libraries take it for an answer.

    Args:
        signum: The signal.
        doing: A phrase that completes "while ...", or empty.
        left: What was kept, and the command that resumes.
    """

    def __init__(self, signum: int, doing: str = "", left: str = AGAIN) -> None:
        super().__init__(signum, doing, left)
        self.signum, self.doing, self.left = int(signum), doing, left
        self.exit_code = 128 + self.signum

    def __str__(self) -> str:
        while_ = f" while {self.doing}" if self.doing else ""
        return f"stopped by {signal.Signals(self.signum).name}{while_}: {self.left}"


class _Process:
    """What this process knows of signals."""

    def __init__(self) -> None:
        self.owner = 0  # the process that installed the handler; a forked worker has another number
        self.received: int | None = None
        self.raised = False
        self.held = 0
        self.doing: list[tuple[str, str]] = []
        self.before: dict[int, Any] = {}

    def stop(self, signum: int) -> Stopped:
        self.raised = True
        return Stopped(signum, *(self.doing[-1] if self.doing else ()))


_process = _Process()


def installed() -> bool:
    """Whether signals of this process come here."""
    return _process.owner == os.getpid()


@contextmanager
def handled() -> Iterator[None]:
    """Has signals handled here until the end of the block; does nothing within another such block.

    Signals can be handled in the main thread only; in another one, such as a server's, they stay as they were.
    """
    if installed() or threading.current_thread() is not threading.main_thread():
        yield
        return
    # What is held and being done stays: a script may have begun it before the trainer takes its signals.
    _process.received, _process.raised = None, False
    _process.owner = os.getpid()
    _process.before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    unraisable, sys.unraisablehook = sys.unraisablehook, _again(sys.unraisablehook)
    put_back()
    try:
        yield
    finally:
        if _process.owner == os.getpid():
            _process.owner = 0
            sys.unraisablehook = unraisable
            for signum, handler in _process.before.items():
                signal.signal(signum, handler)


def put_back() -> None:
    """Takes the signals again after a library has set handlers of its own."""
    if installed() and threading.current_thread() is threading.main_thread():
        for signum in SIGNALS:
            signal.signal(signum, _receive)


@contextmanager
def doing(what: str, left: str = AGAIN) -> Iterator[None]:
    """Says what is being done within the block, and what will be left of it if it is stopped there.

    Args:
        what: As it stands behind `while`, such as "tokenizing".
        left: What is still there and what goes on with it.
    """
    _process.doing.append((what, left))
    try:
        yield
    except KeyboardInterrupt:  # raised by a library that has asked the system itself
        if not installed():
            raise
        raise _process.stop(_process.received or signal.SIGINT) from None
    finally:
        _process.doing.pop()


@contextmanager
def held() -> Iterator[None]:
    """Has signals wait for the end of the block: what is done in it is done whole or fails by itself."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals arrive in the main thread
        return
    hold()
    try:
        yield
    finally:
        release()
    check()


def hold() -> None:
    """Has signals wait until `release`; may be nested."""
    _process.held += 1


def release() -> None:
    """Undoes one `hold`. What has waited is raised by `check`."""
    _process.held -= 1


@contextmanager
def kept_from_children() -> Iterator[None]:
    """Processes that are started within ignore Ctrl-C, which a terminal sends to all of them: the parent terminates
    them. Where the parent has one in between, it waits for the end of the block."""
    from multiprocessing import resource_tracker

    # The tracker that multiprocessing starts with its first process unblocks the signal again (Python below 3.14).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def waiting() -> int | None:
    """The signal that was received and has not been acted on."""
    return None if _process.raised else _process.received


def received() -> int | None:
    """The signal that was received since the handler was installed."""
    return _process.received


def check() -> None:
    """Raises `Stopped` for a signal that has waited, unless it has to wait on."""
    if (signum := waiting()) is not None and not _process.held:
        raise _process.stop(signum)


def taken() -> None:
    """Says that the signal that waited is acted on."""
    _process.raised = True


def stopped_by(signum: int) -> Stopped:
    """What a signal says that reached this process by another way, such as a KeyboardInterrupt of a library."""
    return _process.stop(signum)


def _receive(signum: int, frame: FrameType | None) -> None:
    if os.getpid() != _process.owner:  # a forked worker: its parent ends it and reports why
        if signum == signal.SIGTERM:
            os._exit(128 + signum)
        return
    if _process.received is not None:
        _end(signum, f"stopped by a second {signal.Signals(signum).name}, at once")
    _process.received = signum
    if _process.held:
        return
    if not _process.doing and _importing(frame):
        # Nothing was begun. An exception in the middle of an import may come out as any other, or not at all.
        _end(signum, str(_process.stop(signum)))
    raise _process.stop(signum)


def _end(signum: int, line: str) -> None:
    os.write(2, f"lit-gpt: {line}\n".encode())  # print may wait for a lock that the interrupted code holds
    os._exit(128 + signum)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False


def _send_after(left: threading.Event, signum: int) -> None:
    left.wait()
    time.sleep(0.1)
    os.kill(os.getpid(), signum)


def _again(otherwise: Any) -> Any:
    """Python drops an exception that is raised in a destructor or a callback of C; the signal is sent once more."""

    def hook(unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, Stopped):
            _process.received, _process.raised = None, False
            left = threading.Event()  # what is raised in this call would be dropped too
            threading.Thread(target=_send_after, args=(left, unraisable.exc_value.signum), daemon=True).start()
            left.set()
        else:
            otherwise(unraisable)

    return hook
