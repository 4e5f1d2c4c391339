"""From typed words to objects and run directories; in process, but for what only a fresh process can show."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lit_gpt.__main__ import commands, main
from lit_gpt.cli import CLI, build
from lit_gpt.commands.fit import next_commands
from lit_gpt.config.base_checkpoint import BaseCheckpoint, differences
from lit_gpt.config.command_line import CommandLine
from lit_gpt.errors import UserError
from lit_gpt.nn import LayerNorm, RMSNorm, SelfAttention
from lit_gpt.train import run_folder
from lit_gpt.train.stopping import StopOnSignal

TINY = [
    *("--model.net.width=32", "--model.net.depth=2", "--model.net.heads=4", "--model.net.context=16"),
    *("--data.tokenizer=Char", "--data.batch_size=2", "--data.val_batch_size=64"),
    *("--trainer.max_steps=2", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu"),
    *("--trainer.enable_progress_bar=false", "--sample.max_new_tokens=5"),
]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny(text_file: Path) -> list[str]:
    return [*TINY, f"--data.source.paths={text_file}"]


def net_of(*words: str, tiny: list[str]) -> Any:
    return build(None, [*tiny, *words]).model.net


def test_help_is_quick_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert {"fit", "validate", "test", "generate", "runs"} <= commands().keys()
    assert all(name in shown and line and line in shown for name, line in commands().items())


def test_help_of_a_fresh_process_imports_nothing_heavy() -> None:
    code = "import sys; from lit_gpt.__main__ import main; main(['--help']); print(sorted(sys.modules))"
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert time.perf_counter() - started < 3  # 0.1 s where nothing else runs
    assert not {"'torch'", "'lightning'", "'yaml'", "'jsonargparse'"} & set(done.stdout.split("[")[-1].split(", "))


@pytest.mark.parametrize(
    "words",
    [
        ["--model.net.norm=RMSNorm", "--model.net.norm.eps=1e-3"],
        ["--model.net.norm", "RMSNorm", "--model.net.norm.eps", "1e-3"],
        ["--model.net.norm={class_path: RMSNorm, init_args: {eps: 1e-3}}"],
        ["--model.net.norm.class_path=lit_gpt.nn.RMSNorm", "--model.net.norm.init_args.eps=1e-3"],
    ],
)
def test_a_component_is_filled_by_name(words: list[str], tiny: list[str]) -> None:
    net = net_of(*words, tiny=tiny)
    assert isinstance(net.norm, RMSNorm) and net.norm.eps == 1e-3


def test_an_argument_of_a_default_class_needs_no_class(tiny: list[str]) -> None:
    assert net_of("--model.net.attention.window=4", tiny=tiny).blocks[0].attention.window == 4


def test_a_list_is_tiled_over_the_layers(tiny: list[str]) -> None:
    component = "[SelfAttention, {class_path: SelfAttention, init_args: {window: 8}}]"
    net = net_of(f"--model.net.attention={component}", tiny=tiny)
    assert [block.attention.window for block in net.blocks] == [None, 8]


def test_a_class_from_outside_the_package(tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lab_of_mine.py").write_text(
        textwrap.dedent("""
        from lit_gpt.nn import SelfAttention, Sizes

        class Loud(SelfAttention):
            def __init__(self, sizes: Sizes, volume: float = 1.0):
                super().__init__(sizes)
                self.volume = volume
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    net = net_of("--model.net.attention=lab_of_mine.Loud", "--model.net.attention.volume=11", tiny=tiny)
    attention = net.blocks[0].attention
    assert isinstance(attention, SelfAttention) and attention.volume == 11.0


def test_yaml_dict_and_words_build_the_same(tiny: list[str], tmp_path: Path, text_file: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("model: {net: {width: 16, heads: 2, norm: RMSNorm}}\nseed_everything: 5\n")
    from_words = net_of("--model.net.width=16", "--model.net.heads=2", "--model.net.norm=RMSNorm",
                        "--seed_everything=5", tiny=tiny)  # fmt: skip
    after = [word for word in tiny if "width" not in word and "heads" not in word]
    nets = [build(file, after).model.net, build(yaml.safe_load(file.read_text()), after).model.net]
    for net in nets:
        for name, weight in from_words.state_dict().items():
            torch.testing.assert_close(net.state_dict()[name], weight, rtol=0, atol=0)


def test_base_is_found_beside_the_file_and_overlays_go_over_it(tmp_path: Path, tiny: list[str]) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/base.yaml").write_text("model: {net: {norm: {class_path: RMSNorm, init_args: {eps: 0.5}}}}\n")
    (tmp_path / "deep/child.yaml").write_text("base: base.yaml\nmodel: {net: {dropout: 0.25}}\n")
    (tmp_path / "over.yaml").write_text("model: {net: {norm: LayerNorm}}\n")
    child, over = str(tmp_path / "deep/child.yaml"), str(tmp_path / "over.yaml")
    net = build(child, tiny).model.net
    assert isinstance(net.norm, RMSNorm) and net.norm.eps == 0.5 and net.sizes.dropout == 0.25
    net = build(child, ["--config", over, *tiny]).model.net
    assert isinstance(net.norm, LayerNorm) and net.sizes.dropout == 0.25


def test_the_data_gives_vocabulary_and_the_net_the_context(tiny: list[str]) -> None:
    run = build(None, tiny)
    assert run.model.net.vocab_size == run.data.vocab_size
    assert run.model.net.vocab_size % 64 == 0 and run.model.net.vocab_size >= run.data.tokenizer.vocab_size
    assert run.data.context == run.model.net.context == 16
    assert build(None, [*tiny, "--data.context=8"]).data.context == 8


def test_epochs_alone_are_not_cut_by_the_default_steps(tiny: list[str]) -> None:
    words = [word for word in tiny if "max_steps" not in word]
    assert build(None, [*words, "--trainer.max_epochs=3"]).trainer.max_steps == -1
    assert build(None, words).trainer.max_steps == 2000


def test_print_config_prepares_no_text(capsys: pytest.CaptureFixture[str], own_cache: Path) -> None:
    before = sorted(own_cache.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--data.source.paths=nowhere.txt", "--print_config"])
    assert ended.value.code == 0 and sorted(own_cache.rglob("*")) == before
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["data"]["source"]["class_path"].endswith("TextFiles")
    assert shown["model"]["net"]["init_args"]["norm"]["class_path"] == "lit_gpt.nn.LayerNorm"


def test_fit_ends_with_what_it_reached_and_what_to_do_next(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *tiny, "--name=one"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    words = lines[-1].split()
    assert words[::2] == ["step", "tokens", "val_loss", "val_perplexity", "val_bpb", "seconds"]
    assert words[1] == "2" and words[3] == str(2 * 2 * 16)
    text = "\n".join(lines)
    assert all(command in text for command in ("lit-gpt generate runs/one", "lit-gpt validate runs/one", "tensorboard"))
    folder = Path("runs/one")
    assert {"config.yaml", "run.json", "metrics.csv"} <= {file.name for file in folder.iterdir()}
    assert (folder / "checkpoints/best.ckpt").is_symlink() and (folder / "checkpoints/last.ckpt").is_symlink()
    facts = json.loads((folder / "run.json").read_text())
    assert facts["state"] == "done" and facts["steps"] == 2 and facts["threads"] == torch.get_num_threads()
    assert "--name=one" in facts["command"] and facts["versions"]["torch"] == torch.__version__

    assert main(["validate", "runs/one", "--trainer.limit_val_batches=1"]) == 0
    measured = capsys.readouterr().out.split()
    assert measured[measured.index("val_loss") + 1] == words[5]

    assert main(["runs"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[1].split()[:3] == ["one", "done", "2"] and words[5] in listed[1]

    # The settings that were written make the same run again, in a directory of its own.
    assert main(["fit", "--config=runs/one/config.yaml"]) == 0
    again = capsys.readouterr().out
    assert "runs/one is taken; this run writes to runs/one-2" in again
    assert again.strip().splitlines()[-1].split()[:10] == words[:10]


def test_resume_goes_on_finished_runs_say_so_and_the_net_stays(tiny: list[str], capsys: Any) -> None:
    assert main(["fit", *tiny, "--name=one", "--resume=auto"]) == 0
    assert main(["fit", *tiny, "--name=one", "--resume"]) == 0
    assert "runs/one is finished: step 2 of 2" in capsys.readouterr().out
    words = [word for word in tiny if "max_steps" not in word]
    assert main(["fit", *words, "--name=one", "--resume", "--trainer.max_steps=4", "--model.net.width=64"]) == 0
    shown = capsys.readouterr().out
    assert "resume keeps model.net.width = 32 of the checkpoint; 64 was asked for" in shown
    assert "resume changes trainer.max_steps from 2 to 4" in shown
    assert shown.count("resume changes") == shown.count("resume keeps") == 1
    assert shown.strip().splitlines()[-1].startswith("step 4  tokens 128 ")
    assert not Path("runs/one-2").exists()
    assert len(json.loads(Path("runs/one/run.json").read_text())["resumes"]) == 1
    # Without settings of its own the run's are taken.
    assert main(["fit", "--name=one", "--resume", "--trainer.max_steps=5"]) == 0
    assert yaml.safe_load(Path("runs/one/config.yaml").read_text())["data"]["batch_size"] == 2


@pytest.mark.parametrize("root", ["runs", "my runs"])
def test_a_stopped_run_says_what_goes_on_with_it(
    root: str, tiny: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    started = StopOnSignal.on_train_start

    def interrupted(self: StopOnSignal, *arguments: Any) -> None:
        started(self, *arguments)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(StopOnSignal, "on_train_start", interrupted)
        assert main(["fit", *tiny, "--name=one", f"--trainer.default_root_dir={root}"]) == 130
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0 and "stopped by SIGINT after step 1: saved " in said
    assert main(["runs", root]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["one", "stopped", "1", "32"]
    command = re.search("`lit-gpt (.*)` goes on from there", said)
    assert command and main(shlex.split(command[1])) == 0
    assert "step 2  tokens 64 " in capsys.readouterr().out
    assert run_folder.state(Path(root, "one")) == "done"


def test_losses_of_further_texts_are_shown(tiny: list[str], text_file: Path, capsys: Any) -> None:
    further = f"{{again: {{class_path: TextFiles, init_args: {{paths: {text_file}}}}}}}"
    seen = "--trainer.enable_progress_bar=true"
    assert main(["fit", *tiny, seen, f"--data.extra_val={further}", "--name=one"]) == 0
    assert re.search(
        r"step 2  val_loss \S+  val_perplexity \S+  val_bpb \S+  val_loss/again \d", capsys.readouterr().out
    )


def test_two_runs_never_write_one_directory(tiny: list[str]) -> None:
    run = build(None, [*tiny, "--name=one"])
    run.trainer.fit(run.model, run.data)
    with run_folder.lock(Path("runs/one")), pytest.raises(UserError, match="being written by another run"):
        run_folder.lock(Path("runs/one"))
    with run_folder.lock(Path("runs/one")):
        assert main(["fit", "--name=one", "--resume", "--trainer.max_steps=4"]) == 2
    assert run_folder.state(Path("runs/one")) == "done"


def test_directories_are_claimed_one_each(tmp_path: Path) -> None:
    names = [run_folder.claim(tmp_path, "a").folder.name for _ in range(3)]
    assert names == ["a", "a-2", "a-3"]
    run_folder.claim(tmp_path, "a-b")
    assert [folder.name for folder in run_folder.of_name(tmp_path, "a")] == ["a-3", "a-2", "a"]


def test_a_command_of_several_lines_leaves_settings_that_can_be_read(tiny: list[str], capsys: Any) -> None:
    # A word with a line break, in the midst of others, stands in the first line of config.yaml, which is a comment.
    assert main(["fit", "--sample.prompt=a c\nm", *tiny, "--name=one"]) == 0
    assert yaml.safe_load(Path("runs/one/config.yaml").read_text())["sample"]["prompt"] == "a c\nm"
    facts = json.loads(Path("runs/one/run.json").read_text())
    assert shlex.split(facts["command"])[:3] == ["lit-gpt", "fit", "--sample.prompt=a c\nm"]
    capsys.readouterr()
    assert main(["runs"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_what_leaves_no_checkpoint_names_no_next_commands(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *tiny, "--trainer.fast_dev_run=true"]) == 0
    assert "lit-gpt generate" not in capsys.readouterr().out


def test_paths_alone_name_text_files_wherever_a_text_is_given(tiny: list[str], text_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(text_file.read_text()[:3000])
    Path("library.yaml").write_text("data: {source: {class_path: StandardLibrary, init_args: {limit: 10000}}}\n")
    words = ["--config=library.yaml", *tiny, f"--data.val_source.paths={other}", f"--data.test_source.paths={other}"]
    data = build(None, words).data
    sources = data.text.prepared.manifest["sources"]
    assert str(text_file) in sources[""] and str(other) in sources["val"] and str(other) in sources["test"]


def test_another_text_is_measured_and_the_runs_own_ids_stay(tiny: list[str], text_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(text_file.read_text()[:3000])
    assert main(["fit", *tiny, "--name=one", f"--data.folder={tmp_path / 'ids'}"]) == 0
    before = (tmp_path / "ids/manifest.json").read_bytes()
    for key in ("source", "val_source"):
        assert main(["validate", "runs/one", f"--data.{key}.paths={other}"]) == 0
    assert main(["test", "runs/one", f"--data.test_source.paths={other}"]) == 0
    assert (tmp_path / "ids/manifest.json").read_bytes() == before


def test_what_was_set_to_null_stays_null(tiny: list[str]) -> None:
    words = ["--trainer.gradient_clip_val=null", "--data.tokenizer=BPE", "--data.tokenizer.separator=null"]
    words += ["--data.tokenizer.vocab_size=300", "--name=one"]
    assert main(["fit", *tiny, *words]) == 0
    again = build("runs/one/config.yaml")
    assert again.trainer.gradient_clip_val is None and again.data.tokenizer.eos is None
    assert main(["fit", "--name=one", "--resume", "--trainer.max_steps=3"]) == 0
    assert yaml.safe_load(Path("runs/one/config.yaml").read_text())["trainer"]["gradient_clip_val"] is None


def test_no_arguments_and_null_arguments_are_no_difference() -> None:
    assert differences({"a": {"init_args": {}}, "b": 0}, {"a": {"init_args": {"x": None}}, "b": 0}) == []
    assert differences({"b": 0}, {"b": None}) == [("b", 0, None)]


def test_lists_are_compared_by_their_entries() -> None:
    one, two, other = ({"class_path": "lit_gpt.nn.SelfAttention", "init_args": {"window": w}} for w in (1, 2, None))
    assert differences({"a": [one]}, {"a": one}) == differences({"a": [one, two]}, {"a": [one, two]}) == []
    assert differences({"a": one}, {"a": [two]}) == [("a.window", 1, 2)]
    assert differences({"a": [one, two]}, {"a": [one, other]}) == [("a.1.window", 2, None)]
    assert differences({"a": [one, two]}, {"a": one}) == [("a", ["SelfAttention", "SelfAttention"], "SelfAttention")]
    assert differences({"a": [1]}, {"a": [1, 2]}) == [("a", [1], [1, 2])]
    assert differences({"a": None}, {"a": one}) == [("a", None, "SelfAttention"), ("a.window", None, 1)]


def test_what_only_training_reads_may_differ_from_the_checkpoint() -> None:
    def config(**options: Any) -> dict[str, Any]:
        moe = {"class_path": "lit_gpt.nn.MoE", "init_args": options}
        return {
            "model": {"net": {"class_path": "lit_gpt.GPT", "init_args": {"feedforward": [moe, moe], "vocab_size": 8}}}
        }

    before = config(top_k=2, aux_loss_coef=0.01, z_loss_coef=0.001, pooled=False, dropout=0.0) | {"data": {}}
    base_checkpoint = BaseCheckpoint(Path("a.ckpt"), before, {}, 1)
    after = config(top_k=2, aux_loss_coef=0.1, z_loss_coef=0.0, pooled=True, dropout=0.5)
    base_checkpoint.refuse_conflicts(after["model"]["net"], {}, before)
    with pytest.raises(UserError, match="model.net.feedforward.0.top_k is 1, but a.ckpt was trained with 2"):
        base_checkpoint.refuse_conflicts(config(top_k=1, aux_loss_coef=0.1)["model"]["net"], {}, before)


def test_show_batch_trains_nothing(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *tiny, "--show_batch"]) == 0
    assert capsys.readouterr().out.strip() and not Path("runs").exists()


def test_what_was_typed_is_found_again(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "name: from_file\nmodel: {init_from: x, net: {class_path: GPT, init_args: {width: 3}}}\n"
    )
    command_line = CommandLine(["--config", str(tmp_path / "a.yaml"), "--resume", "--trainer.max_steps", "5"])
    assert (
        command_line.get("name") == "from_file"
        and command_line.get("resume") is True
        and command_line.get("trainer.max_steps") == "5"
    )
    assert command_line.get("model.net.width") == 3 and command_line.has("model.net") and not command_line.has("data")
    assert command_line.name == "a"


def test_the_parsers_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        CLI("fit", CommandLine(["--help"]))
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "configs/quickstart.yaml" in shown and "--resume" in shown and "--data.val_fraction" in shown


def test_fine_tuning_says_what_it_starts_from(tiny: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *tiny, "--name=base"]) == 0
    reached = capsys.readouterr().out.splitlines()[-1]
    own = [word for word in tiny if not word.startswith(("--model.net", "--data.tokenizer"))]
    assert main(["fit", *own, "--name=tuned", "--model.init_from=runs/base/checkpoints/last.ckpt"]) == 0
    out = capsys.readouterr().out
    [start] = [line for line in out.splitlines() if line.startswith("before the first step")]
    assert start.split()[4:] == reached.split()[4:-2]  # the same text, the same weights: the same figures
    rows = Path("runs/tuned/metrics.csv").read_text().splitlines()
    assert rows[1].startswith("0,")


def test_next_commands_name_the_users_packages() -> None:
    own = {"model": {"net": {"class_path": "lit_gpt.model.GPT", "init_args": {"norm": {"class_path": "lab.Mine"}}}}}
    assert "LIT_GPT_TRUST=lab lit-gpt generate runs/x" in next_commands(Path("runs/x"), own)
    assert "TRUST" not in next_commands(Path("runs/x"), {"model": {"net": {"class_path": "lit_gpt.model.GPT"}}})


def test_a_metric_that_there_is_not_is_found_before_training(
    tiny: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *tiny, "--best.monitor=val_los"]) == 2
    assert "best.monitor 'val_los' is no metric of this run; there are val_loss, val_perp" in capsys.readouterr().err
    assert not list(Path("runs").glob("*"))
    assert main(["fit", *tiny, "--best.monitor=val_accuracy", "--best.mode=max"]) == 0
