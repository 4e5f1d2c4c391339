"""`lit-gpt backtranslate` through the front door: functions, runs, mistakes, and what comes next."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asked_runs import FEW, NET, RECORDS, WORDS, made_run, records

from lit_gpt.__main__ import main
from lit_gpt.data.formats.format import PlainText
from lit_gpt.data.formats.records import Seq2Seq

FUNCTIONS = """
calls = 0
def upper(texts): return [text.upper() for text in texts]
def lower(texts): return tuple(text.lower().replace("cat", "kitten") for text in texts)
def same(texts): return texts
def few(texts): return texts[1:]
def none(texts): return None
def numbers(texts): return [1 for _ in texts]
def half(texts): return ["\\ud800" for _ in texts]
def breaks(texts): raise RuntimeError("no\\nnetwork")
def third(texts):
    global calls
    calls += 1
    if calls == 3: raise RuntimeError("once")
    return texts
word = "no function"
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with a module of functions, found as the front door finds it, and a few documents."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    Path("own_functions.py").write_text(FUNCTIONS)
    Path("broken.py").write_text("def f(:")
    Path("needs.py").write_text("import not_there_at_all")
    Path("documents").mkdir()
    for number in range(5):
        Path(f"documents/{number}.txt").write_text(f"The cat {number} sat.\n\nAnd it is rain.\n")
    yield
    for name in ("own_functions", "broken", "needs"):
        sys.modules.pop(name, None)


def translate(*words: str, there: str = "own_functions:upper", back: str = "own_functions:lower") -> int:
    paths = (
        [] if any("data.source" in word or "--config" in word for word in words) else ["--data.source.paths=documents"]
    )
    out = [] if "--out" in words else ["--out", "again.jsonl"]
    return main(["backtranslate", *paths, "--there", there, "--back", back, *out, *words])


def lines(name: str = "again.jsonl") -> list[dict[str, str]]:
    return [json.loads(line) for line in Path(name).read_text().splitlines()]


def test_functions_then_a_fit_on_what_came_back(capsys: Any) -> None:
    assert translate() == 0
    shown = capsys.readouterr().out
    assert [line["original"] for line in lines()] == [f"The cat {n} sat.\n\nAnd it is rain.\n" for n in range(5)]
    assert [line["text"] for line in lines()] == [f"the kitten {n} sat.\n\nand it is rain.\n" for n in range(5)]
    assert "translated    5 documents, 160 characters" in shown and "written       5 documents, 175 char" in shown
    assert "unchanged     0 documents\n" in shown
    # The two commands that are printed do what they say.
    Path("held_out").mkdir()
    Path("held_out/a.txt").write_text("The cat sat on the mat. " * 20)
    for command in re.findall(r"^  (lit-gpt fit .*)$", shown, re.MULTILINE):
        words = [*shlex.split(command)[1:], "--data.tokenizer=Byte", "--data.context=16"]
        assert main(["prepare", *words[1:]]) == 0
        said = capsys.readouterr().out
        assert f"{5 if 'Mixture' not in command else 10} documents" in said
    # Again, nothing is done; with other settings, nothing is overwritten.
    before = Path("again.jsonl").read_bytes()
    assert translate() == 0 and "was finished already" in capsys.readouterr().out
    assert translate("--max_chars", "40") == 2
    assert "max_chars 500, not 40" in capsys.readouterr().err and Path("again.jsonl").read_bytes() == before


def test_a_config_gives_source_and_filters(capsys: Any) -> None:
    Path("records.jsonl").write_text('{"body": "A cat."}\n{"body": "x"}\n{"body": "dog"}\n')
    Path("run.yaml").write_text(
        "model: {net: {width: 32}}\ndata: {batch_size: 4, tokenizer: Byte, filters: [{class_path: Length, init_args:"
        " {min_chars: 2}}],\n  source: {class_path: JsonLines, init_args: {paths: records.jsonl, field: body}}}\n"
    )
    assert translate("--config", "run.yaml", "--keep_unchanged", "--out", "new/o.jsonl") == 0
    assert [line["text"] for line in lines("new/o.jsonl")] == ["a kitten.", "dog"]
    assert "unchanged     1 document\n" in capsys.readouterr().out
    assert translate("--config", "run.yaml") == 0
    assert "unchanged     1 document; dropped" in capsys.readouterr().out
    assert (
        translate("--config", "run.yaml", "--out", "same.jsonl", there="own_functions:same", back="own_functions:same")
        == 0
    )
    assert "nothing new came back" in capsys.readouterr().out and Path("same.jsonl").read_text() == ""


@pytest.mark.slow
def test_a_function_that_failed_once_goes_on_to_the_same_bytes(capsys: Any) -> None:
    words = ["--batch_size", "2"]
    assert translate(*words, back="own_functions:third") == 2
    said = capsys.readouterr().err
    assert "--back own_functions:third raised RuntimeError: once for 2 text(s), the first 'THE CAT 2" in said
    assert not Path("again.jsonl").exists() and said.count("\n") == 1
    assert translate(*words, back="own_functions:third") == 0
    assert translate(*words, "--out", "whole.jsonl", back="own_functions:third") == 0
    assert Path("again.jsonl").read_bytes() == Path("whole.jsonl").read_bytes() and len(lines()) == 5


def test_a_run_translates_as_it_was_trained(capfd: Any) -> None:
    words = ["--data.format=Seq2Seq", "--data.tokenizer=Byte", *NET, "--trainer.max_steps=120", "--name=pairs"]
    assert main(["fit", *FEW, *RECORDS, records("pairs.jsonl", "Seq2Seq"), *words]) == 0
    Path("text.txt").write_text("\n".join(WORDS) + "\n\n  dog\n")
    capfd.readouterr()
    assert (
        translate(
            "--data.source.paths", "text.txt", "--temperature", "0", there="runs/pairs", back="own_functions:same"
        )
        == 0
    )
    # Its separator is a line's end, so that each line goes by itself, and all white space stays.
    assert [line["text"] for line in lines()] == ["\n".join(WORDS).upper() + "\n\n  DOG\n"]


@pytest.mark.slow
def test_a_run_that_draws_goes_on_to_the_same_bytes(capfd: Any) -> None:
    """A net of random numbers, most of whose texts come to no end."""
    made_run("random", Seq2Seq())
    Path("text").mkdir()
    for number in range(30):
        Path(f"text/{number:02}.txt").write_text(f"Document {number}")
    words = ["--data.source.paths=text", "--temperature=1.2", "--batch_size=5"]
    assert translate(*words, there="runs/random", back="own_functions:third") == 2
    assert translate(*words, there="runs/random", back="own_functions:third") == 0
    shown = capfd.readouterr().out
    assert translate(*words, "--out", "whole.jsonl", there="runs/random", back="own_functions:third") == 0
    assert Path("again.jsonl").read_bytes() == Path("whole.jsonl").read_bytes() and 1 <= len(lines()) < 30
    assert re.search(r"dropped +\d+ documents whose translation reached no end within the run's context", shown)
    assert translate(*words, "--seed=2", "--out", "other.jsonl", there="runs/random", back="own_functions:third") == 0
    assert Path("again.jsonl").read_bytes() != Path("other.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"back": "own_functions:lowr"}, "lowr: own_functions has no function lowr; did you mean own_functions:lower"),
        ({"back": "own_functions:word"}, "has no function word"),
        ({"back": "not_there:f"}, "--back not_there:f: there is no module not_there in this folder or on PYTHONPATH"),
        ({"back": "broken:f"}, "--back broken:f: importing broken raised SyntaxError: "),
        ({"back": "needs:f"}, "importing needs raised ModuleNotFoundError: No module named 'not_there_at_all'"),
        ({"back": "own_functions:few"}, r"--back own_functions:few returned 9 translation\(s\) for 10 text\(s\)"),
        ({"back": "own_functions:none"}, "own_functions:none returned a NoneType, not a list"),
        ({"back": "own_functions:numbers"}, "returned a int for 'THE CAT 0 SAT.'; it has to return texts"),
        ({"there": "own_functions:half"}, r"--there own_functions:half returned U\+D800 for 'The cat 0 sat.'"),
        ({"there": "own_functions:breaks"}, "raised RuntimeError: no network for 10"),
        ({"there": "runs/none"}, "--there: checkpoint runs/none does not exist.*is a run, a .ckpt file or"),
        ({"there": "runs/plain"}, "runs/plain was trained on PlainText, not on pairs of source and target"),
        ({"there": "runs/tiny"}, "its context of 2 tokens is too short for"),
        (["--max_chars", "0"], "--max_chars is 0; give at least 1"),
        (["--batch_size", "many"], "--batch_size: invalid int value"),
        (["--temperature", "0.5"], "--temperature is for runs, and both translators are functions"),
        (["--temprature", "0.5"], "did you mean --temperature?"),
        (["--data.batch_size", "5"], "data.batch_size"),
        (["--out", "again.txt"], "--out again.txt: JsonLines finds files that end in .jsonl"),
        (["--data.source", "JsonLines", "--data.source.paths", "records.jsonl", "--data.source.field", "null"],
         "records.jsonl:1: a record with the fields body is no plain text"),
        (["--config", "mixture.yaml"], r"the documents carry tags \(<|en|>\)"),
        (["--config", "empty.yaml"], "which documents\\? give --data.source.paths"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(changed: Any, message: str, capfd: Any) -> None:
    Path("records.jsonl").write_text('{"body": "A cat."}\n')
    Path("empty.yaml").write_text("data: {batch_size: 4}\n")
    Path("mixture.yaml").write_text(
        "data: {source: {class_path: Mixture, init_args: {tags: {a: <|en|>}, sources: {a: {class_path: TextFiles,"
        " init_args: {paths: documents}}}}}}\n"
    )
    if "plain" in str(changed):
        made_run("plain", PlainText())
    if "tiny" in str(changed):
        made_run("tiny", Seq2Seq(), context=2)
    words, ways = (changed, {}) if isinstance(changed, list) else ([], changed)
    assert translate(*words, **ways) == 2
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err.startswith("lit-gpt: error: ") and shown.err.count("\n") == 1, shown.err
    assert re.search(message, shown.err), shown.err


def test_help_teaches() -> None:
    command = [sys.executable, "-m", "lit_gpt", "backtranslate", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "module:function" in shown and "--data.source" in shown and "resume" in shown
    assert all(len(line) <= 120 for line in shown.splitlines())
