"""Writes a checkpoint from safetensors, one tensor at a time: an import needs memory for its largest tensor alone.

The file is laid out first without the tensors' bytes (`torch.serialization.skip_data`), then each tensor is written at
its offset.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lit_gpt import atomic_io
from lit_gpt.checkpoint import manifest

BLOCK = 1 << 24  # bytes written at a time


class CheckpointWriter:
    """A checkpoint that is being written; without `commit` nothing of it is left.

    Args:
        file: Where it will stand.
        shapes: Of each tensor of the state dict.
        dtypes: Of each tensor of the state dict.
        same: Names in the state dict that are another one's tensor (a tied head).
        rest: Everything else in the checkpoint: plain data.
    """

    def __init__(
        self,
        file: Path,
        shapes: dict[str, tuple[int, ...]],
        dtypes: dict[str, torch.dtype],
        same: dict[str, str],
        rest: dict[str, Any],
    ) -> None:
        self.file = file
        self._staged = file.with_name(f".{file.name}.{os.getpid()}")
        with FakeTensorMode():
            state = {name: torch.empty(shape, dtype=dtypes[name]) for name, shape in shapes.items()}
            state |= {name: state[other] for name, other in same.items()}
        with torch.serialization.skip_data(materialize_fake_tensors=True):
            torch.save({"state_dict": state, **rest}, self._staged)
        with FakeTensorMode():
            laid_out = torch.load(self._staged, weights_only=True)["state_dict"]
        self._offsets = {name: laid_out[name].untyped_storage()._checkpoint_offset for name in shapes}
        self._shapes, self._dtypes = shapes, dtypes
        self._open = {*shapes}
        self._handle = open(self._staged, "r+b")

    def __enter__(self) -> CheckpointWriter:
        return self

    def put(self, name: str, tensor: Tensor) -> None:
        """Writes one tensor, cast to the type that was announced for it."""
        assert tuple(tensor.shape) == tuple(self._shapes[name]), (name, tensor.shape, self._shapes[name])
        self._open.remove(name)
        self._handle.seek(self._offsets[name])
        rows = tensor.reshape(1) if tensor.ndim == 0 else tensor
        step = max(1, BLOCK // max(1, rows[0].numel() * 8))
        for start in range(0, rows.shape[0], step):
            block = rows[start : start + step].to(self._dtypes[name]).contiguous()
            self._handle.write(block.view(torch.uint8).numpy().data)

    def commit(self) -> None:
        """Syncs, renames, and writes the manifest that vouches for the file."""
        assert not self._open, f"never written: {sorted(self._open)[:3]}"
        atomic_io.fsync_file(self._handle)
        self._handle.seek(0)
        digest = hashlib.file_digest(self._handle, "sha256").hexdigest()
        size = os.fstat(self._handle.fileno()).st_size
        atomic_io.rename(self._staged, self.file)
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        manifest.write_manifest(self.file, {"step": 0, "bytes": size, "sha256": digest, "versions": versions})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.close()
        self._staged.unlink(missing_ok=True)
