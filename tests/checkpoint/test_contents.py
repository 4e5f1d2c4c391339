"""Which checkpoint a path means, its fields and its format version, and the errors for other files."""

from pathlib import Path
from typing import Any

import pytest
import torch

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
    with pytest.raises(UserError, match=r"import it first: lit-gpt import .*theirs --out runs/theirs$"):
        checkpoint.find(tmp_path / "theirs")


def saved(path: Path, **fields: Any) -> Path:
    values: dict[str, Any] = {"state_dict": {"net.w": torch.ones(2), "objective.w": torch.ones(1)}, "global_step": 7}
    checkpoint.write_fields(values, **fields)
    torch.save(values, path)
    return path


def test_written_fields_are_read_back(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.ckpt", tokens=5, origin="GPT2LMHeadModel", config=None, fingerprints={"text": {}})
    read = checkpoint.read(file)
    assert (read.path, read.step, read.tokens, read.origin) == (file, 7, 5, "GPT2LMHeadModel")
    assert (read.config, read.tokenizer, read.logged_rows) == (None, None, None)
    assert list(read.weights) == ["w"] and not read.has_training_state
    assert set(torch.load(file, weights_only=True)) == {
        "state_dict", "global_step", "format_version", "tokens", "origin", "fingerprints",
    }  # fmt: skip


def test_a_field_that_no_reader_knows_is_not_written() -> None:
    with pytest.raises(AssertionError):
        checkpoint.write_fields({}, tokenz=1)


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_another_format_version_is_refused(tmp_path: Path, version: Any) -> None:
    torch.save({"state_dict": {}, "format_version": version}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="format version .*reads version 1"):
        checkpoint.read(tmp_path / "a.ckpt")
