"""Checkpoints: whole or absent at every instant, verified before use, ranked, linked."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from standins import TinyData, tiny, trainer

from lit_gpt import checkpoint
from lit_gpt.checkpoint import manifest
from lit_gpt.errors import UserError
from lit_gpt.train.checkpointing import BestCheckpoint, LastCheckpoint, VerifiedIO


def write(path: Path, step: int, weight: float = 1.0) -> None:
    VerifiedIO().save_checkpoint({"global_step": step, "state_dict": {"w": torch.full((100,), weight)}}, path)


def test_what_was_saved_is_loaded_and_the_manifest_says_what_it_is(tmp_path: Path) -> None:
    write(tmp_path / "a.ckpt", 7, 2.0)
    facts = manifest.verify(tmp_path / "a.ckpt")
    assert facts["step"] == 7
    assert facts["threads"] == torch.get_num_threads()
    assert facts["versions"]["torch"] == torch.__version__
    assert torch.equal(VerifiedIO().load_checkpoint(tmp_path / "a.ckpt")["state_dict"]["w"], torch.full((100,), 2.0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ckpt", "a.ckpt.json"]


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "one bit":
        data[len(data) // 2] ^= 1
    if how == "cut":
        del data[-10:]
    path.write_bytes(data)
    if how == "no manifest":
        manifest.manifest_path(path).unlink()
    if how == "torn manifest":
        manifest.manifest_path(path).write_text('{"step": 9, "by')


@pytest.mark.parametrize("how", ["one bit", "cut", "no manifest", "torn manifest"])
def test_a_damaged_file_is_refused_and_the_one_before_is_found(tmp_path: Path, how: str) -> None:
    write(tmp_path / "last-5.ckpt", 5)
    write(tmp_path / "last-9.ckpt", 9)
    damage(tmp_path / "last-9.ckpt", how)
    with pytest.raises(UserError, match="last-9.ckpt"):
        VerifiedIO().load_checkpoint(tmp_path / "last-9.ckpt")
    found, refused = manifest.newest_valid(tmp_path)
    assert found == tmp_path / "last-5.ckpt"
    assert len(refused) == 1
    assert "last-9.ckpt" in refused[0]
    assert "\n" not in refused[0]


def test_newest_goes_by_step_and_never_by_time(tmp_path: Path) -> None:
    write(tmp_path / "b.ckpt", 20)
    write(tmp_path / "a.ckpt", 10)
    os.utime(tmp_path / "b.ckpt", (0, 0))
    assert manifest.newest_valid(tmp_path) == (tmp_path / "b.ckpt", [])
    assert manifest.newest_valid(tmp_path / "nowhere") == (None, [])


@pytest.mark.parametrize("fatal", range(1, 12))
def test_dying_at_any_call_of_a_save_leaves_the_old_or_the_new_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fatal: int
) -> None:
    """The process ends (as far as files go) at the n-th call that touches the disk."""
    write(tmp_path / "old.ckpt", 1, 1.0)
    write(tmp_path / "same.ckpt", 2, 2.0)
    calls = itertools.count(1)

    class Died(BaseException):
        pass

    def dying(real: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(calls) >= fatal:
                raise Died
            return real(*args, **kwargs)

        return call

    for name in ("replace", "fsync"):
        monkeypatch.setattr(os, name, dying(getattr(os, name)))
    monkeypatch.setattr(Path, "unlink", dying(Path.unlink))
    try:
        write(tmp_path / "same.ckpt", 3, 3.0)
    except Died:
        pass
    monkeypatch.undo()
    found, _ = manifest.newest_valid(tmp_path)
    assert found is not None
    loaded = VerifiedIO().load_checkpoint(found)
    assert (loaded["global_step"], float(loaded["state_dict"]["w"][0])) in [(1, 1.0), (2, 2.0), (3, 3.0)]


def fit_with(folder: Path, scores: list[float], **best: Any) -> tuple[BestCheckpoint, LastCheckpoint]:
    """A run that validates every second step and is told its validation losses."""
    told = iter(scores)

    class Told(BestCheckpoint):
        def on_validation_end(self, fit: Any, module: Any) -> None:
            fit.callback_metrics["told"] = torch.tensor(next(told))
            super().on_validation_end(fit, module)

    callbacks = Told(folder, monitor="told", **best), LastCheckpoint(folder)
    fit = trainer(
        max_steps=2 * len(scores),
        val_check_interval=2,
        check_val_every_n_epoch=None,
        limit_val_batches=1,
        enable_checkpointing=True,
        callbacks=list(callbacks),
        plugins=[VerifiedIO()],
    )
    fit.fit(tiny(), datamodule=TinyData())
    return callbacks


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("*.ckpt"))


def test_best_and_last_are_kept_and_linked(tmp_path: Path) -> None:
    best, _ = fit_with(tmp_path, [3.0, 1.0, 2.0, float("nan")])
    assert names(tmp_path) == ["best-000004.ckpt", "best.ckpt", "last-000008.ckpt", "last.ckpt"]
    assert os.readlink(tmp_path / "best.ckpt") == "best-000004.ckpt"
    assert os.readlink(tmp_path / "last.ckpt") == "last-000008.ckpt"
    assert best.best_model_path == str(tmp_path / "best-000004.ckpt")
    assert float(best.best_model_score) == 1.0
    assert checkpoint.read(tmp_path / "best.ckpt").step == 4
    assert {p.name for p in tmp_path.iterdir()} == {*names(tmp_path), "best-000004.ckpt.json", "last-000008.ckpt.json"}


@pytest.mark.parametrize(("mode", "kept"), [("min", ["000004", "000006"]), ("max", ["000002", "000008"])])
def test_the_best_k_are_kept(tmp_path: Path, mode: str, kept: list[str]) -> None:
    fit_with(tmp_path, [3.0, 1.0, 2.0, 2.5], save_top_k=2, mode=mode)
    assert [n for n in names(tmp_path) if n.startswith("best-")] == [f"best-{step}.ckpt" for step in kept]
    assert os.readlink(tmp_path / "best.ckpt") == f"best-{'000004' if mode == 'min' else '000002'}.ckpt"


def test_last_every_n_steps_besides_the_end(tmp_path: Path) -> None:
    last = LastCheckpoint(tmp_path, every_n_train_steps=3, save_last_k=2)
    fit = trainer(max_steps=8, limit_val_batches=0, enable_checkpointing=True, callbacks=[last], plugins=[VerifiedIO()])
    fit.fit(tiny(), datamodule=TinyData())
    assert names(tmp_path) == ["last-000006.ckpt", "last-000008.ckpt", "last.ckpt"]
    assert json.loads((tmp_path / "last-000006.ckpt.json").read_text())["step"] == 6


def test_an_unknown_metric_is_named(tmp_path: Path) -> None:
    best = BestCheckpoint(tmp_path, monitor="val_los")
    fit = trainer(enable_checkpointing=True, callbacks=[best])
    with pytest.raises(UserError, match="no metric 'val_los'; there are val_accuracy, val_bpb, val_loss"):
        fit.fit(tiny(), datamodule=TinyData(rows=8))


@pytest.mark.parametrize(
    "make",
    [
        lambda: LastCheckpoint("x", every_n_train_steps=0),
        lambda: LastCheckpoint("x", save_last_k=0),
        lambda: BestCheckpoint("x", save_top_k=0),
    ],
)
def test_impossible_numbers_are_named(make: Any) -> None:
    with pytest.raises(UserError, match="give 1 or more"):
        make()


@pytest.mark.parametrize("ended", [True, False])
def test_resumes_leave_no_more_checkpoints_than_keep(tmp_path: Path, ended: bool) -> None:
    """Best and last ones; what a run resumed from stays only until it has ended, or is resumed again."""

    class Dies(Callback):
        def on_train_batch_end(self, fit: Any, *_: Any) -> None:
            if not ended and fit.global_step % 10 == 9:
                raise KeyError

    resume = None
    for round_ in range(1, 5):
        steps = 10 * round_
        callbacks = [Dies(), BestCheckpoint(tmp_path), LastCheckpoint(tmp_path, every_n_train_steps=2, save_last_k=2)]
        options = {"val_check_interval": 2, "check_val_every_n_epoch": None, "limit_val_batches": 1}
        fit = trainer(
            max_steps=steps, callbacks=callbacks, plugins=[VerifiedIO()], enable_checkpointing=True, **options
        )
        try:
            fit.fit(tiny(), datamodule=TinyData(), ckpt_path=resume, weights_only=True)
        except KeyError:
            pass
        resume = tmp_path / "last.ckpt"
        kept = [sum(name.startswith(kind) for name in names(tmp_path)) for kind in ("last-", "best-")]
        assert all(there <= most for there, most in zip(kept, (2, 1) if ended else (3, 2), strict=True)), kept


def test_a_checkpoints_state_names_no_file_elsewhere(tmp_path: Path) -> None:
    """What the state of a stranger's checkpoint names would be removed when it is one too many."""
    victim, folder = tmp_path / "victim.ckpt", tmp_path / "checkpoints"
    folder.mkdir()
    for file in (victim, folder / "last-000001.ckpt", folder / "best-000001.ckpt"):
        file.write_bytes(b"")
    names = [str(victim), "../victim.ckpt", "last-000001.ckpt", 7]
    last = LastCheckpoint(dirpath=folder)
    last.load_state_dict({"names": names})
    assert last.state_dict()["names"] == ["last-000001.ckpt"]
    best = BestCheckpoint(dirpath=folder)
    ranking = [[1.0, "best-000001.ckpt"], [2.0, str(victim)], [3.0, "../victim.ckpt"]]
    best.load_state_dict({"monitor": best.monitor, "ranking": ranking, "surplus": names})
    assert best.state_dict()["ranking"] == [[1.0, "best-000001.ckpt"]]
    assert best.state_dict()["surplus"] == ["last-000001.ckpt"]
