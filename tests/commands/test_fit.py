"""Which run `--resume` continues, what it refuses, and which process of a run writes its files."""

import csv
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning.fabric.utilities.rank_zero import _get_rank
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lit_gpt import atomic_io
from lit_gpt.__main__ import main
from lit_gpt.checkpoint import manifest
from lit_gpt.commands.fit import resume_command, resumed
from lit_gpt.config.command_line import CommandLine
from lit_gpt.data.fingerprints import changes
from lit_gpt.errors import UserError
from lit_gpt.train import run_folder
from lit_gpt.train.ranks import is_first, settle_rank

TINY = [
    *("--model.net.width=16", "--model.net.depth=1", "--model.net.heads=2", "--model.net.context=8"),
    *("--data.tokenizer=Byte", "--data.batch_size=2", "--data.val_batch_size=64", "--trainer.limit_val_batches=1"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--sample.max_new_tokens=2"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A root with a run called `gpt` of four steps, saved after each second one."""
    root = tmp_path_factory.mktemp("trained")
    shutil.copy(text_file, root / "text.txt")
    before = os.getcwd()
    os.chdir(root)
    try:
        words = [
            *TINY,
            "--data.source.paths=text.txt",
            "--trainer.max_steps=4",
            "--last.every_n_train_steps=2",
            "--last.save_last_k=9",
        ]
        assert main(["fit", *words, "--name=gpt"]) == 0
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which the test stands."""
    shutil.copytree(trained, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def called(folder: str, name: str, started: str = "2026-01-01T00:00:00+0000", like: str = "runs/gpt") -> Path:
    """A copy of a run that asked for a name."""
    target = Path("runs", folder)
    if target != Path(like):
        shutil.copytree(like, target, symlinks=True)
    run_folder.write_facts(target, run_folder.read_facts(target) | {"name": name, "started": started})
    return target


def chosen(*words: str) -> Path | None:
    run_dir, _ = resumed(CommandLine(["--resume", *words]))
    if run_dir.lock is not None:
        run_dir.lock.close()
    return run_dir.checkpoint


def test_run_json_keeps_the_name_that_was_asked_for(root: Path) -> None:
    assert run_folder.read_facts(Path("runs/gpt"))["name"] == "gpt"
    run_dir = run_folder.claim("runs", "gpt")
    assert run_dir.folder == Path("runs/gpt-2") and run_folder.read_facts(run_dir.folder)["name"] == "gpt"
    assert run_folder.running(run_dir.folder) and run_folder.state(run_dir.folder) == "running"


def test_resume_takes_the_newest_run_that_asked_for_the_name(root: Path) -> None:
    called("gpt", "gpt")
    called("gpt-2", "gpt-2")
    assert chosen("--name=gpt") == Path("runs/gpt/checkpoints/last-000004.ckpt")
    called("gpt-3", "gpt", "2026-01-02T00:00:00+0100")
    assert str(chosen("--name=gpt")).startswith("runs/gpt-3/")
    # The directory of a number that became free again is newer than that of a higher number.
    called("gpt", "gpt", "2026-01-03T00:00:00+0000")
    assert str(chosen("--name=gpt")).startswith("runs/gpt/")
    assert str(chosen("--name=gpt-2")).startswith("runs/gpt-2/")


def test_a_directory_is_resumed_by_its_own_name_too(root: Path) -> None:
    # `gpt-3` was called `gpt`; no run asked for `gpt-3`.
    folder = called("gpt-3", "gpt")
    assert str(chosen("--name=gpt-3")).startswith("runs/gpt-3/")
    assert resume_command(folder) == "lit-gpt fit --name gpt-3 --resume"
    # Not by `auto`, which a script types that means a run of its own.
    run_dir, base_checkpoint = resumed(CommandLine(["--resume=auto", "--name=gpt-3"]))
    assert run_dir.folder is None and base_checkpoint is None
    # Once a run asks for that very name it is the one that is meant.
    called("gpt-3-2", "gpt-3", "2026-01-05T00:00:00+0000")
    assert str(chosen("--name=gpt-3")).startswith("runs/gpt-3-2/")
    assert resume_command(folder) == "lit-gpt fit --name gpt --resume"


def test_resume_locks_before_it_picks_its_checkpoint(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("runs/gpt")
    late = folder / "checkpoints/last-000004.ckpt"
    hidden = [(path, Path(f"{path.name}.hidden")) for path in (late, manifest.manifest_path(late))]
    for path, away in hidden:
        path.rename(away)
    for best in folder.glob("checkpoints/best*"):
        best.unlink()
    other = run_folder.lock(folder)

    def the_other_saves_and_ends(seconds: float) -> None:
        for path, away in hidden:
            if away.exists():
                away.rename(path)
        other.close()

    monkeypatch.setattr(atomic_io.time, "sleep", the_other_saves_and_ends)
    assert chosen("--name=gpt") == late


def test_a_resume_hashes_its_checkpoint_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []

    def counted(file: Any, kind: str) -> Any:
        hashed.append(Path(file.name).name)
        return file_digest(file, kind)

    file_digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", counted)
    assert main(["fit", "--name=gpt", "--resume", "--trainer.max_steps=5"]) == 0
    assert hashed == ["last-000004.ckpt"]


def test_auto_reuses_the_directory_of_a_run_that_never_saved(root: Path, capsys: Any) -> None:
    run_dir = run_folder.claim("runs", "new")
    assert run_dir.folder is not None and run_dir.lock is not None
    (run_dir.folder / "metrics.csv").write_text("step,train_loss\n7,9.5\n")
    (run_dir.folder / "events.out.tfevents.1.host").write_text("figures")
    (run_dir.folder / "notes.txt").write_text("the user's own")
    words = ["fit", *TINY, "--data.source.paths=text.txt", "--trainer.max_steps=1", "--name=new", "--resume=auto"]
    assert main(words) == 2  # it is alive
    assert "runs/new is being written by another run" in capsys.readouterr().err
    run_dir.lock.close()
    assert main(words) == 0
    assert "runs/new has no checkpoint" in capsys.readouterr().out
    assert not Path("runs/new-2").exists() and Path("runs/new/notes.txt").exists()
    assert "9.5" not in Path("runs/new/metrics.csv").read_text()
    assert not Path("runs/new/events.out.tfevents.1.host").exists()
    facts = run_folder.read_facts(Path("runs/new"))
    assert facts["name"] == "new" and facts["state"] == "done" and "resumes" not in facts


def test_auto_keeps_a_run_that_was_never_meant_to_save(root: Path) -> None:
    run_dir = run_folder.claim("runs", "dry")
    assert run_dir.folder is not None and run_dir.lock is not None
    run_dir.lock.close()
    run_folder.write_facts(run_dir.folder, run_folder.read_facts(run_dir.folder) | {"state": "done"})
    run_dir, _ = resumed(CommandLine(["--resume=auto", "--name=dry"]))
    assert run_dir.folder is None


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_next_start_sweeps_what_dead_processes_left(root: Path) -> None:
    dead, live = dead_pid(), os.getppid()
    called("other", "other")
    left = [f"runs/other/checkpoints/.last-000007.ckpt.{dead}", f"runs/gpt/.metrics.csv.{dead}"]
    left += [f"runs/gpt/checkpoints/.best.ckpt.{os.getpid()}"]  # an earlier process of our number, as in a container
    stay = [f"runs/gpt/checkpoints/.last-000007.ckpt.{live}", "runs/gpt/checkpoints/.mine", f"runs/.notes.{dead}"]
    for file in [*left, *stay]:
        Path(file).write_text("half")
    imports = [Path(f"runs/.smol.{number}.importing") for number in (dead, live)]
    own = Path(f"runs/.exp.{dead}/checkpoints")  # a folder of the user's
    for folder in (*imports, own):
        folder.mkdir(parents=True)
    held = [run_folder.lock(folder) for folder in imports]
    held[0].close()  # its import was killed
    busy = called("busy", "busy")
    (busy / f".metrics.csv.{dead}").write_text("half")
    words = ["fit", *TINY, "--data.source.paths=text.txt", "--trainer.max_steps=1", "--name=next"]
    with run_folder.lock(busy):
        assert main(words) == 0
    assert not any(Path(file).exists() for file in left) and not imports[0].exists()
    assert imports[1].exists() and own.exists()
    assert all(Path(file).exists() for file in stay) and (busy / f".metrics.csv.{dead}").exists()


def test_a_rank_in_the_environment_of_one_process_is_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file: file.read_bytes() for file in Path("runs/gpt").rglob("*") if file.is_file()}
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(rank_zero_only, "rank", _get_rank())  # as a fresh process has it
    words = ["fit", *TINY, "--data.source.paths=text.txt", "--trainer.max_steps=1", "--name=gpt"]
    assert main(words) == 0
    assert {file: file.read_bytes() for file in before} == before
    assert {"config.yaml", "run.json", "metrics.csv"} <= {file.name for file in Path("runs/gpt-2").iterdir()}
    # Where a run goes on the lock holds too.
    monkeypatch.setattr(rank_zero_only, "rank", _get_rank())
    with run_folder.lock(Path("runs/gpt-2")):
        assert main(["fit", "--name=gpt", "--resume", "--trainer.max_steps=3"]) == 2


@pytest.mark.parametrize(
    "environment",
    [{"RANK": "1"}, {"SLURM_PROCID": "2"}, {"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, {"JSM_NAMESPACE_RANK": "3"}],
    ids=str,
)
def test_the_rank_is_that_of_the_strategy(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(rank_zero_only, "rank", _get_rank())
    assert not is_first()
    settle_rank({"accelerator": "cpu", "devices": 1, "strategy": "auto"})
    assert is_first()


def test_ranks_of_a_launcher_are_those_of_the_strategy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    monkeypatch.setenv("LOCAL_RANK", "1")
    for strategy in ("ddp", {"class_path": "lightning.pytorch.strategies.DDPStrategy"}):
        settle_rank({"accelerator": "cpu", "devices": 2, "strategy": strategy})
        assert rank_zero_only.rank == 1 and not is_first()
    settle_rank({"accelerator": "cpu", "devices": 1, "strategy": "auto"})
    assert is_first()
    with pytest.raises(UserError, match="this machine cannot do trainer.strategy dpp"):
        settle_rank({"strategy": "dpp"})


def test_a_resume_on_other_text_is_refused_unless_allowed(root: Path, capsys: Any) -> None:
    file = Path("text.txt")
    file.write_text(file.read_text().replace("e", "a"))
    before = {file: file.read_bytes() for file in Path("runs/gpt").rglob("*") if file.is_file()}
    words = ["fit", "--name=gpt", "--resume", "--trainer.max_steps=6"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "changed training text (" in said and "validation text (" in said and "tokenizer" not in said
    assert "--data.allow_changed_text true" in said
    assert {file: file.read_bytes() for file in before} == before
    assert main([*words, "--data.allow_changed_text=true"]) == 0
    shown = capsys.readouterr()
    assert "this resume is not exact: the text is not what the run was trained on" in shown.out + shown.err
    # The consent was for that start; the run has been trained on the new text since.
    assert yaml.safe_load(Path("runs/gpt/config.yaml").read_text())["data"]["allow_changed_text"] is False
    file.write_text(file.read_text().replace("o", "u"))
    assert main(["fit", "--name=gpt", "--resume", "--trainer.max_steps=8"]) == 2


def test_a_changed_tokenizer_is_a_difference_too() -> None:
    before = {"tokenizer": "a" * 32, "text": {"train": "b" * 32, "val": "c" * 32}}
    assert changes(before, before) == changes({}, before) == []
    assert changes(before, before | {"tokenizer": "d" * 32}) == ["tokenizer (aaaaaaaa to dddddddd)"]


def test_skip_batches_is_kept_with_the_run(root: Path, capsys: Any) -> None:
    assert main(["fit", "--name=gpt", "--resume", "--trainer.max_steps=8", "--skip_batches=[[0, 3]]"]) == 2
    assert "skip_batches: [0, 3] is not a range of batches" in capsys.readouterr().err
    words = ["fit", "--name=gpt", "--resume", "--trainer.log_every_n_steps=1"]
    assert main([*words, "--trainer.max_steps=6", "--skip_batches=[5, [7, 8]]"]) == 0
    assert "resume changes skip_batches from None to [5, [7, 8]]" in capsys.readouterr().out
    assert main([*words, "--trainer.max_steps=9"]) == 0
    assert yaml.safe_load(Path("runs/gpt/config.yaml").read_text())["skip_batches"] == [5, [7, 8]]
    with open("runs/gpt/metrics.csv", newline="") as file:
        trained = [row["step"] for row in csv.DictReader(file) if row["train_loss"]]
    assert trained[-3:] == ["4", "6", "9"]
    assert main(["validate", "runs/gpt", "--config=runs/gpt/config.yaml"]) == 0  # knows the key, as that of a run
