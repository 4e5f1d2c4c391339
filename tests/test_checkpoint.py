"""What a path to a checkpoint can mean, and what is said where it means none."""

from pathlib import Path

import pytest

from lit_gpt import checkpoint
from lit_gpt.errors import UserError


def test_a_run_means_its_best_checkpoint_else_its_last(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "last.ckpt").touch()
    assert checkpoint.find(tmp_path / "run") == folder / "last.ckpt"
    (folder / "best.ckpt").touch()
    assert checkpoint.find(tmp_path / "run") == folder / "best.ckpt"
    assert checkpoint.find(folder) == folder / "best.ckpt"
    assert checkpoint.find(folder / "last.ckpt") == folder / "last.ckpt"


def test_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    (tmp_path / "one" / "checkpoints").mkdir(parents=True)
    (tmp_path / "two" / "checkpoints").mkdir(parents=True)
    with pytest.raises(UserError, match="is a folder of runs; name one of them: one, two"):
        checkpoint.find(tmp_path)
    with pytest.raises(UserError, match="holds no checkpoint"):
        checkpoint.find(tmp_path / "one")
    with pytest.raises(UserError, match=r"three does not exist; .* holds one, two"):
        checkpoint.find(tmp_path / "three")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(UserError, match="is not a readable checkpoint .it is cut short, or of another program"):
        checkpoint.read(tmp_path / "text.ckpt")
    (tmp_path / "void.ckpt").touch()
    with pytest.raises(UserError, match="is not a readable checkpoint .it is empty"):
        checkpoint.read(tmp_path / "void.ckpt")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.json").touch()
    with pytest.raises(UserError, match=r"take it in first: lit-gpt import .*theirs --out runs/theirs$"):
        checkpoint.find(tmp_path / "theirs")
