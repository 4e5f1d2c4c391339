"""Download on the command line: its arguments, a local copy in its place, its own splits, mistakes in one line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from text_server import TextServer, zipped

from lit_gpt.__main__ import main
from lit_gpt.config.yaml_files import load_yaml
from lit_gpt.data.sources import transfer

SETTINGS = """
data:
  source:
    class_path: Download
    init_args:
      license: CC0
      files: [{address: "%s/text.zip"}]
      splits: {train: train.txt, val: [valid.txt], test: test.txt}
      reader: {class_path: TextFiles, init_args: {separator: "|"}}
  tokenizer: Byte
  context: 8
"""
TEXTS = {"a__train": "one|two|three|" * 20, "a__valid": "four|five|" * 20, "a__test": "six|seven|eight|nine|" * 20}
#: Documents of each split.
COUNTS = {"train": 60, "val": 40, "test": 80}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TextServer]:
    monkeypatch.setattr(transfer, "FIRST_WAIT", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    server = TextServer()
    server.add("text.zip", zipped(**TEXTS))
    (tmp_path / "text.yaml").write_text(SETTINGS % server.root)
    yield server
    server.close()


def documents(folder: str) -> dict[str, int]:
    """Documents of each split that was prepared."""
    splits = json.loads(Path(folder, "manifest.json").read_text())["splits"]
    return {split: json.loads(Path(folder, split, "manifest.json").read_text())["documents"] for split in splits}


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    """The settings of the source that the words come to."""
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config=text.yaml", *words, "--print_config"])
    assert ended.value.code == 0
    return load_yaml(capsys.readouterr().out)["data"]["source"]["init_args"]  # type: ignore[no-any-return]


def test_a_download_is_prepared_with_its_own_splits(server: TextServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "--config=text.yaml", "--data.folder=out", "--data.source.lock=mine.lock.json"]) in (
        0,
        None,
    )
    assert documents("out") == COUNTS
    assert list(json.loads(Path("mine.lock.json").read_text())) == [f"{server.root}/text.zip"]
    assert "recorded sha256" in capsys.readouterr().err
    # Own sources go before the text's own splits.
    Path("other.txt").write_text("other|text")
    words = ["--data.val_source=TextFiles", "--data.val_source.paths=other.txt", "--data.folder=out2"]
    assert main(["prepare", "--config=text.yaml", *words]) in (0, None)
    assert documents("out2") == {**COUNTS, "val": 1}


def test_paths_on_the_command_line_replace_the_download(server: TextServer) -> None:
    Path("my/copy").mkdir(parents=True)
    for name, text in TEXTS.items():
        Path("my", "copy", f"{name[3:]}.txt").write_text(text)
    for paths in ("my/copy/", "my", "[my/copy/train.txt, my/copy/valid.txt, my/copy/test.txt]"):
        assert main(["prepare", "--config=text.yaml", f"--data.source.paths={paths}", "--data.folder=out"]) in (0, None)
        assert documents("out") == COUNTS
    Path("own.txt").write_text("my own|" * 100)
    words = ["--data.source.paths", "own.txt", "--data.val_fraction", "0.1"]
    assert main(["prepare", "--config", "text.yaml", *words, "--data.folder=out"]) in (0, None)
    assert documents("out") == {"train": 90, "val": 10}
    assert server.asked == []


def test_reader_and_files_may_be_typed(server: TextServer, capsys: pytest.CaptureFixture[str]) -> None:
    given = shown(capsys, "--data.source.reader=JsonLines", "--data.source.reader.field=content")
    assert given["reader"] == {"class_path": "lit_gpt.data.JsonLines", "init_args": {"field": "content"}}
    assert given["files"] == [{"address": f"{server.root}/text.zip", "checksum": None, "stated": None}]
    assert server.asked == []  # nothing is fetched before text is wanted
    assert shown(capsys, "--data.source.files=[https://example.org/a.txt]")["files"] == ["https://example.org/a.txt"]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("license:", "licens:", "there is no key data.source.licens of Download; did you mean data.source.license?"),
        ("address:", "adress:", "no key data.source.files.adress of RemoteFile; did you mean data.source.files.addr"),
        ("separator:", "sep:", "there is no key data.source.reader.sep of TextFiles"),
        ("http:", "ftp:", "address 'ftp://"),
        ("val: [valid.txt]", "valid: valid.txt", "splits of Download names 'valid'; there are train, val, test"),
        ('text.zip"}', 'text.zip", checksum: "md5:12"}', "checksum 'md5:12' is none"),
        ("text.zip", "other.zip", "the server answers 404 Not Found; it may have moved"),
    ],
)
def test_mistakes_are_one_line(
    server: TextServer, capsys: pytest.CaptureFixture[str], before: str, after: str, words: str
) -> None:
    file = Path("text.yaml")
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))
    assert main(["prepare", "--config=text.yaml"]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and "Traceback" not in said and len(said.splitlines()) == 1
