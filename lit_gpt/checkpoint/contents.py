"""Contents of a checkpoint: named fields with a format version, the one reader and the one writer of them.

A checkpoint is a Lightning `.ckpt` file that `torch.load(weights_only=True)` reads. Lightning writes the weights, the
optimizer, the loops and the callbacks; the fields here are what this project adds, and what it reads of both.
"""

import shlex
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_gpt.checkpoint import manifest
from lit_gpt.config.safe_parsing import check_plain
from lit_gpt.errors import UserError

FORMAT_VERSION = 1
_PLAIN_FIELDS = ("config", "tokenizer", "format", "origin")  # read as configuration, so bounded in depth and size
_PADDING = 1 << 24  # bytes by which an archive may unpack to more than twice its size


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of itself; fields that were not written have their defaults.

    Args:
        path: The file, for errors.
        state_dict: Weights; those of the net are named `net.*`.
        step: Optimizer steps so far.
        config: The resolved configuration of the run: `model`, `data`, `trainer`.
        tokenizer: `Tokenizer.state`.
        format: Configuration of the document format.
        origin: The Hugging Face architecture that the net was imported from.
        tokens: Tokens trained on.
        fingerprints: Of the text and the tokenizer; see `lit_gpt.data.fingerprints`.
        accumulators: `Accumulators.state`, the sums that training continues.
        logged_rows: Rows of metrics.csv at the time.
        has_training_state: Whether a trainer wrote it, with optimizer and loops; an imported net has none.
    """

    path: Path
    state_dict: dict[str, Tensor]
    step: int = 0
    config: dict[str, Any] | None = None
    tokenizer: dict[str, Any] | None = None
    format: dict[str, Any] | None = None
    origin: str | None = None
    tokens: int | None = None
    fingerprints: dict[str, Any] = field(default_factory=dict)
    accumulators: dict[str, float] | None = None
    logged_rows: int | None = None
    has_training_state: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any], path: Path = Path("checkpoint")) -> "Checkpoint":
        """The fields of a checkpoint dict that Lightning saves or has loaded."""
        written = {name: values[name] for name in _WRITTEN & values.keys()}
        return cls(
            path,
            values.get("state_dict", {}),
            int(values.get("global_step", 0)),
            has_training_state="pytorch-lightning_version" in values,
            **written,
        )

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights of the net by their names in it."""
        return {name.removeprefix("net."): w for name, w in self.state_dict.items() if name.startswith("net.")}

    def net_config(self) -> dict[str, Any]:
        """`{"class_path": ..., "init_args": {...}}` of the net.

        Raises:
            UserError: It was written without one (by a net that was not built from a config), or its sizes are not
                those of the weights.
        """
        try:
            assert self.config is not None
            net: dict[str, Any] = self.config["model"]["net"]
            arguments = net["init_args"]
            depth = arguments.get("depth", 0)
        except (AssertionError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.path} does not say how its net is built; make nets with build() or the command line"
            ) from error
        embedding = self.state_dict.get("net.embedding.weight")
        for name, size in zip(("vocab_size", "width"), () if embedding is None else embedding.shape, strict=False):
            if name in arguments and arguments[name] != size:
                raise UserError(f"{self.path} has an embedding of {name} {size} for a net of {arguments[name]!r:.40}")
        if not isinstance(depth, int) or depth > len(self.state_dict):
            raise UserError(f"{self.path} holds {len(self.state_dict)} tensors for a net of depth {depth!r:.20}")
        return net


_WRITTEN = {one.name for one in fields(Checkpoint)} - {"path", "state_dict", "step", "has_training_state"}


def write_fields(values: dict[str, Any], **written: Any) -> None:
    """Adds fields of `Checkpoint`, and the format version, to the dict that is saved; None is not written."""
    assert written.keys() <= _WRITTEN, written.keys() - _WRITTEN
    values |= {"format_version": FORMAT_VERSION} | {name: value for name, value in written.items() if value is not None}


def read(path: str | Path, verify: bool = True) -> Checkpoint:
    """Reads a checkpoint; its tensors are memory-mapped.

    Args:
        path: As of `find`.
        verify: Whether the whole file is read and compared with its manifest. Without it a file of any size opens at
            once: enough for names and shapes.

    Raises:
        UserError: It is missing, unreadable, damaged or no checkpoint.
    """
    file = find(path)
    if verify and manifest.manifest_path(file).exists():
        manifest.verify(file)
    try:
        _refuse_swollen(file)
        values = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except PermissionError as error:
        raise UserError(f"checkpoint {file} cannot be read: no permission") from error
    except Exception as error:  # torch's reader of pickles raises anything for a forged file
        if isinstance(error, UserError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if not zipfile.is_zipfile(file):  # torch names its own options there
            reason = "it is cut short, or of another program" if file.stat().st_size else "it is empty"
        raise UserError(f"{file} is not a readable checkpoint ({reason[:120]}); give a .ckpt of a run") from error
    if not isinstance(values, dict) or "state_dict" not in values:
        raise UserError(f"{file} is not a checkpoint of lit_gpt: it has no state_dict")
    weights = values["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise UserError(f"{file} is not a checkpoint of lit_gpt: its state_dict holds other things than tensors")
    if (version := values.get("format_version")) != FORMAT_VERSION:
        raise UserError(f"{file} has format version {version!r:.20}; this program reads version {FORMAT_VERSION}")
    try:
        check_plain([values.get(name) for name in _PLAIN_FIELDS])
    except ValueError as error:
        raise UserError(f"{file} holds settings that cannot be read: {error}; give a .ckpt of a run") from None
    return Checkpoint.of(values, file)


def _refuse_swollen(file: Path) -> None:
    """Refuses an archive whose members unpack to far more than the file's size; torch compresses nothing."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    size = file.stat().st_size
    if unpacked > 2 * size + _PADDING:
        raise UserError(f"{file} has {size:,} bytes and unpacks to {unpacked:,}; it is not a .ckpt of a run")


def find(path: str | Path) -> Path:
    """The checkpoint that a path means: the file itself, or a run directory's best one, else its last.

    Raises:
        UserError: There is none.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        for name in ("best.ckpt", "last.ckpt"):
            if (folder / name).exists():
                return folder / name
        runs = sorted(run.name for run in path.iterdir() if (run / "checkpoints").is_dir())[:8]
        if runs:
            raise UserError(f"{path} is a folder of runs; name one of them: {', '.join(runs)}")
        if (path / "config.json").is_file():
            raise UserError(
                f"{path} is a Hugging Face folder; import it first: "
                f"lit-gpt import {shlex.quote(str(path))} --out runs/{shlex.quote(path.resolve().name)}"
            )
        raise UserError(f"{path} holds no checkpoint (looked for {folder}/best.ckpt and last.ckpt); train it first")
    if not path.exists():
        siblings = sorted(p.name for p in path.parent.iterdir())[:8] if path.parent.is_dir() else []
        hint = f"; {path.parent} holds {', '.join(siblings)}" if siblings else "; `lit-gpt runs` lists all runs"
        raise UserError(f"checkpoint {path} does not exist{hint}")
    return path
