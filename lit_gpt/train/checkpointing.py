"""Saves checkpoints: atomic and verified file I/O, and the callbacks that keep the best ones and the last ones."""

import hashlib
import math
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import lightning.pytorch as lightning
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_gpt import atomic_io, signals
from lit_gpt.checkpoint import Checkpoint, manifest
from lit_gpt.errors import UserError
from lit_gpt.train import weights_only
from lit_gpt.train.boundaries import between_steps, validation_due
from lit_gpt.train.lean_callback import LeanCallback
from lit_gpt.train.stopping import NonFiniteStop, SavesAtStop, stop_if_asked

_NAME = re.compile(r"(best|last)-[\w.=-]+\.ckpt")


class VerifiedIO(CheckpointIO):
    """Writes a checkpoint atomically and then its manifest; reads only a file that matches its manifest."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        target = Path(path)
        with signals.held(), atomic_io.disk_errors(target, _expected_bytes(checkpoint, target.parent)):
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_io.staged_path(target) as staged:
                written = _write_synced(checkpoint, staged)
            # Until the new manifest is there the old one does not fit this file, so it is refused by its sha256. Before
            # the rename, the old file and its manifest fit.
            try:
                manifest.write_manifest(target, facts(checkpoint) | {"bytes": written.size, "sha256": written.digest()})
            except atomic_io.CannotWrite:  # without a manifest the file only takes the space that is missing
                self.remove_checkpoint(target)
                raise

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        manifest.verify(path)
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: str | Path) -> None:
        atomic_io.remove(manifest.manifest_path(path))
        atomic_io.remove(Path(path))


def facts(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The entries of the manifest besides size and sha256, from which a resume can tell whether it is exact."""
    saved = Checkpoint.of(checkpoint)
    return {
        "step": saved.step,
        "tokens": saved.tokens,
        "fingerprints": saved.fingerprints,
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "lightning": lightning.__version__,
        },
    }


def _write_synced(checkpoint: dict[str, Any], path: Path) -> "_Hashing":
    """Writes a file and waits until it is on disk.

    Raises:
        OSError: As the system raised it; torch's archive writer turns it into a RuntimeError without its number.
    """
    hashing = None
    try:
        with open(path, "wb") as file:
            hashing = _Hashing(file)
            try:
                torch.save(checkpoint, hashing)  # type: ignore[arg-type]  # it needs no more than write and flush
            except weights_only.PICKLING_ERRORS:
                raise weights_only.not_picklable(checkpoint) from None
            file.flush()
            weights_only.check_loadable(path, checkpoint)
            atomic_io.fsync_file(file)
    except Exception as error:
        if hashing is not None and hashing.error is not None and error is not hashing.error:
            raise hashing.error from error
        raise
    return hashing


def _expected_bytes(checkpoint: dict[str, Any], folder: Path) -> int:
    """Estimated bytes of a checkpoint: of its tensors, or of the largest file in the folder if that is more."""
    return max([_tensor_bytes(checkpoint), *(one.stat().st_size for one in folder.glob("*.ckpt") if one.exists())])


def _tensor_bytes(value: Any) -> int:
    """Bytes of all tensors of a checkpoint; shared storage counts once."""
    found: dict[int, int] = {}
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, torch.Tensor):
            storage = one.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
    return sum(found.values())


class _Hashing:
    """A writable file that counts and hashes its bytes, and keeps the first OSError of a write."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._sha, self.size = file, hashlib.sha256(), 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            written = self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise
        self._sha.update(data)
        self.size += len(data)
        return written

    def flush(self) -> None:
        self._file.flush()

    def digest(self) -> str:
        return self._sha.hexdigest()


class _Checkpoints(LeanCallback, ModelCheckpoint):
    """Shared by both kinds. Lightning's triggers are replaced by those of the subclasses."""

    link: str
    saves_at_boundaries = True  # of optimizer steps, by its own hooks; see `boundaries.install`

    def __init__(self, dirpath: str | Path) -> None:
        super().__init__(dirpath=dirpath, every_n_epochs=0, every_n_train_steps=0)
        self._saved_at = -1

    @property
    def state_key(self) -> str:
        return type(self).__name__  # Lightning's is composed anew a dozen times a step

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        pass

    on_train_batch_end: Any = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pass

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pass

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pass

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        pass

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # What was resumed from is saved already; saving again would overwrite it in the middle of its own window.
        self._saved_at = trainer.global_step

    @property
    def folder(self) -> Path:
        assert self.dirpath is not None
        return Path(self.dirpath)

    def _path(self, prefix: str, step: int) -> str:
        return str(self.folder / f"{prefix}-{step:06d}.ckpt")

    def _write(self, trainer: Trainer, path: str) -> None:
        """Saves, on all ranks; refuses if a step since the last check was not finite."""
        accumulators = getattr(trainer.lightning_module, "accumulators", None)
        if accumulators is not None and accumulators.unhealthy:
            raise NonFiniteStop(f"loss or gradient is not finite at step {trainer.global_step}: nothing was saved")
        if accumulators is None:
            trainer.save_checkpoint(path, weights_only=False)
        else:
            with accumulators.paused():
                trainer.save_checkpoint(path, weights_only=False)
        self._saved_at = trainer.global_step
        if trainer.is_global_zero:
            atomic_io.write_link(self.folder / self.link, Path(path))

    def _idle(self, trainer: Trainer) -> bool:
        return bool(
            trainer.fast_dev_run  # type: ignore[attr-defined]
            or trainer.sanity_checking
            or trainer.state.fn != "fit"
            or self._saved_at == trainer.global_step
        )

    def _existing_names(self, names: Iterable[Any]) -> list[str]:
        """The names in a checkpoint's state that are checkpoints in this folder.

        The state may come from anywhere and its files are removed later, so a name is never a path.
        """
        plain = [name for name in names if isinstance(name, str) and _NAME.fullmatch(name)]
        return [name for name in plain if (self.folder / name).is_file() and not (self.folder / name).is_symlink()]

    def _forget(self, trainer: Trainer, names: list[str], ended: bool = False) -> list[str]:
        """Removes checkpoints; returns the names that stay for now.

        The checkpoint that the run was resumed from is kept besides the others until this run ends or is resumed again.
        """
        resumed = None if ended or trainer.ckpt_path is None else Path(trainer.ckpt_path).resolve()
        kept = [name for name in names if (self.folder / name).resolve() == resumed]
        for name in names:
            if name not in kept:
                trainer.strategy.remove_checkpoint(str(self.folder / name))
        return kept


class BestCheckpoint(_Checkpoints):
    """Keeps the best checkpoints by a validation metric; `best.ckpt` links to the best.

    Args:
        dirpath: Folder of the checkpoints.
        monitor: Metric to compare by.
        mode: Whether less is better (min) or more (max).
        save_top_k: How many to keep.
    """

    link = "best.ckpt"

    def __init__(self, dirpath: str | Path, monitor: str = "val_loss", mode: str = "min", save_top_k: int = 1) -> None:
        super().__init__(dirpath)
        if save_top_k < 1:
            raise UserError(f"BestCheckpoint: save_top_k is {save_top_k}; give 1 or more")
        if mode not in ("min", "max"):
            raise UserError(f"BestCheckpoint: mode is {mode!r}; give min or max")
        self.monitor, self.mode, self.save_top_k = monitor, mode, save_top_k
        self._ranking: list[tuple[float, str]] = []  # best first; (score, file name)
        self._surplus: list[str] = []  # no longer among the best, and not removed yet

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._idle(trainer):
            return
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            raise UserError(f"BestCheckpoint: no metric {self.monitor!r}; there are {', '.join(sorted(metrics))}")
        score = float(metrics[self.monitor])
        if not math.isfinite(score):
            return
        sign = 1.0 if self.mode == "min" else -1.0
        path = self._path("best", trainer.global_step)
        ranking = [entry for entry in self._ranking if entry[1] != Path(path).name] + [(score, Path(path).name)]
        ranking.sort(key=lambda entry: sign * entry[0])
        gone, ranking = ranking[self.save_top_k :], ranking[: self.save_top_k]
        if any(name == Path(path).name for _, name in gone):
            return
        self._ranking = ranking  # before saving, as it is part of what is saved
        self._surplus += [name for _, name in gone]
        self._set_lightning_attributes()
        best = self.best_model_path
        self._write(trainer, path)
        if trainer.is_global_zero:
            atomic_io.write_link(self.folder / self.link, Path(best))
        self._surplus = self._forget(trainer, self._surplus)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._surplus = self._forget(trainer, self._surplus, ended=True)

    def _set_lightning_attributes(self) -> None:
        """Sets the attributes that Lightning and its loggers read."""
        if self._ranking:
            self.best_model_path = str(self.folder / self._ranking[0][1])
            self.best_model_score = torch.tensor(self._ranking[0][0])
        self.best_k_models = {str(self.folder / name): torch.tensor(score) for score, name in self._ranking}

    def state_dict(self) -> dict[str, Any]:
        ranking = [list(entry) for entry in self._ranking]
        return {"monitor": self.monitor, "ranking": ranking, "surplus": list(self._surplus)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict.get("monitor") == self.monitor:
            names = self._existing_names(name for _, name in state_dict["ranking"])
            self._ranking = [(float(score), name) for score, name in state_dict["ranking"] if name in names]
            self._surplus = self._existing_names(state_dict.get("surplus", []))
            self._set_lightning_attributes()


class LastCheckpoint(_Checkpoints, SavesAtStop):
    """Saves the state to resume from; `last.ckpt` links to the newest.

    Args:
        dirpath: Folder of the checkpoints.
        every_n_train_steps: Optimizer steps between two checkpoints; None saves at each validation. The end of the
            run is always saved.
        save_last_k: How many to keep.
    """

    link = "last.ckpt"

    def __init__(self, dirpath: str | Path, every_n_train_steps: int | None = None, save_last_k: int = 1) -> None:
        super().__init__(dirpath)
        if every_n_train_steps is not None and every_n_train_steps < 1:
            raise UserError(f"LastCheckpoint: every_n_train_steps is {every_n_train_steps}; give 1 or more steps")
        if save_last_k < 1:
            raise UserError(f"LastCheckpoint: save_last_k is {save_last_k}; give 1 or more")
        self.every_n_train_steps, self.save_last_k = every_n_train_steps, save_last_k
        self._names: list[str] = []  # of all existing ones, oldest first
        self._due = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any) -> None:
        if self.every_n_train_steps is None or trainer.global_step % self.every_n_train_steps or self._idle(trainer):
            return
        if not between_steps(trainer):
            return
        if validation_due(trainer):
            self._due = True  # saved after the validation, so that a resumed run does not skip it
        else:
            self.save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (self.every_n_train_steps is None or self._due) and not self._idle(trainer):
            self.save(trainer)
        self._due = False
        # A signal that came during the validation does not wait for one more step. All ranks end a validation together.
        if self._saved_at == trainer.global_step != trainer.max_steps and not trainer.sanity_checking:
            if trainer.state.fn == "fit":
                stop_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._idle(trainer):
            self.save(trainer)
        self._remove_surplus(trainer, ended=True)

    def save(self, trainer: Trainer) -> str | None:
        """Saves at the end of an optimizer step and returns the path; also called when a run is stopped early."""
        path = self._path("last", trainer.global_step)
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return None
        if self._saved_at == trainer.global_step:
            return path if Path(path).exists() else None
        name = Path(path).name
        self._names = [known for known in self._names if known != name] + [name]
        self.last_model_path = path
        self._write(trainer, path)
        self._remove_surplus(trainer)
        return path

    def _remove_surplus(self, trainer: Trainer, ended: bool = False) -> None:
        surplus, newest = self._names[: -self.save_last_k], self._names[-self.save_last_k :]
        self._names = self._forget(trainer, surplus, ended) + newest

    def state_dict(self) -> dict[str, Any]:
        return {"names": list(self._names)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._names = self._existing_names(state_dict["names"])
