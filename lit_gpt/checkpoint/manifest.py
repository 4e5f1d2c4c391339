"""The manifest beside a checkpoint: JSON with its step, size and sha256. It is written last and commits the save."""

import hashlib
import json
from pathlib import Path
from typing import Any

from lit_gpt import atomic_io
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.errors import UserError

SUFFIX = ".json"
_verified: dict[Path, tuple[Any, ...]] = {}  # files whose sha256 was right, as stat and manifest describe them


def manifest_path(path: str | Path) -> Path:
    """Where the manifest of a checkpoint lies; links such as best.ckpt are followed."""
    real = Path(path).resolve()
    return real.with_name(real.name + SUFFIX)


def write_manifest(path: Path, facts: dict[str, Any]) -> None:
    """Commit the checkpoint at `path`: facts must hold step, bytes and sha256."""
    assert {"step", "bytes", "sha256"} <= facts.keys()
    atomic_io.write_bytes(manifest_path(path), (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())


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
    """The manifest of a checkpoint whose size and sha256 are right (1.1 GB/s); hashes an unchanged file once a process.

    Raises:
        UserError: missing, cut short or changed, in one line.
    """
    facts = read_manifest(path)
    real = Path(path).resolve()
    state = real.stat()
    size, identity = state.st_size, (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns, facts["sha256"])
    if _verified.get(real) == identity:
        return facts
    if size != facts["bytes"]:
        raise UserError(f"{path} has {size:,} bytes, its manifest says {facts['bytes']:,}: cut short; use another one")
    with open(real, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != facts["sha256"]:
        raise UserError(f"{path} was changed after it was saved (its sha256 differs); use another checkpoint")
    _verified[real] = identity
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
