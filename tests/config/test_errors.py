"""Mistakes: one line that says what is wrong, where, and what would do; exit code 2; nothing written."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lit_gpt.__main__ import main, one_line

YAML = {
    "unknown.yaml": "trainer:\n  max_steps: 5\nmodel:\n  net:\n    widht: 3\n",
    "unknown_in_component.yaml": "model:\n  net:\n    norm: {class_path: RMSNorm, init_args: {esp: 1}}\n",
    "key_in_list.yaml": "data:\n  filters: [{class_path: Length, init_args: {min_char: 3}}]\n",
    "words_in_list.yaml": "data:\n  filters: [{class_path: Length, init_arg: {min_chars: 3}}]\n",
    "wrong_in_list.yaml": "model:\n  net:\n    attention: [{class_path: SelfAttention, init_args: {window: eight}}]\n",
    "class_of_list.yaml": "model:\n  net:\n    attention: {class_path: SelfAtention, init_args: {window: 3}}\n",
    "class_in_class.yaml": "model: {net: {attention: {class_path: SelfAttention, init_args: {qk_norm: RMSNom}}}}\n",
    "callback.yaml": "trainer:\n  callbacks: [{class_path: EarlyStoping, init_args: {monitor: val_loss}}]\n",
    "dotted.yaml": "model:\n  optimizer: {class_path: torch.optim.AdmW, init_args: {lr: 1.0}}\n",
    "named.yaml": "data:\n  extra_val: {a: {class_path: TextFils, init_args: {paths: words.txt}}}\n",
    "filter.yaml": "data:\n  filters: {class_path: Lenth, init_args: {min_chars: 2}}\n",
    "unknown_at_top.yaml": "trainr:\n  max_steps: 5\n",
    "wrong_type.yaml": "data:\n  batch_size: many\n",
    "broken.yaml": "model:\n  net: [\n",
    "twice.yaml": "name: a\nname: b\n",
    "empty.yaml": "",
    "list.yaml": "- 1\n",
    "round.yaml": "base: about.yaml\n",
    "about.yaml": "base: round.yaml\n",
    "lost.yaml": "base: quikstart.yaml\n",
}
# What is typed after `lit-gpt`, and what the one line must say.
MISTAKES = {
    "fot": "no command 'fot'; did you mean 'fit'?",
    "fit --model.net.widht 3": "no key --model.net.widht of GPT; did you mean --model.net.width?",
    "fit --model.net.widht=3": "did you mean --model.net.width?",
    "fit --modle.net.width 3": "did you mean --model.net.width?",
    "fit --trainer.max_stesp 3": "did you mean --trainer.max_steps?",
    "fit --model.net.norm.esp 1": "no key --model.net.norm.esp of LayerNorm; did you mean --model.net.norm.eps?",
    "fit --model.optimizer.lrr 1": "of AdamW; did you mean --model.optimizer.lr?",
    "fit --config unknown.yaml": "unknown.yaml:5: there is no key model.net.widht of GPT; did you mean model.net.",
    "fit --config unknown_in_component.yaml": "component.yaml:3: there is no key model.net.norm.esp of RMSNorm",
    "fit --config unknown_at_top.yaml": "unknown_at_top.yaml:2: there is no key trainr.max_steps; did you mean",
    "fit --data.sorce.paths words.txt": "did you mean --data.source.paths?",
    "fit --modle.net.width 8": "did you mean --model.net.width?",
    "fit --data.filter Length": "did you mean --data.filters?",
    "fit --trainer.max_steps 0": "trainer.max_steps is 0, so nothing would be trained",
    "fit --trainer.max_steps x": "--trainer.max_steps: expected a whole number, got 'x'",
    "fit --model.net.attention.kv_heads x": "--model.net.attention.kv_heads: expected a whole number or null, got 'x'",
    "fit --model.optimizer.lr fast": "--model.optimizer.lr: expected a number, got 'fast'",
    "fit --model.optimizer.betas 0.9": "--model.optimizer.betas: expected a list, got 0.9",
    "fit --model.net.tie_embeddings maybe": "--model.net.tie_embeddings: expected true or false, got 'maybe'",
    "fit --config wrong_type.yaml": "wrong_type.yaml:2: data.batch_size: expected a whole number, got 'many'",
    "fit --model.net.norm RMSNrom": "no class 'RMSNrom'; did you mean RMSNorm?",
    "fit --data.tokenizer Bpe": "no class 'Bpe'; did you mean BPE?",
    "fit --model.schedule WarmupCos": "no class 'WarmupCos'; did you mean WarmupCosine?",
    "fit --model.net.attention lab.mine.My": "class 'lab.mine.My' cannot be imported: no module named 'lab'",
    "fit --model.net.norm torch.nn.Linear": "'torch.nn.Linear' does not fit here; derive it from lit_gpt.nn.norm.Norm",
    "fit --data.source words.txt": "got the file 'words.txt'; text is given by --data.source.paths words.txt",
    "fit --data.source TextFiles": "data.source TextFiles also needs --data.source.paths",
    "fit --model.net.position RoPE --model.net.position.scaling YaRN": "YaRN also needs --model.net.position.scaling.f",
    "fit --model.net.position RoPE --model.net.position.scaling Yarn": "no class 'Yarn'; did you mean YaRN?",
    "fit --model.net.attention.qk_norm RMSNrom": "no class 'RMSNrom'; did you mean RMSNorm?",
    "fit --model.net.atention.window 8": "no key --model.net.atention of GPT; did you mean --model.net.attention?",
    "fit --model.net.position.partial_rotary_factor 1": (
        "no key --model.net.position.partial_rotary_factor of Learned; it is a key of RoPE"
    ),
    "fit --model.net.block.shared_norm true": "shared_norm of PreNorm; it is a key of Parallel",
    "fit --data.tokenizer Byte --data.tokenizer.vocab_size 9": "vocab_size of Byte; it is a key of BPE",
    "fit --model.net.attention [SelfAttention,SelfAtention]": "no class 'SelfAtention'; did you mean SelfAttention?",
    "prepare --data.source.path words.txt": "did you mean --data.source.paths, a key of ",
    "prepare --data.source.field_name x": "did you mean --data.source.field, a key of ",
    "prepare --data.filters Length --data.filters.minimun 3": "of Length; there are max_chars, min_chars",
    "prepare --config key_in_list.yaml": "key_in_list.yaml:2: there is no key data.filters.min_char of Length; did y",
    "prepare --config words_in_list.yaml": "there is no key data.filters.init_arg of Length; did you mean init_args?",
    "prepare --data.source HubDataset --data.source.splitt x": "did you mean --data.source.split?",
    "fit --model.net.attention [SelfAttention,3]": "model.net.attention: expected a class (",
    "fit --model.net.attention.class_path SelfAtention": "no class 'SelfAtention'; did you mean SelfAttention?",
    "fit --trainer.callbacks EarlyStoping": "--trainer.callbacks: no class 'EarlyStoping'; did you mean EarlyStopping?",
    "fit --config class_of_list.yaml": "model.net.attention: no class 'SelfAtention'; did you mean SelfAttention?",
    "fit --config class_in_class.yaml": "model.net.attention.qk_norm: no class 'RMSNom'; did you mean RMSNorm?",
    "fit --config callback.yaml": "callback.yaml:2: trainer.callbacks: no class 'EarlyStoping'; did you mean EarlyStop",
    "fit --config dotted.yaml": "class 'torch.optim.AdmW' cannot be imported or does not fit here; did you mean AdamW?",
    "fit --config named.yaml": "named.yaml:2: data.extra_val.a: no class 'TextFils'; did you mean TextFiles?",
    "prepare --config filter.yaml": "filter.yaml:2: data.filters: no class 'Lenth'; did you mean Length?",
    "fit --config wrong_in_list.yaml": "model.net.attention.window: expected a whole number or null, got 'eight'",
    "fit --config nope.yaml": "config file nope.yaml does not exist",
    "fit --config empty.yml": "did you mean empty.yaml?",
    "fit --config broken.yaml": "broken.yaml:3: not valid YAML",
    "fit --config twice.yaml": "twice.yaml:2: key 'name' is given twice",
    "fit --config empty.yaml": "empty.yaml: the file is empty",
    "fit --config list.yaml": "list.yaml: expected keys with values, found list",
    "fit --config round.yaml": "base goes round in a circle: round.yaml -> about.yaml -> round.yaml",
    "fit --config lost.yaml": "quikstart.yaml does not exist (base of lost.yaml)",
    "fit --config": "--config needs the path of a YAML file",
    "fit extra": "unexpected 'extra'",
    "fit --model.net.width 30": "width 30 is not divisible by heads 4",
    "fit --model.net.attention.kv_heads 3": "kv_heads 3 does not divide heads 4",
    "fit --model.net.position RoPE --model.net.attention.head_size 3": "needs an even head size, got 3",
    "fit --model.net.attention [SelfAttention,SelfAttention] --model.net.attention.window 3": "is a list of 2",
    "fit --model.net.vocab_size 3": "model.net.vocab_size is given by the data",
    "fit --data.context 128": "data.context 128 is longer than the 64",
    "fit --trainer.accelerator gpu --trainer.devices 9999": "this machine cannot do trainer.accelerator gpu",
    "fit --trainer.strategy dpp": "this machine cannot do trainer.strategy dpp",
    "fit --name a/b": "--name 'a/b' must be one folder name",
    "fit --trainer.default_root_dir words.txt": "cannot make the run directory words.txt",
    "fit --data.source.paths nope.txt": "no file or folder nope.txt",
    "fit --data.source.paths nothing.txt": "nothing.txt is empty",
    "fit --data.source.paths hollow": "hollow has no text files",
    "fit --data.source.paths latin.txt": "latin.txt is not UTF-8 text: byte 0xff at offset 3",
    "fit --data.source.paths short.txt --data.tokenizer Byte": "a context of 64 needs 65",
    "fit --data.source.paths words.txt --data.tokenizer Byte --data.val_fraction 0": "no validation text",
    "fit --data.source.paths words.txt --data.tokenizer Char --sample.prompt é": "sample: the prompt cannot be encoded",
    "fit --data.source.paths words.txt --data.tokenizer Byte --sample.top_k 0": "sample: top_k is 0; give",
    "fit --data.source.paths words.txt --data.format Format": "no class 'Format'; there are ",
    "fit --data.source Source": "--data.source: no class 'Source'; there are ",
    "fit --resume --name gone": "nothing to resume",
    "fit --resume": "--resume needs the run",
    "fit --resume maybe --name a": "--resume takes nothing or `auto`, got 'maybe'",
    "fit --model.init_from runs/gone": "runs/gone does not exist",
    "validate": "which checkpoint?",
    "validate runs/gone": "checkpoint runs/gone does not exist",
    "test words.txt": "words.txt is not a readable checkpoint",
    "runs --bogus": "unrecognized arguments: --bogus; see lit-gpt runs --help",
    "generate runs/gone --promt a": "unrecognized arguments: --promt a; did you mean --prompt?",
    "fit --data.source StandardLibrary --data.source.paths words.txt": "no key --data.source.paths of StandardLibrary",
    "runs nowhere": "there is no folder nowhere",
    "generate runs/gone --prompt a": "runs/gone does not exist",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    made = tmp_path_factory.mktemp("mistakes")
    for name, text in YAML.items():
        (made / name).write_text(text)
    (made / "words.txt").write_bytes(text_file.read_bytes())
    (made / "short.txt").write_text("A few words only.")
    (made / "nothing.txt").write_text("")
    (made / "latin.txt").write_bytes(b"abc\xff\xfe")
    (made / "hollow").mkdir()
    return made


@pytest.mark.parametrize(("typed", "said"), MISTAKES.items(), ids=MISTAKES)
def test_a_mistake_is_one_line(
    typed: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    assert main(typed.split()) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lit-gpt: ")]
    assert len(lines) == 1 and lines[0].startswith("lit-gpt: error: ")
    assert said in lines[0]
    assert sorted(folder.rglob("*")) == before


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    """A run of two steps."""
    root = tmp_path_factory.mktemp("trained")
    words = f"""fit --name one --trainer.default_root_dir {root} --data.source.paths {text_file} --data.tokenizer Char
        --model.net.width 32 --model.net.depth 1 --model.net.context 16 --trainer.max_steps 2 --sample.max_new_tokens 2
        --trainer.limit_val_batches 1 --trainer.accelerator cpu --trainer.enable_progress_bar false"""
    assert main(words.split()) == 0
    return root / "one"


@pytest.mark.parametrize(
    ("typed", "said"),
    {
        "--model.net.width 64": "model.net.width is 64, but ",
        "--model.net.norm RMSNorm": "was trained with 'LayerNorm'; leave model.net.norm out to take it over",
        "--data.tokenizer Byte": "data.tokenizer is 'Byte', but ",
        "--model.net.attention.window 8": "model.net.attention.window is 8, but ",
        "--model.net.attention.qk_norm RMSNorm": "model.net.attention.qk_norm is 'RMSNorm', but ",
        "--model.net.position [Learned,RoPE]": "model.net.position is ['Learned', 'RoPE'], but ",
        "--model.net.context 32": "model.net.context is 32, but ",
        "--data.vocab_size 128": "data.vocab_size is 128, but ",
    }.items(),
)
def test_what_contradicts_the_checkpoint_is_refused(
    typed: str, said: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (f"fit --model.init_from {run}", f"validate {run}"):
        assert main([*words.split(), *typed.split()]) == 2
        assert said in capsys.readouterr().err


def test_a_runs_own_text_is_not_cut_anew_to_measure_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(run), "--data.val_fraction", "0.5"]) == 2
    assert "data.val_fraction is 0.5, but " in capsys.readouterr().err
    assert main(["test", str(run), "--data.test_fraction", "0.5"]) == 2
    assert "data.test_fraction is 0.5, but " in capsys.readouterr().err
    assert main(["test", str(run)]) == 2
    assert "give data.test_source, or train with data.test_fraction" in capsys.readouterr().err


def test_dropout_may_differ_from_the_checkpoint(run: Path, tmp_path: Path, text_file: Path) -> None:
    words = f"""fit --model.init_from {run} --trainer.default_root_dir {tmp_path} --data.source.paths {text_file}
        --model.net.dropout 0.5 --trainer.max_steps 1 --trainer.limit_val_batches 1 --sample.max_new_tokens 2
        --trainer.accelerator cpu --trainer.enable_progress_bar false"""
    assert main(words.split()) == 0


def test_a_damaged_checkpoint_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "torn.ckpt").write_bytes((run / "checkpoints/best.ckpt").read_bytes()[:5000])
    assert main(["validate", str(tmp_path / "torn.ckpt")]) == 2
    assert "torn.ckpt" in capsys.readouterr().err


def test_os_errors_name_the_file_and_a_fix() -> None:
    error = PermissionError(13, "Permission denied", "runs/a")
    assert one_line(error) == "runs/a: Permission denied; change its permissions, or run as a user who may"
    assert one_line(OSError(28, "No space left on device", "runs/a")) == "runs/a: No space left on device"


def raises_key_error(argv: list[str]) -> int:
    raise KeyError("ours")


def unpacks_too_much(argv: list[str]) -> int:
    _, _ = [1, 2, 3]
    return 0


@pytest.mark.parametrize(("broken", "kind"), [(raises_key_error, KeyError), (unpacks_too_much, ValueError)])
def test_an_error_of_the_program_keeps_its_traceback(
    broken: Callable[[list[str]], int], kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_gpt.__main__.find", lambda name: broken)
    with pytest.raises(kind):
        main(["fit"])


def test_a_fault_in_a_class_of_the_users_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "from lit_gpt.data import Source\nclass Broken(Source):\n    def __iter__(self):\n        yield {}['text']\n"
    (tmp_path / "broken_source.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyError, match="text"):
        main(["fit", "--data.source=broken_source.Broken", "--data.tokenizer=Byte"])


def test_a_class_that_lacks_a_method_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "half_source.py").write_text("from lit_gpt.data import Source\nclass Half(Source): ...\n")
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--data.source=half_source.Half", "--data.tokenizer=Byte"]) == 2
    assert "Half has no __iter__; define it in a subclass" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [RuntimeError, torch.OutOfMemoryError])
def test_too_little_memory_is_told_in_one_line(
    kind: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wants_too_much(argv: list[str]) -> int:
        if kind is RuntimeError:
            torch.empty(10**15)
        raise kind("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 10.00 GiB")

    monkeypatch.setattr("lit_gpt.__main__.find", lambda name: wants_too_much)
    assert main(["fit"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "ried to allocate" in error and "lower data.batch_size" in error


def test_exit_codes_of_a_stopped_run_go_through(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lit_gpt.train.stopping import NonFiniteStop, StoppedBySignal

    for error, code in ((NonFiniteStop("not finite"), 3), (StoppedBySignal(15, 7, "x.ckpt"), 143)):

        def stopped(argv: list[str], error: Exception = error) -> int:
            raise error

        monkeypatch.setattr("lit_gpt.__main__.find", lambda name, stopped=stopped: stopped)
        assert main(["fit"]) == code
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_GPT_DEBUG", "1")
    with pytest.raises(ValueError, match="did you mean 'fit'"):
        main(["fot"])


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="another user's rights are tried as root")
def test_a_folder_that_may_not_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    code = f"from lit_gpt.train import run_folder; run_folder.claim({str(tmp_path)!r}, 'a')"
    tmp_path.chmod(0o555)
    for parent in list(tmp_path.parents)[:-2]:
        parent.chmod(parent.stat().st_mode | 0o055)
    user = ["setpriv", "--reuid=65534", "--clear-groups", sys.executable, "-B", "-c", code]
    done = subprocess.run(user, capture_output=True, text=True, cwd="/")
    assert "cannot make the run directory" in done.stderr and "no write permission" in done.stderr


def test_a_users_module_is_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "layers_of_a_user.py").write_text("class Plain: ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    assert main(["fit", "--model.net.feedforward", "layers_of_a_user.Plain"]) == 2
    assert "'layers_of_a_user.Plain' does not fit here; derive it from" in capsys.readouterr().err


def test_a_class_is_still_named_when_another_is_made_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    from lit_gpt.nn import RoPE

    class Mine(RoPE):
        """A user's own."""

    assert main(["fit", "--model.net.position", "RoP"]) == 2
    printed = capsys.readouterr().err
    assert "did you mean RoPE?" in printed, printed
    del Mine
