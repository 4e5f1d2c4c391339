"""`lit-gpt prepare` through the front door."""

import gzip
import re
from pathlib import Path

import pytest

from lit_gpt.__main__ import main


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIT_GPT_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "text.txt"
    file.write_text("the cat sat on the mat. " * 100)
    return file


def test_it_prepares_then_finds_and_names_the_next_command(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data.source", "TextFiles", "--data.source.paths", str(text), "--data.tokenizer", "Char"]
    assert main(["prepare", *words]) == 0
    first = capsys.readouterr().out
    assert "(prepared)" in first and "2,160 tokens" in first and "Char: 11 ids, 64 in the net" in first
    assert f"lit-gpt fit {' '.join(words)}" in first
    assert main(["prepare", *words]) == 0
    assert "(up to date)" in capsys.readouterr().out
    moved = text.rename(text.with_name("moved.txt"))
    assert main(["prepare", *words[:3], str(moved), *words[4:]]) == 0
    found = capsys.readouterr().out
    assert "(up to date)" in found and "moved.txt" in found and "/text.txt" not in found


def test_bytes_of_records_are_those_trained_on(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = text.with_name("pairs.jsonl")
    file.write_text("".join(f'{{"source": "number {n}", "target": "{n:03}"}}\n' for n in range(40)))
    words = ["--data.source", "JsonLines", "--data.source.paths", str(file), "--data.source.field", "null"]
    words += [
        "--data.format",
        "Seq2Seq",
        "--data.sequences",
        "Prompts",
        "--data.tokenizer",
        "Byte",
        "--data.context",
        "32",
    ]
    assert main(["prepare", *words, "--data.batch_size", "64"]) == 0
    shown = capsys.readouterr().out
    assert "108 bytes of it trained on" in shown  # three of each of 36 documents
    assert "36 rows of 32, 1 batch of 64" in shown


def test_a_config_gives_its_data_section_and_the_nets_context(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    again = f"{{class_path: TextFiles, init_args: {{paths: {text}}}}}"
    config.write_text(
        "model: {net: {context: 32}, optimizer: {lr: 1.0}}\ntrainer: {max_steps: 5}\nseed_everything: 3\n"
        f"data: {{source: {again}, tokenizer: Byte, folder: {tmp_path / 'corpus'}, extra_val: {{again: {again}}}}}\n"
    )
    assert main(["prepare", "--config", str(config), "--data.batch_size", "4"]) == 0
    out = capsys.readouterr().out
    assert "68 windows of 32, 17 batches of 4" in out and "again" in out and str(tmp_path / "corpus") in out
    assert (tmp_path / "corpus" / "extra" / "again" / "ids.bin").stat().st_size == 2 * 2400


def test_a_checkpoint_to_start_from_gives_tokenizer_and_context(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    net = ["--model.net.width=16", "--model.net.depth=1", "--model.net.context=8", "--data.tokenizer=Byte"]
    few = ["--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu", "--name=base"]
    assert main(["fit", f"--data.source.paths={text}", *net, *few, "--sample.max_new_tokens=2"]) == 0
    capsys.readouterr()
    assert main(["prepare", f"--data.source.paths={text}", "--model.init_from=runs/base"]) == 0
    shown = capsys.readouterr()
    assert "Byte: 256 ids" in shown.out and "windows of 8," in shown.out and not shown.err


def test_ctrl_c_says_how_to_go_on(
    text: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lit_gpt.data.corpus.encoder import Encoder

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    words = ["prepare", "--data.source.paths", str(text), "--data.tokenizer", "Char"]
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode", interrupted)
        assert main(words) == 130
    said = capsys.readouterr().err
    assert re.fullmatch("lit-gpt: stopped by SIGINT while preparing .*: the same command goes on where it was\n", said)
    assert main(words) == 0
    assert "going on with what was prepared before it was stopped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--data.source.paths", "TEXT", "--model.net.context", "ten"], "expected a whole number, got 'ten'"),
        (["--data.source.paths", "nowhere.txt"], "there is no file or folder nowhere.txt"),
        (["--data.source.limt", "3"], "data.source.limit?"),
        (["--data.source.paths", "TEXT", "--data.context", "5000"], "a context of 5000 needs 5001"),
        (["--data.source.paths", "TEXT", "--data.val_fraction", "2"], "val_fraction: expected a number of at least 0"),
        (["--config", "none.yaml"], "none.yaml does not exist"),
    ],
)
def test_mistakes_end_with_2_and_one_line(
    text: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", *[str(text) if word == "TEXT" else word for word in words]]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "the cat sat on the mat"}\n' * 40),
        ("a.csv", "text\n" + "the cat sat on the mat\n" * 40),
        ("a.tsv.gz", None),
    ],
)
def test_paths_alone_are_read_by_what_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, content: str | None
) -> None:
    monkeypatch.setenv("LIT_GPT_CACHE", str(tmp_path / "cache"))
    if content is None:
        (tmp_path / name).write_bytes(gzip.compress(b"a\ttext\n" + b"1\tthe cat sat on the mat\n" * 40))
    else:
        (tmp_path / name).write_text(content)
    words = ["--data.source.paths", str(tmp_path / name), "--data.tokenizer", "Byte", "--data.context", "8"]
    assert main(["prepare", *words]) == 0
    assert "36 documents" in capsys.readouterr().out
