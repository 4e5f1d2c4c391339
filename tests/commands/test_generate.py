"""`lit-gpt generate` as people use it: through the front door, with a small checkpoint, pipes and Ctrl-C included."""

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lit_gpt.__main__ import main
from lit_gpt.commands.generate import Context
from lit_gpt.data.tokenizers.byte_and_char import Byte
from lit_gpt.generate.text_generator import TextGenerator
from lit_gpt.model import GPT

SIZES = {"vocab_size": 320, "width": 16, "depth": 2, "heads": 2, "context": 32, "seed": 5}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with the best checkpoint of a random net."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    (folder / "checkpoints").mkdir(parents=True)
    net = GPT(**SIZES)
    torch.save(
        {
            "format_version": 1,
            "state_dict": {f"net.{name}": tensor for name, tensor in net.state_dict().items()},
            "config": {"model": {"net": {"class_path": "lit_gpt.model.GPT", "init_args": SIZES}}},
            "tokenizer": Byte().state(),
            "global_step": 1,
        },
        folder / "checkpoints" / "best.ckpt",
    )
    return folder


def say(*arguments: str | Path) -> int:
    return main(["generate", *map(str, arguments)])


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "lit_gpt", "generate", *map(str, arguments)]


ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}


def test_prints_the_prompt_and_the_generated_text(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    options = {"max_new_tokens": 40, "temperature": 0.9, "top_k": 50, "top_p": 0.95, "min_p": 0.001}
    options |= {"repetition_penalty": 1.1, "seed": 1}
    typed = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    assert say(run, "--prompt", "def ", *typed) == 0
    shown = capfd.readouterr()
    expected = TextGenerator(GPT(**SIZES), Byte()).generate("def ", **options)
    assert shown.out == f"def {expected}\n"
    past, summary = shown.err.splitlines()
    assert "context of 32 tokens" in past and "last 16" in past
    assert summary.startswith("40 tokens in ") and summary.endswith(" tokens/s")


@pytest.mark.parametrize(("prompt", "tokens", "said"), [(20, 13, 0), (20, 14, 1), (32, 1, 0), (32, 2, 1), (20, 300, 1)])
def test_a_text_past_the_context_is_told_once(
    run: Path, capfd: pytest.CaptureFixture[str], prompt: int, tokens: int, said: int
) -> None:
    assert say(run, "--prompt", "a" * prompt, "--max_new_tokens", tokens, "--seed", 1, "--samples", 2) == 0
    assert capfd.readouterr().err.count("context of 32 tokens") == said


def test_a_prompt_longer_than_the_context_is_told() -> None:
    warning = Context(32, 40).warning(1)
    assert warning is not None and "40 tokens" in warning and "net 32" in warning


def test_the_prompt_may_be_left_out_of_the_output(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    texts = []
    for extra in ([], ["--no-echo"]):
        assert say(run / "checkpoints" / "best.ckpt", "--prompt", "é", "--temperature", "0", *extra) == 0
        texts.append(capfd.readouterr().out)
    assert texts[0] == "é" + texts[1]


def test_prompts_from_file_and_standard_input(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = "one\r\ntwo é\n".encode()
    (tmp_path / "prompt.txt").write_bytes(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))
    texts = []
    for arguments in (["--prompt_file", tmp_path / "prompt.txt"], ["--prompt", "-"], ["--prompt", content.decode()]):
        assert say(run, *arguments, "--max_new_tokens", "9", "--temperature", "0") == 0
        texts.append(capfd.readouterr().out)
    assert texts[0] == texts[1] == texts[2] and texts[0].startswith("one\r\ntwo é\n")


def test_several_samples_each_under_its_line(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--prompt", "ab", "--seed", "4", "--max_new_tokens", "20", "--stop", "e", "--stop", "q"]
    assert say(run, *arguments, "--samples", "5") == 0
    shown = capfd.readouterr()
    texts = TextGenerator(GPT(**SIZES), Byte()).generate_batch(["ab"] * 5, seed=4, max_new_tokens=20, stop=["e", "q"])
    expected = [f"--- sample {number} of 5 ---\nab{text}\n" for number, text in enumerate(texts, start=1)]
    assert shown.out == "".join(expected)
    assert len(set(texts)) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["RUN", "--prompt", "x" * 40], "prompt has 40 tokens.*end at 32"),
        (["RUN", "--top_p", "1.5"], "top_p is 1.5; give"),
        (["RUN", "--temperature", "-1"], "temperature is -1.0; give"),
        (["RUN", "--temperature", "warm"], "--temperature: invalid float value: 'warm'; see lit-gpt generate --help"),
        (["RUN", "--max_new_token", "3"], "unrecognized arguments: --max_new_token 3"),
        (["RUN", "--max_new_tokens", "-3"], "max_new_tokens is -3; give"),
        (["RUN", "--samples", "0"], "--samples is 0; give at least 1"),
        (["RUN", "--stop", ""], "stop holds an empty string"),
        (["RUN", "--device", "cuda:77"], "--device is 'cuda:77', which this machine does not have"),
        (["RUN", "--device", "toaster"], "--device is 'toaster'"),
        (["RUN", "--prompt", "a", "--prompt_file", "b"], "not allowed with argument --prompt"),
        (["RUN", "--prompt_file", "missing.txt"], "missing.txt: No such file"),
        (["RUN", "--prompt_file", "LATIN"], "latin.txt is not UTF-8 at byte 3"),
        ([], "the following arguments are required: run"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    places = {"RUN": run, "LATIN": tmp_path / "latin.txt"}
    assert say(*[places.get(argument, argument) for argument in arguments]) == 2
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err.startswith("lit-gpt: error: ") and shown.err.count("\n") == 1
    assert re.search(message, shown.err), shown.err


def test_help_needs_nothing_heavy_and_shows_an_example() -> None:
    watched = {**ENVIRONMENT, "PYTHONPROFILEIMPORTTIME": "1"}
    shown = subprocess.run(command("--help"), capture_output=True, text=True, env=watched, check=True)
    assert "lit_gpt.commands.parser" in shown.stderr and "torch" not in shown.stderr
    assert "lit-gpt generate runs/quickstart --prompt" in shown.stdout


def test_a_reader_that_leaves_ends_it_quietly(run: Path) -> None:
    process = subprocess.Popen(
        command(run, "--max_new_tokens", "100000", "--seed", "0"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.read(20), "text comes while it is written"
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == b""


def test_ctrl_c_ends_it_with_130_and_a_whole_line(run: Path) -> None:
    process = subprocess.Popen(
        command(run, "--max_new_tokens", "100000", "--seed", "0"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT,
        # A test run in the background of a shell ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.read(20)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out.endswith(b"\n") and err.startswith(b"lit-gpt: stopped by SIGINT: ")
    assert b"Traceback" not in err and err.count(b"\n") == 1 and b" tokens in " in err


def test_a_terminal_that_knows_no_unicode_shows_question_marks(run: Path) -> None:
    shown = subprocess.run(
        command(run, "--prompt", "é", "--max_new_tokens", "5", "--seed", "0"),
        capture_output=True, env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"}, check=True,
    )  # fmt: skip
    assert shown.stdout.startswith(b"?")
