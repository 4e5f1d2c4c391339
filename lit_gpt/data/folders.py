"""Data folders: the cache folder, JSON manifests, locks, and what to do when the disk refuses."""

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lit_gpt import atomic_io
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.progress import say
from lit_gpt.errors import UserError


def make_folder(path: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        UserError: this user may not, or the disk is full or read-only.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"folder {path} cannot be made ({error.strerror}); give another data.folder or set LIT_GPT_CACHE"
        ) from None


def read_manifest(path: Path, kind: str, version: int, keys: Sequence[str] = ()) -> dict[str, Any]:
    """A manifest, after a look at whether it is one, of this version, and whole.

    Args:
        path: Its file.
        kind: What the folder is, as its `format` says.
        version: The one that this program reads.
        keys: What it has to say.
    """
    try:
        manifest = parse_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path.parent} is not a finished {kind}: it has no {path.name}; prepare it") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); remove {path.parent} and prepare again") from None
    if not isinstance(manifest, dict) or manifest.get("format") != kind:
        raise UserError(f"{path} is not the manifest of a {kind}; give another folder")
    if manifest.get("version") != version:
        raise UserError(
            f"{path} is of version {manifest.get('version')}, this program reads version {version};"
            f" remove {path.parent} and prepare again"
        )
    if missing := [key for key in keys if key not in manifest]:
        raise UserError(f"{path} is damaged (it lacks {', '.join(missing)}); remove {path.parent} and prepare again")
    return manifest


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces a JSON file.

    Raises:
        OSError: The disk refused.
    """
    # Of names that are not Unicode the odd bytes are written as JSON's own escapes.
    text = json.dumps(content, indent=1, ensure_ascii=False)
    with atomic_io.staged_file(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def cache_folder() -> Path:
    """Where corpora go by default: LIT_GPT_CACHE, else lit_gpt in XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("LIT_GPT_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "lit_gpt"


@contextmanager
def exclusive(lock: Path, activity: str) -> Iterator[None]:
    """Runs the block in one process at a time; reports when it has to wait.

    Args:
        lock: File to lock, in a folder that exists.
        activity: What the other process does, such as "prepares corpus".
    """
    with disk_hints(lock.parent):
        try:
            handle = atomic_io.lock_file(lock, timeout=2)
        except TimeoutError:
            say(f"waiting for another process that {activity}")
            handle = atomic_io.lock_file(lock)
    with handle:
        yield


_HINTS = {
    errno.EFBIG: "the disk or a limit of this user (ulimit -f) allows no larger file; give a data.folder on another"
    " disk, or raise the limit",
    errno.EIO: "run it again (it continues where it stopped), or give a data.folder on another disk",
    **dict.fromkeys(
        atomic_io.DISK_FULL,
        "free some and run it again (it continues where it stopped), or give a data.folder on another disk",
    ),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "give another data.folder or set LIT_GPT_CACHE"),
}


@contextmanager
def disk_hints(target: Path) -> Iterator[None]:
    """Raises `CannotWrite` for a data folder, with what the user can do, where the disk refuses to write it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _HINTS:
            raise
        path = error.filename if error.errno == errno.EIO and error.filename else target
        raise atomic_io.CannotWrite(path, error, hint=_HINTS[error.errno]) from None
