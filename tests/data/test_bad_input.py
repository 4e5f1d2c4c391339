"""Texts, records and corpora that are not as they should be: one line each that says where; nothing is lost."""

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_gpt.__main__ import main
from lit_gpt.data.corpus.memmap import BLOCK


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIT_GPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def records(*lines: str) -> Callable[[Path], list[str]]:
    def write(place: Path) -> list[str]:
        (place / "a.jsonl").write_text("\n".join(lines))
        return ["--data.source", "JsonLines", "--data.source.paths", "a.jsonl"]

    return write


def text(content: bytes, name: str = "a.txt", *more: str) -> Callable[[Path], list[str]]:
    def write(place: Path) -> list[str]:
        (place / name).write_bytes(content)
        return ["--data.source", "TextFiles", "--data.source.paths", name, *more]

    return write


def mixture(**weights: float) -> Callable[[Path], list[str]]:
    def write(place: Path) -> list[str]:
        for name in ("en", "zh"):
            (place / f"{name}.txt").write_text("some text " * 50)
        sources = {n: {"class_path": "TextFiles", "init_args": {"paths": f"{n}.txt"}} for n in ("en", "zh")}
        words = ["--data.source", "Mixture", "--data.source.sources", json.dumps(sources)]
        return [*words, "--data.source.weights", json.dumps(weights)]

    return write


GOOD = json.dumps({"text": "a good record, long enough"})
FILTERED = ("--data.filters", '[{class_path: Length, init_args: {min_chars: 5000}}]')  # fmt: skip


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (text(b"good text\xff more"), "a.txt is not UTF-8 text: byte 0xff at offset 9"),
        (text(b"x" * (1 << 20) + b"\xe9 x"), f"a.txt is not UTF-8 text: byte 0xe9 at offset {1 << 20}"),
        (text(gzip.compress(b"some text" * 99)[:-12], "a.txt.gz"), "a.txt.gz is torn"),
        (text(b"no archive", "a.txt.gz"), "a.txt.gz is damaged, or no .gz file"),
        (text(b""), "a.txt is empty"),
        (text(b"\n\n\n\n", "a.txt", "--data.source.separator", "\\n"), "gives no text"),
        (text(b"short text. " * 100, "a.txt", *FILTERED), "the filters leave nothing of TextFiles"),
        (records(GOOD, '{"text": "torn', GOOD), "a.jsonl:2"),
        (records(GOOD, GOOD, '{"body": "x"}'), "a.jsonl:3"),
        (records(GOOD, '{"text": 17}'), "a.jsonl:2"),
        (records(GOOD, '{"text": "half a pair \\ud83d"}'), "a.jsonl:2"),
        (mixture(en=0.5, zh=0.6), "1.1"),
        (mixture(en=1.0), "zh"),
    ],
)
def test_bad_text_is_told_with_its_place(
    place: Path, capsys: pytest.CaptureFixture[str], write: Callable[[Path], list[str]], said: str
) -> None:
    words = ["prepare", *write(place), "--data.tokenizer", "Byte", "--data.context", "8", "--data.folder", "corpus"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error, error
    assert not (place / "corpus").exists() and not (place / ".corpus.preparing").exists()


def prepared(place: Path) -> list[str]:
    (place / "a.txt").write_text("".join(f"line {number} of the text\n" for number in range(4000)))
    words = ["prepare", "--data.source.paths", "a.txt", "--data.tokenizer", "Byte", "--data.context", "8"]
    words += ["--data.folder", "corpus"]
    assert main(words) == 0
    return words


def flip(file: Path, byte: int) -> None:
    content = bytearray(file.read_bytes())
    content[byte] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: os.truncate(folder / "train" / "ids.bin", 999), "train/ids.bin has 999 bytes instead of"),
        (lambda folder: (folder / "val" / "bytes.bin").unlink(), "val/bytes.bin is missing"),
        (
            lambda folder: flip(folder / "train" / "ids.bin", BLOCK + 7),
            "train/ids.bin was changed after it was written",
        ),
        (lambda folder: flip(folder / "train" / "ids.sums", 9), "train/ids.sums was changed after it was written"),
        (lambda folder: flip(folder / "val" / "offsets.bin", 9), "val/offsets.bin was changed after it was written"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json is damaged"),
        (
            lambda folder: (folder / "manifest.json").write_text('{"format": "lit_gpt prepared text", "version": 1}'),
            "is of version 1, this program reads version 3",
        ),
        (
            lambda folder: (folder / "manifest.json").write_text('{"format": "lit_gpt prepared text", "version": 3}'),
            "manifest.json is damaged (it lacks identity, tokenizer, sources",
        ),
        (
            lambda folder: (folder / "val" / "manifest.json").write_text('{"format": "lit_gpt corpus", "version": 3}'),
            "val/manifest.json is damaged (it lacks tokens, documents",
        ),
        (shutil.rmtree, "is not a finished lit_gpt prepared text"),
    ],
)
def test_a_damaged_corpus_is_told(
    place: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], object], said: str
) -> None:
    words = prepared(place)
    assert main([*words, "--verify"]) == 0 and main(["prepare", "--verify", "corpus"]) == 0
    assert capsys.readouterr().out.count("every byte is as it was written") == 2
    damage(place / "corpus")
    assert main(["prepare", "--verify", "corpus"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and said in error, error


def test_a_flipped_bit_stops_training_before_it_is_used(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = prepared(place)[1:]
    flip(place / "corpus" / "train" / "ids.bin", 2 * BLOCK + 1)
    net = ["--model.net.width=16", "--model.net.depth=1", "--model.net.heads=2", "--model.net.context=8"]
    trainer = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    assert main(["fit", *words, *net, *trainer, "--data.sampler=Sequential", "--data.batch_size=64"]) == 2
    error = capsys.readouterr().err
    assert f"ids.bin is damaged between byte {2 * BLOCK} and {3 * BLOCK}" in error and "Traceback" not in error


@pytest.mark.parametrize(
    "words",
    [
        ["--workers", "0"],
        ["--workers", "many"],
        ["--engine", "spark"],
        ["--verify", "nowhere"],
        ["--verify=nowhere", "--workers", "2"],
        ["--verify", "nowhere", "--data.source.paths", "text"],
    ],
)
def test_options_of_the_command_that_mean_nothing(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and ("takes nothing else" in error) == (words[0][:8] == "--verify" and len(words) > 2)
