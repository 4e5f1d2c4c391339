"""`~` is the home folder in every path that a user types, wherever it is typed."""

import inspect
import re
import typing
from pathlib import Path
from typing import Any

import pytest

from lit_gpt.__main__ import main
from lit_gpt.commands import export
from lit_gpt.config import user_paths
from lit_gpt.config.command_line import CommandLine
from lit_gpt.config.registry import import_components
from lit_gpt.config.schema import components, with_subclasses
from lit_gpt.data.module import TokenData
from lit_gpt.train.module import LitGPT

# Their documentation speaks of files, and they hold none: patterns inside an archive, addresses, fields of records.
NO_PATHS = {"address", "checksum", "encoding", "splits", "only", "separator"}


@pytest.mark.parametrize(
    ("typed", "means"),
    [
        (["--data.folder=~/x"], ["--data.folder=HOME/x"]),
        (["--data.folder", "~/x"], ["--data.folder", "HOME/x"]),
        (["-c", "~"], ["-c", "HOME"]),
        (["--data.source.paths=[~/x, ~/y, z]"], ['--data.source.paths=["HOME/x", "HOME/y", "z"]']),
        (
            ["--data.source={class_path: TextFiles, init_args: {paths: ~/x}}"],
            ['--data.source={"class_path": "TextFiles", "init_args": {"paths": "HOME/x"}}'],
        ),
        (["--sample.prompt=~/x"], ["--sample.prompt=~/x"]),
        (["--sample.prompt", "~/x", "--data.folder", "a~b"], ["--sample.prompt", "~/x", "--data.folder", "a~b"]),
        (["--data.source.paths=[~/x"], ["--data.source.paths=[~/x"]),
        (["--resume", "--model.init_from=~/r"], ["--resume", "--model.init_from=HOME/r"]),
    ],
)
def test_paths_on_a_command_line(typed: list[str], means: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "HOME")
    assert user_paths.in_words(typed) == means


def texts(cls: Any, seen: set[Any]) -> typing.Iterator[tuple[str, str]]:
    """Arguments that take text, of a class and all that fill its components, with what is said of them."""
    if cls in seen:
        return
    seen.add(cls)
    try:
        hints = typing.get_type_hints(cls.__init__)
        parameters = inspect.signature(cls).parameters
    except (TypeError, ValueError, NameError):
        return
    for name in parameters:
        if name in hints:
            said = re.search(rf"^\s+{name}: (.*(?:\n\s{{12,}}.*)*)", inspect.getdoc(cls) or "", re.M)
            if "str" in str(hints[name]) or "Path" in str(hints[name]):
                yield name, said[1] if said else ""
            for base in components(hints[name]):
                for inner in with_subclasses(base.base):
                    if inner.__module__.startswith("lit_gpt."):
                        yield from texts(inner, seen)


def test_every_argument_that_is_a_path_is_known_as_one() -> None:
    import_components()
    seen: set[Any] = set()
    found = {
        name
        for cls in (LitGPT, TokenData)
        for name, said in texts(cls, seen)
        if re.search(r"\b([Ff]ile|[Ff]older|[Pp]ath|directory)\b", said)
    }
    assert {"paths", "path", "folder", "init_from", "template"} <= found
    assert found - NO_PATHS - user_paths.PATH_KEYS - user_paths.MAY_BE_PATHS == set()


def test_paths_in_settings_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "base.yaml").write_text("data: {source: {class_path: TextFiles, init_args: {paths: [~/a, b]}}}\n")
    (tmp_path / "one.yaml").write_text("base: ~/base.yaml\ntrainer: {default_root_dir: ~/r}\nsample: {prompt: ~/r}\n")
    command_line = CommandLine(["--config", "~/one.yaml"])
    assert command_line.get("data.source.paths") == [f"{tmp_path}/a", "b"]
    assert (
        command_line.get("trainer.default_root_dir") == f"{tmp_path}/r" and command_line.get("sample.prompt") == "~/r"
    )
    exported = export.parser().parse_args(["~/r/one", "--out=~/out"])
    assert (exported.run, exported.out) == (f"{tmp_path}/r/one", f"{tmp_path}/out")


@pytest.mark.slow
def test_one_home_for_settings_text_ids_runs_and_what_is_made_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text_file: Path, capsys: Any
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    (home / "text.txt").write_bytes(text_file.read_bytes())
    (home / "base.yaml").write_text(
        "data: {source: {class_path: TextFiles, init_args: {paths: ~/text.txt}}, folder: ~/ids, tokenizer: Byte}\n"
        "model: {net: {width: 16, depth: 1, heads: 2, context: 8}}\nsample: {max_new_tokens: 2}\n"
    )
    (home / "one.yaml").write_text("base: ~/base.yaml\ntrainer: {default_root_dir: ~/r, max_steps: 1}\n")
    quick = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.limit_val_batches=1"]
    for words in (
        ["fit", "--config", "~/one.yaml", *quick],
        ["fit", "--name=one", "--trainer.default_root_dir=~/r", "--resume", "--trainer.max_steps=2"],
        ["runs", "~/r"],
        ["validate", "~/r/one", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu"],
        ["generate", "~/r/one", "--prompt", "~/x", "--max_new_tokens", "2"],
        ["prepare", "--verify", "~/ids"],
        ["tokenizer", "encode", "~/r/one", "~/x"],
    ):
        assert main(words) == 0, (words, capsys.readouterr().err)
    assert {"ids", "r"} <= {file.name for file in home.iterdir()}
    assert {"config.yaml", "run.json", "checkpoints"} <= {file.name for file in (home / "r/one").iterdir()}
    assert not list(here.iterdir())
    assert "~/x" in capsys.readouterr().out  # what is no path stays as it was typed
