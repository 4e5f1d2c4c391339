"""`lit-gpt tokenizer` through the front door."""

import io
import json
import sys
from pathlib import Path

import pytest

from lit_gpt.__main__ import main
from lit_gpt.data import Saved

ENGLISH = "the cat sat on the mat, a nice day\n" * 200
CHINESE = "道可道，非常道。\n" * 100


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIT_GPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "en.txt").write_text(ENGLISH)
    (tmp_path / "zh.txt").write_text(CHINESE)
    return tmp_path


def run(words: str) -> int:
    return main(["tokenizer", *words.split()])


@pytest.fixture
def trained(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert run("train --data.source.paths en.txt --data.tokenizer.vocab_size 290 --out bpe.json") == 0
    out = capsys.readouterr().out
    assert out.startswith("bpe.json: BPE of ") and "lit-gpt tokenizer stats bpe.json --text FILE" in out
    return folder / "bpe.json"


def test_it_learns_what_preparing_learns(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not (trained.parent / "cache" / "corpora").exists()
    assert main("prepare --data.source.paths en.txt --data.tokenizer.vocab_size 290 --data.folder made".split()) == 0
    assert Saved("made").fingerprint() == Saved(str(trained)).fingerprint()


@pytest.mark.parametrize("kind", ["WordPiece", "SentencePiece --data.tokenizer.special [<|user|>]", "Byte"])
def test_every_class_is_found_by_its_name(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"train --data.source.paths en.txt --data.tokenizer {kind} --out own.json") == 0
    assert run("encode own.json cat --ids") == 0
    ids = [int(word) for word in capsys.readouterr().out.splitlines()[-1].split()]
    assert ids == Saved("own.json").encode("cat")
    if "special" in kind:
        assert Saved("own.json").special_id("<|user|>") in Saved("own.json").special_ids


def test_text_goes_there_and_back(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "the cat\r\n道"
    assert main(["tokenizer", "encode", "--ids", str(trained), text]) == 0
    shown = capsys.readouterr().out
    assert [int(word) for word in shown.split()] == Saved(str(trained)).encode(text)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(shown.encode()), encoding="utf-8"))
    assert main(["tokenizer", "decode", str(trained)]) == 0
    assert capsys.readouterr().out == text
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("the é".encode()), encoding="utf-8"))
    assert main(["tokenizer", "encode", str(trained)]) == 0
    captured = capsys.readouterr()
    rows = [line.split(maxsplit=1) for line in captured.out.splitlines()]
    assert rows[0][1] == "'the'" and rows[-1][1] == r"b'\xa9'"
    assert "5 characters, 6 bytes" in captured.err


def test_stats_count_what_there_is(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained.parent / "more").mkdir()
    (trained.parent / "more" / "a.txt").write_text("mat")
    assert run("stats bpe.json --text en=en.txt zh=zh.txt more --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["texts"]) == ["en", "zh", "more"]
    tokenizer = Saved("bpe.json")
    zh = found["texts"]["zh"]
    assert zh == {
        "bytes": len(CHINESE.encode()),
        "characters": len(CHINESE),
        "words": 600,
        "tokens": len(tokenizer.encode(CHINESE)),
        "unknown": None,
    }
    assert found["texts"]["en"]["words"] == len(ENGLISH.split())
    ids = [id for text in (ENGLISH, CHINESE, "mat") for id in tokenizer.encode(text)]
    counts = {one["id"]: one["count"] for one in found["most_common"]}
    assert counts and all(ids.count(id) == count for id, count in counts.items())
    assert set(found["unused"]) == set(range(tokenizer.vocab_size)) - set(ids) - tokenizer.special_ids


def test_stats_show_a_table_and_draw_a_figure(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stats bpe.json --text en=en.txt zh.txt --plot zipf.png --top 3") == 0
    out = capsys.readouterr().out
    header, english, chinese = out.splitlines()[2:5]
    assert header.split() == ["text", "bytes", "tokens", "bytes/token", "characters/token", "tokens/word", "unk"]
    assert english.split()[0] == "en" and chinese.split()[0] == "zh.txt" and chinese.split()[-1] == "-"
    assert "unused ids: " in out and "figure: zipf.png" in out and "next:\n  lit-gpt tokenizer encode" in out
    assert (trained.parent / "zipf.png").read_bytes().startswith(b"\x89PNG")


def test_unk_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train --data.source.paths en.txt --data.tokenizer WordPiece --out words.json") == 0
    assert run("stats words.json --text en.txt zh.txt") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[-1] for row in rows if row[:1] in (["en.txt"], ["zh.txt"])] == ["0.00%", "100.00%"]


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    assert "lit-gpt tokenizer train --data.source.paths books/" in capsys.readouterr().out
    for words, shown in (
        ("train --help", "lit-gpt tokenizer train --data.source.paths books/"),
        ("stats --help", "fertility"),
    ):
        with pytest.raises(SystemExit) as ended:
            run(words)
        assert ended.value.code == 0 and shown in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    {
        "": "what to do? give train, encode, decode, stats",
        "encde": "does not know 'encde'; did you mean encode?",
        "train --data.source.paths en.txt": "required: --out",
        "train --data.source.paths en.txt --out en.txt": "--out en.txt exists",
        "train --data.source.paths en.txt --out no/t.json": "there is no folder",
        "train --data.source.paths no.txt --out t.json": "no file or folder no.txt",
        "train --data.source.paths en.txt --data.tokenizer.vocab_sise 9 --out t.json": "vocab_size?",
        "encode no.json a": "there is no tokenizer file no.json",
        "encode en.txt a": "en.txt is not a saved tokenizer",
        "encode": "the following arguments are required: TOKENIZER",
        "decode bpe.json a": "'a' is no token id; give whole numbers from 0 to ",
        "decode bpe.json 100000": "token id 100000 is past the tokenizer's vocabulary",
        "stats bpe.json": "required: --text",
        "stats bpe.json --text no.txt": "no file or folder no.txt",
        "stats bpe.json --text a=en.txt a=zh.txt": "two texts one name",
        "stats bpe.json --text en.txt --top 0": "--top is 0",
        "stats bpe.json --text en.txt --plot zipf.doc": "--plot zipf.doc is of no known kind",
        "stats bpe.json --text en.txt --plot no/zipf.png": "--plot no/zipf.png cannot be written",
        "stats bpe.json --txt en.txt --text en.txt": "did you mean --text?",
    }.items(),
)
def test_mistakes_end_with_2_and_one_line(
    words: str, said: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(trained.parent.glob("*"))
    assert run(words) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert sorted(trained.parent.glob("*")) == before


def test_stats_say_which_text_cannot_be_encoded(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "lines.jsonl").write_text('{"text": "a"}\n')
    assert run("train --data.source.paths en.txt --data.tokenizer Char --out char.json") == 0
    assert run("stats char.json --text a=zh.txt") == 2
    assert "error: zh.txt: character '道'" in capsys.readouterr().err
    assert run("train --data.source.paths en.txt --data.tokenizer Byte --out byte.json") == 0
    assert run("stats byte.json --text lines.jsonl") == 0
    assert "lines.jsonl is read as plain text" in capsys.readouterr().err
