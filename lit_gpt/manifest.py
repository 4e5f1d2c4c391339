"""The small JSON file beside a checkpoint that says: this file is whole. It is the commit marker of a save.

Knows files, sizes and sha256; knows nothing of torch or of what a checkpoint holds.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from lit_gpt import disk, signals
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.errors import UserError

SUFFIX = ".json"


def manifest_path(path: str | Path) -> Path:
    """Where the manifest of a checkpoint lies; links such as best.ckpt are followed."""
    real = Path(path).resolve()
    return real.with_name(real.name + SUFFIX)


def write_whole(path: Path, data: bytes) -> None:
    """Write so that the path holds the old or the new bytes at any instant, a power cut included.

    Raises:
        CannotWrite: the disk refused; the old bytes are still there.
    """
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    with signals.held(), disk.writing(path, len(data)):
        try:
            with open(staged, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(staged, path)
        except BaseException:
            disk.remove(staged)
            raise
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable (POSIX keeps the directory entry apart from the file's data)."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders, and has no need to
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_manifest(path: Path, facts: dict[str, Any]) -> None:
    """Commit the checkpoint at `path`: facts must hold step, bytes and sha256."""
    assert {"step", "bytes", "sha256"} <= facts.keys()
    write_whole(manifest_path(path), (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The facts beside a checkpoint.

    Raises:
        UserError: no checkpoint, no manifest, or one that is not readable.
    """
    real = Path(path).resolve()
    if not real.is_file():
        raise UserError(f"no checkpoint at {path}")
    marker = manifest_path(real)
    try:
        facts = parse_json(marker.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} has no manifest {marker.name}: its saving was cut short; use an older one") from None
    except (OSError, ValueError) as error:
        raise UserError(f"the manifest {marker} cannot be read ({error}); use another checkpoint") from None
    if not isinstance(facts, dict) or not {"step", "bytes", "sha256"} <= facts.keys():
        raise UserError(f"the manifest {marker} lacks step, bytes or sha256; use another checkpoint")
    return facts


def verify(path: str | Path) -> dict[str, Any]:
    """The manifest of a checkpoint after its size and sha256 were found right (1.1 GB/s).

    Raises:
        UserError: missing, cut short or changed, in one line.
    """
    facts = read_manifest(path)
    real = Path(path).resolve()
    size = real.stat().st_size
    if size != facts["bytes"]:
        raise UserError(f"{path} has {size:,} bytes, its manifest says {facts['bytes']:,}: cut short; use another one")
    with open(real, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != facts["sha256"]:
        raise UserError(f"{path} was changed after it was saved (its sha256 differs); use another checkpoint")
    return facts


def newest_valid(folder: str | Path) -> tuple[Path | None, list[str]]:
    """The checkpoint of the highest step that is whole, and one line for each newer one that is not.

    By step, never by time: copying a run changes times. Of two with one step the links' target `last.ckpt` wins.
    """
    folder = Path(folder)
    last = (folder / "last.ckpt").resolve()
    ranked: list[tuple[int, bool, str, Path]] = []
    refused: list[str] = []
    for path in sorted(folder.glob("*.ckpt")):
        if path.is_symlink():
            continue
        try:
            ranked.append((int(read_manifest(path)["step"]), path == last, path.name, path))
        except UserError as error:
            refused.append(str(error))
    for _, _, _, path in sorted(ranked, reverse=True):
        try:
            verify(path)
        except UserError as error:
            refused.append(str(error))
            continue
        return path, refused
    return None, refused
