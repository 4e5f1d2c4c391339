"""Hostile files against every command that reads them, under an audit hook: nothing runs, nothing outside is written.

Each command ends with one line and exit code 2, or goes on without what it has no use for. The slow test takes all
files and prints what it counted.
"""

import itertools
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import hostile_files as hostile
import pytest
from audit import watched
from hostile_files import Hostile

from lit_gpt.__main__ import main
from lit_gpt.data.sources import streams
from lit_gpt.errors import UserError

BYTE = ["--data.tokenizer", "Byte", "--data.context", "8", "--data.split_by", "position", "--data.val_fraction", "0.2"]
SMALL = ["--model.net.width", "16", "--model.net.depth", "1", "--model.net.heads", "2", "--data.batch_size", "2"]
QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", "--trainer.devices", "1"]
#: A payload here is of no use to a command that needs the net and the tokenizer alone.
TRAINING = ("objective", "optimizer", "schedule", "source", "filters", "order", "rows", "format", "config.data", "bomb")


class Ground:
    """What the hostile files are made from, and the only folder that may change."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mark = folder / "work", folder / "outside" / "mark"
        self.text = self.folder / "text.txt"
        self.run, self.exported, self.prepared = (self.folder / name for name in ("base", "exported", "prepared"))
        self.count = 0

    def make(self) -> None:
        self.folder.mkdir()
        self.mark.parent.mkdir()
        (self.folder / f"{hostile.STRANGER}.py").write_text(
            f"open({str(self.mark)!r}, 'w').close()\n\nclass Evil:\n    def __init__(self, *_, **__):\n        pass\n"
        )
        (self.mark.parent / "inner.yaml").write_text("class_path: os.system\ninit_args: {command: x}\n")
        self.text.write_text("\n\n".join(f"The cat sat on mat {n} and saw the moon." for n in range(200)))
        source = ["--data.source", "TextFiles", "--data.source.paths", str(self.text)]
        root = ["--trainer.default_root_dir", str(self.folder), "--trainer.max_steps", "2"]
        words = [*source, *BYTE, "--data.test_fraction", "0.1", *SMALL, *QUIET, *root, "--name", "base"]
        position = ["--model.net.position", "ALiBi", "--model.net.attention", "[SelfAttention]"]
        activation = ["--model.net.feedforward", "[{class_path: MLP, init_args: {activation: GELU}}]"]
        assert main(["fit", *words, *position, *activation, "--sample.max_new_tokens", "1"]) == 0
        assert main(["export", str(self.run), "--out", str(self.exported)]) == 0
        assert main(["prepare", *source, *BYTE, "--data.folder", str(self.prepared)]) == 0


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    made = Ground(tmp_path_factory.mktemp("strangers"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIT_GPT_CACHE", str(made.folder / "cache"))
        patch.setenv("HOME", str(made.folder))
        patch.setattr(sys, "dont_write_bytecode", True)
        patch.setattr(streams, "UNBOUNDED", 1 << 22)
        made.make()
        patch.syspath_prepend(made.folder)
        patch.chdir(made.folder)
        yield made


def commands(ground: Ground, one: Hostile) -> dict[str, Callable[[], int]]:
    """The commands that read a file of this kind."""
    path, name = str(one.path), one.path.name
    ground.count += 1
    out = str(ground.folder / f"out{ground.count}")
    root = ["--trainer.default_root_dir"]
    text = ["--data.source", "TextFiles", "--data.source.paths", str(ground.text)]
    new = [*text, *BYTE[2:], *QUIET, "--trainer.max_steps", "1", *root, out, "--name", "new"]

    def run(*words: str) -> Callable[[], int]:
        return lambda: main(list(words))

    def load() -> int:
        import lit_gpt

        net, tokenizer = lit_gpt.load(path)
        return 0 if net is not None and tokenizer is not None else 1

    resume = run("fit", "--name", name, *root, str(one.path.parent), "--resume", "--trainer.max_steps", "3", *QUIET)
    if one.kind == "checkpoint":
        return {
            "validate": run("validate", path),
            "test": run("test", path),
            "fit --resume": resume,
            "fit --model.init_from": run("fit", "--model.init_from", path, *new),
            "generate": run("generate", path, "--max_new_tokens", "1", "--device", "cpu"),
            "inspect": run("inspect", path),
            "export": run("export", path, "--out", f"{out}.hub"),
            "prepare": run("prepare", "--model.init_from", path, *text, *BYTE),
            "tokenizer of a checkpoint": run(
                "prepare", *text, *BYTE[2:], "--data.tokenizer", "Saved", "--data.tokenizer.path", path
            ),
            "backtranslate": run("backtranslate", "--there", path, "--back", path, "--out", f"{out}.jsonl", *text),
            "lit_gpt.load": load,
        }
    if one.kind == "run":
        return {"fit --resume": resume, "stats": run("stats", path), "runs": run("runs", str(one.path.parent))}
    if one.kind == "hub":
        pretrained = ["--data.tokenizer", "Pretrained", "--data.tokenizer.path", path]
        return {
            "import": run("import", path, "--out", out),
            "inspect": run("inspect", path),
            "prepare": run("prepare", *text, *BYTE[2:], *pretrained),
            "chat": lambda: _chat(one.path, out),
        }
    if one.kind == "yaml":
        return {
            "fit": run("fit", "--config", path, *new),
            "prepare": run("prepare", "--config", path),
            "validate": run("validate", str(ground.run), "--config", path, *QUIET),
        }
    if one.kind == "archive":
        source = ["--data.source", "JsonLines" if "json" in path else "TextFiles", "--data.source.paths", path]
        return {"prepare": run("prepare", *source, *BYTE), "fit": run("fit", *source, *new[4:], *SMALL)}
    return {
        "stats": run("stats", path),
        "prepare --verify": run("prepare", "--verify", path),
        "tokenizer stats": run("tokenizer", "stats", path),
        "saved tokenizer": run(
            "prepare", *text, *BYTE[2:], "--data.tokenizer", "Saved", "--data.tokenizer.path", f"{path}/tokenizer.json"
        ),
    }


def _chat(folder: Path, out: str) -> int:
    imported = main(["import", str(folder), "--out", f"{out}-chat"])
    return imported or main(["generate", f"{out}-chat", "--chat", "Hi", "--max_new_tokens", "1", "--device", "cpu"])


class Findings:
    """What came of all hostile files."""

    def __init__(self, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
        self.ground, self.capsys = ground, capsys
        self.files, self.ends, self.wrong = 0, Counter[str](), list[str]()

    def try_all(self, files: Iterator[Hostile], only: tuple[str, ...] = ()) -> None:
        """Gives each file to the commands that read it."""
        for one in files:
            self.files += 1
            for command, run in commands(self.ground, one).items():
                if not only or command in only:
                    self._try(one, command, run)

    def _try(self, one: Hostile, command: str, run: Callable[[], int]) -> None:
        self.capsys.readouterr()
        told = None
        with watched(self.ground.folder, strangers={hostile.STRANGER, "modeling"}) as seen:
            try:
                code = run()
            except UserError as error:
                code, told = 2, f"lit-gpt: error: {error}"
            except SystemExit as error:
                code = int(error.code or 0)
            except BaseException as error:
                code, told = 1, f"{type(error).__name__}: {error}"
        lines = (told or self.capsys.readouterr().err).splitlines()
        errors = [line for line in lines if line.startswith("lit-gpt: error: ")]
        self.ends[f"exit {code}"] += 1
        where = f"{one.kind}: {one.name}: {command}"
        if seen:
            self.wrong.append(f"{where}: {seen[0]}")
        if code == 2 and len(errors) != 1 or code not in (0, 2) or "Traceback" in "".join(lines):
            self.wrong.append(f"{where}: exit {code}: {' / '.join(lines[-2:])[:300]}")
        used = one.kind == "checkpoint" and not _is_of_no_use(one.place, command)
        if code == 0 and (
            used
            or (one.kind, command) == ("run", "fit --resume")
            or one.kind in ("yaml", "archive")
            and command == "fit"
        ):
            self.wrong.append(f"{where}: exit 0, though the command has to use it")

    def check(self) -> None:
        """Fails with all that went wrong."""
        if self.ground.mark.exists():
            self.wrong.append("the mark of a command that was run is there")
        listed = sorted(path.name for path in self.ground.mark.parent.iterdir())
        if listed != ["inner.yaml"]:
            self.wrong.append(f"outside lies {listed}")
        assert not self.wrong, f"{len(self.wrong)} of {sum(self.ends.values())}:\n" + "\n".join(self.wrong[:60])


def _is_of_no_use(place: str, command: str) -> bool:
    if command in ("runs", "tokenizer of a checkpoint"):
        return True
    if command in ("validate", "test", "backtranslate"):
        return place in ("format",)
    return any(word in place for word in TRAINING)


def test_quick_part_of_the_hostile_files(ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    found, root = Findings(ground, capsys), ground.folder / "quick"
    some = ("validate", "fit --resume", "generate")
    found.try_all(hostile.checkpoints(ground.run, root / "c", ground.mark, 13), some)
    found.try_all(itertools.islice(hostile.run_folders(ground.run, root / "r", ground.mark), 0, None, 11), some)
    assert found.files > 25
    found.check()


KINDS: dict[str, Callable[[Ground, Path], Iterator[Hostile]]] = {
    "checkpoints": lambda ground, root: hostile.checkpoints(ground.run, root, ground.mark),
    "pickles": lambda ground, root: hostile.pickles(ground.run, root, ground.mark),
    "run folders": lambda ground, root: hostile.run_folders(ground.run, root, ground.mark),
    "Hugging Face folders": lambda ground, root: hostile.hub_folders(ground.exported, root, ground.mark),
    "YAML files": lambda ground, root: hostile.yaml_files(root, ground.mark),
    "archives": lambda ground, root: hostile.archives(root),
    "prepared texts": lambda ground, root: hostile.prepared_folders(ground.prepared, root, ground.mark),
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_all_hostile_files_against_all_commands(kind: str, ground: Ground, capsys: pytest.CaptureFixture[str]) -> None:
    root = ground.folder / "all" / kind.replace(" ", "_")
    root.mkdir(parents=True)
    found = Findings(ground, capsys)
    found.try_all(KINDS[kind](ground, root))
    with capsys.disabled():
        print(f"{kind}: {found.files} files, {dict(found.ends)}, {len(found.wrong)} wrong", flush=True)
    assert found.files >= (250 if kind == "checkpoints" else 4)
    found.check()


def test_the_hook_sees_what_it_is_for(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "in").mkdir()
    with watched(tmp_path / "in", strangers={"colorsys"}) as seen:
        (tmp_path / "in" / "a").write_text("")
        (tmp_path / "b").write_text("")
        os.system("true")
        subprocess.run(["true"], check=True)
        sys.modules.pop("colorsys", None)
        import colorsys  # noqa: F401
    assert [line.partition(" ")[0] for line in seen] == ["open", "os.system", "subprocess.Popen", "import"]
