"""`lit-gpt stats` through the front door, on small texts whose numbers are plain."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_gpt.__main__ import main
from lit_gpt.commands.stats import bar, markdown
from lit_gpt.data.corpus.prepare import prepare
from lit_gpt.data.corpus.prepared import Prepared
from lit_gpt.data.corpus.recipe import Fractions, Recipe
from lit_gpt.data.sources.source import Source
from lit_gpt.data.sources.text_files import TextFiles
from lit_gpt.data.tokenizers.byte_and_char import Byte, Char
from lit_gpt.data.tokenizers.display import display_token
from lit_gpt.data.tokenizers.tokenizer import Tokenizer


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """Words of one letter each; the validation text is the training text's first part and a word of its own."""
    draw = random.Random(0)
    text = " ".join(draw.choices(["a", "bb", "ccc"], k=400))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    (tmp_path / "val.txt").write_text(f"{text[:100]}中", encoding="utf-8")
    return made(tmp_path, Char(eos="<end>"))


def made(folder: Path, tokenizer: Tokenizer) -> Prepared:
    source: Source = TextFiles(str(folder / "text.txt"))
    own = TextFiles(str(folder / "val.txt"))
    return prepare(Recipe(source, tokenizer, Fractions(0.0, 0.0), val_source=own), folder / "corpus")


def run(*words: Any) -> int:
    return main(["stats", *map(str, words)])


def test_what_is_said_is_what_is_in_the_text(prepared: Prepared, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(prepared.folder, "--json", "--top", 2) == 0
    told = json.loads(capsys.readouterr().out)
    text = (prepared.folder.parent / "text.txt").read_text()
    train, val = told["splits"]["train"], told["splits"]["val"]
    assert told["tokenizer"] == {"kind": "Char", "vocab_size": len(set(text)) + 2}
    assert (train["tokens"], train["documents"], train["bytes"]) == (len(text) + 1, 1, len(text))
    expected = sorted(((text.count(one), one) for one in "abc "), key=lambda one: -one[0])
    assert [(one["count"], one["token"]) for one in train["most_common"]] == expected[:2]
    assert train["least_common"][0] == {"id": prepared.tokenizer.special_id("<end>"), "token": "<end>", "count": 1}
    assert train["unused"] == prepared.tokenizer.encode("中")
    assert val["unseen"] == 1
    # 100 letters of the training text, the new one and the end: what has the new one in it is nowhere else.
    assert val["overlap"] == {
        "ngram": 13, "ngrams": 90, "shared": 88, "documents": 1, "shared_documents": 0, "repeated": 0
    }  # fmt: skip
    assert (train["overlap"], train["unseen"]) == (None, None)
    assert val["lengths"] == {"least": 102, "median": 102, "p90": 102, "p99": 102, "most": 102, "mean": 102.0}
    assert val["histogram"] == [[64, 127, 1]]


def test_the_tables_name_every_split_and_the_next_command(
    prepared: Prepared, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(prepared.folder) == 0
    out = capsys.readouterr().out
    for words in ("Char tokenizer of", "texts\n", "lengths of documents", "held-out texts", "97.78%", "never occur"):
        assert words in out
    assert "'中'" in out
    assert "<end>" in out
    assert out.rstrip().splitlines()[-2] == "next:"
    assert out.rstrip().splitlines()[-1].startswith(f"  lit-gpt stats {prepared.folder} --plot")
    assert max(map(len, out.splitlines())) <= 160


def test_figures_in_a_file_and_in_tensorboard(prepared: Prepared, capsys: pytest.CaptureFixture[str]) -> None:
    from matplotlib.image import imread
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    plot, folder = prepared.folder.parent / "stats.png", prepared.folder.parent / "board"
    assert run(prepared.folder, "--plot", plot, "--tensorboard", folder) == 0
    assert imread(plot).shape[2] == 4
    assert f"tensorboard --logdir {folder}" in capsys.readouterr().out
    events = EventAccumulator(str(folder))
    events.Reload()
    assert "stats/token frequency" in events.Tags()["images"]
    assert len(events.Tags()["images"]) == 4
    assert {"stats/lengths of documents/train", "stats/ids/val"} <= set(events.Tags()["distributions"])
    assert "stats/texts/text_summary" in events.Tags()["tensors"]
    lengths = events.Histograms("stats/lengths of documents/val")[0].histogram_value
    assert (lengths.num, lengths.min, lengths.max, sum(lengths.bucket)) == (1, 102, 102, 1)


def test_the_data_of_a_run(
    prepared: Prepared, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared.folder.parent
    monkeypatch.setenv("LIT_GPT_CACHE", str(folder / "cache"))
    one = folder / "run"
    one.mkdir()
    source = {"class_path": "TextFiles", "init_args": {"paths": str(folder / "text.txt")}}
    data = {"source": source, "tokenizer": "Char", "val_fraction": 0.25, "context": 8}
    (one / "config.yaml").write_text(yaml.safe_dump({"model": {"net": {"width": 8}}, "data": data}))
    (one / "run.json").write_text("{}")
    assert run(one, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["path"].startswith(str(folder / "cache"))
    assert list(told["splits"]) == ["train", "val"]


def test_mistakes_are_one_line(prepared: Prepared, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for words, says in (
        (("nowhere",), "nowhere is no folder; give one that `lit-gpt prepare` named"),
        ((tmp_path / "empty",), "empty"),
        ((prepared.folder / "train",), f"give the folder above it, {prepared.folder}"),
        ((prepared.folder, "--top", 0), "--top is 0; give at least 1"),
        ((prepared.folder, "--ngram", -1), "--ngram is -1; give at least 1"),
        ((prepared.folder, "--plot", "stats.gif"), "ends in .png, .svg or .pdf"),
        ((prepared.folder, "--plot", tmp_path / "no" / "stats.png"), "there is no folder"),
        ((prepared.folder, "--tensorboard", tmp_path / "text.txt"), "--tensorboard"),
        ((prepared.folder, "--plott", "a"), "did you mean --plot"),
    ):
        assert run(*words) == 2, words
        error = capsys.readouterr().err
        assert says in error
        assert len(error.strip().splitlines()) == 1


def test_a_damaged_corpus_is_told(prepared: Prepared, capsys: pytest.CaptureFixture[str]) -> None:
    file = prepared.folder / "train" / "ids.bin"
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)
    assert run(prepared.folder) == 2
    assert "is damaged between byte 0" in capsys.readouterr().err


def test_tokens_are_readable() -> None:
    tokenizer = Byte(eos="<end>")
    tokenizer.train([])
    assert [display_token(tokenizer, id) for id in (65, 10, 0xE4, tokenizer.special_id("<end>"))] == [
        "'A'", "'\\n'", "b'\\xe4'", "<end>"
    ]  # fmt: skip


def test_bars_are_as_long_as_their_shares() -> None:
    assert [len(bar(share)) for share in (0.0, 1e-9, 0.5, 1.0)] == [0, 1, 12, 24]
    assert bar(0.5 + 1 / 48) == "█" * 12 + "▌"


def test_a_table_as_markdown() -> None:
    from rich.table import Table

    table = Table()
    table.add_column("a")
    table.add_column("")
    table.add_row("x|y", "`z`")
    assert markdown(table) == "| a |   |\n| --- | --- |\n| x\\|y | 'z' |"
