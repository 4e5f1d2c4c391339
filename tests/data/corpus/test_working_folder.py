"""Where corpora are made: links are followed, what a killed process left is cleared, what is no place is refused."""

import json
import os
import shutil
from pathlib import Path

import pytest

from lit_gpt.data import Byte, TextFiles
from lit_gpt.data.corpus.prepare import prepare
from lit_gpt.data.corpus.prepared import Prepared
from lit_gpt.data.corpus.recipe import Fractions, Recipe
from lit_gpt.errors import UserError


def made(tmp_path: Path, folder: str | Path, val: float = 0.5) -> Prepared:
    (tmp_path / "text.txt").write_text("some text, some text")
    return prepare(Recipe(TextFiles(str(tmp_path / "text.txt")), Byte(), Fractions(val, 0.0)), folder)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_made(tmp_path: Path, there: bool) -> None:
    (tmp_path / "disk").mkdir()
    if there:
        (tmp_path / "disk" / "corpus").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "corpus")
    for val, reused in ((0.5, False), (0.5, True), (0.25, False)):
        assert made(tmp_path, tmp_path / "link", val).reused == reused
        assert (tmp_path / "link").is_symlink() and (tmp_path / "disk" / "corpus" / "manifest.json").exists()


def test_mounts_and_the_current_folder_are_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here" / "deeper"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    with pytest.raises(UserError, match="holds the folder that this runs in; give a folder in it"):
        made(tmp_path, ".")
    (here / "disk").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).name == "disk")
    with pytest.raises(UserError, match="disk is where a disk is mounted, .* such as disk/corpus"):
        made(tmp_path, "disk")
    assert os.listdir(here) == ["disk"]


def killed_in_the_end(folder: Path, done: bool) -> Path:
    """As a process leaves things that is killed while it puts the new in place of the old, or while it clears up."""
    working = folder.with_name(f".{folder.name}.preparing")
    working.mkdir()
    (working / "recipe.json").write_text(json.dumps(json.loads((folder / "manifest.json").read_text())["identity"]))
    shutil.copytree(folder, working / "old")
    if not done:
        folder.rename(working / "new")
    return working


@pytest.mark.parametrize("done", [True, False])
def test_what_a_process_left_that_was_killed_in_the_end_is_cleared(tmp_path: Path, done: bool) -> None:
    folder = tmp_path / "corpus"
    made(tmp_path, folder)
    working = killed_in_the_end(folder, done)
    assert made(tmp_path, folder).reused == done
    assert not working.exists()


def test_parts_removed_after_that_are_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    made(tmp_path, folder)
    killed_in_the_end(folder, True)
    shutil.rmtree(folder / "train")
    assert not made(tmp_path, folder).reused
    assert made(tmp_path, folder).reused


def test_work_on_another_recipe_that_was_stopped_may_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    made(tmp_path, folder)
    working = killed_in_the_end(folder, True)
    (working / "recipe.json").write_text('{"of": "another"}')
    assert made(tmp_path, folder).reused and working.exists()
