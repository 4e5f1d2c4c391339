"""A disk that is full or fails at any write, sync or rename: one line, exit code 2, and the older state loads."""

import builtins
import errno
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_gpt import atomic_io
from lit_gpt.__main__ import main
from lit_gpt.checkpoint import manifest
from lit_gpt.train.checkpointing import VerifiedIO

FAULTS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO}


class Disk:
    """Counts what is asked of the disk, and refuses the k-th call of one kind and all later ones of that kind.

    Args:
        patch: For the time of the test.
        folder: Writes to files below it count.
        name: Of them those with this in their names.
    """

    def __init__(self, patch: pytest.MonkeyPatch, folder: Path, name: str = "") -> None:
        self.calls: Counter[str] = Counter()
        self.refuse: tuple[str, int, int] | None = None
        self.folder, self.name = str(folder), name
        self._open = builtins.open
        patch.setattr(builtins, "open", self.opened)
        patch.setattr(os, "fsync", self.counted("fsync", os.fsync))
        patch.setattr(os, "replace", self.counted("rename", os.replace))

    def ask(self, kind: str) -> None:
        self.calls[kind] += 1
        if self.refuse is not None and kind == self.refuse[0] and self.calls[kind] >= self.refuse[1]:
            raise OSError(self.refuse[2], os.strerror(self.refuse[2]))

    def counted(self, kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.ask(kind)
            return real(*arguments, **options)

        return call

    def opened(self, file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        made = self._open(file, mode, *arguments, **options)
        if not set(mode) & set("wax+") or not str(file).startswith(self.folder) or self.name not in str(file):
            return made
        return Writes(made, self)


class Writes:
    """A file each write of which is asked of the disk."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def write(self, data: Any) -> int:
        self._disk.ask("write")
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "Writes":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def save(path: Path, step: int) -> None:
    state = {f"w{n}": torch.full((100,), float(step)) for n in range(3)}
    VerifiedIO().save_checkpoint({"global_step": step, "state_dict": state}, path)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["write", "fsync", "rename"])
def test_each_call_of_a_save_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, fault: str) -> None:
    save(tmp_path / "last-1.ckpt", 1)
    watched = Disk(monkeypatch, tmp_path)
    save(tmp_path / "last-2.ckpt", 2)
    asked = watched.calls[kind]
    assert asked >= 2  # of the file and of its manifest
    for call in range(1, asked + 1):
        folder = tmp_path / f"{call}"
        folder.mkdir()
        save(folder / "last-1.ckpt", 1)
        watched.calls.clear()
        watched.refuse = kind, call, FAULTS[fault]
        with pytest.raises(atomic_io.CannotWrite) as told:
            save(folder / "last-2.ckpt", 2)
        watched.refuse = None
        line = str(told.value)
        assert "\n" not in line and re.search(r"cannot write \S+/last-2\.ckpt(\.json)?: ", line)
        assert os.strerror(FAULTS[fault]) in line
        if fault == "ENOSPC":
            assert re.search(r"\([\d,]+ bytes are needed, [\d,]+ bytes are free\)", line)
        found, _ = manifest.newest_valid(folder)
        assert found is not None
        assert VerifiedIO().load_checkpoint(found)["global_step"] in ((1, 2) if kind == "fsync" else (1,))
        assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_an_overwritten_checkpoint_stays_where_its_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "last-1.ckpt", 1)
    Disk(monkeypatch, tmp_path).refuse = "rename", 1, errno.EIO
    with pytest.raises(atomic_io.CannotWrite):
        save(tmp_path / "last-1.ckpt", 1)
    assert manifest.newest_valid(tmp_path) == (tmp_path / "last-1.ckpt", [])


TINY = """--data.tokenizer Byte --data.context 8 --data.batch_size 4 --model.net.width 16 --model.net.depth 1
    --model.net.heads 2 --trainer.max_steps 6 --trainer.val_check_interval 2 --trainer.limit_val_batches 1
    --trainer.accelerator cpu --trainer.enable_progress_bar false --sample.max_new_tokens 2"""


def fit(root: Path, text: Path) -> list[str]:
    return shlex.split(f"fit --name one --trainer.default_root_dir {root} --data.source.paths {text} {TINY}")


@pytest.mark.parametrize("fault", ["ENOSPC", pytest.param("EIO", marks=pytest.mark.slow)])
def test_a_run_says_what_goes_on_from_where(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, fault: str
) -> None:
    watched = Disk(monkeypatch, tmp_path / "runs/one/checkpoints")
    saved = VerifiedIO.save_checkpoint

    def third(self: VerifiedIO, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        if "last-000004" in str(path):
            watched.refuse = "write", 1, FAULTS[fault]
        saved(self, checkpoint, path, storage_options)

    with monkeypatch.context() as patch:
        patch.setattr(VerifiedIO, "save_checkpoint", third)
        assert main(fit(tmp_path / "runs", text_file)) == 2
    watched.refuse = None
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.match(r"lit-gpt: error: cannot write \S+/last-000004.ckpt: ", said)
    assert ("free some space and `lit-gpt fit " in said) == (fault == "ENOSPC")
    named = re.search(r"`lit-gpt ([^`]+)` resumes from \S+/best-000004.ckpt$", said)
    assert named and main(shlex.split(named[1])) == 0
    assert "step 6  tokens " in capsys.readouterr().out


@pytest.mark.parametrize("name", ["metrics.csv", "config.yaml", "run.json"])
@pytest.mark.parametrize("fault", FAULTS)
def test_other_files_of_a_run_are_named_too(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, name: str, fault: str
) -> None:
    Disk(monkeypatch, tmp_path, name).refuse = "write", 1, FAULTS[fault]
    assert main(fit(tmp_path / "runs", text_file)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "\n".join(lines)
    assert re.match(rf"lit-gpt: error: cannot write \S+/{re.escape(name)}: {os.strerror(FAULTS[fault])}", lines[-1])


def test_free_space_is_that_of_the_place_to_be(tmp_path: Path) -> None:
    assert atomic_io.free_bytes(tmp_path / "not/yet/there") > 0
