"""The ready corpora: each names its address, license and splits, and reads a made text of its publisher's format."""

import csv
import gzip
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from text_server import TextServer, all_splits, tarred

import lit_gpt.data
from lit_gpt.__main__ import main
from lit_gpt.config.yaml_files import load_yaml
from lit_gpt.data.sources.archives import is_archive
from lit_gpt.data.sources.download import Download
from lit_gpt.data.sources.remote_file import RemoteFile

CONFIGS = Path(__file__).parents[2] / "configs"
CORPORA = sorted(CONFIGS.glob("corpora/*.yaml"))
ADDRESS = re.compile(r"https?://\S+|hf://datasets/[\w.-]+/[\w.-]+(@[0-9a-f]{40})?/\S+")
each = pytest.mark.parametrize("config", CORPORA, ids=lambda file: file.stem)


def settings(config: Path) -> dict[str, Any]:
    """What a config says of its source."""
    source: dict[str, Any] = load_yaml(config.read_text(encoding="utf-8"))["data"]["source"]
    assert source["class_path"] == "Download"
    return source["init_args"]  # type: ignore[no-any-return]


def reader(config: Path) -> Any:
    """The source that reads a corpus's files, made as the command line makes it."""
    given = settings(config).get("reader", "TextFiles")
    name, arguments = (given, {}) if isinstance(given, str) else (given["class_path"], given.get("init_args", {}))
    return lambda paths: getattr(lit_gpt.data, name)(paths, **arguments)


#: Which documents a file of three of them holds, by corpus: with a separator or records each is one.
DOCUMENTS = ["first document", "second, \"quoted\" document", "床前明月光，疑是地上霜。"]  # fmt: skip


def sample(config: Path, name: str, documents: list[str]) -> bytes:
    """A file as the publisher writes them."""
    given = settings(config).get("reader", "TextFiles")
    kind, arguments = (given, {}) if isinstance(given, str) else (given["class_path"], given.get("init_args", {}))
    if kind == "TextFiles":
        separator = arguments.get("separator", "\n")
        return separator.join([*documents, ""] if separator == "\n" else documents).encode()
    records = [{"id": str(number), arguments["field"]: text} for number, text in enumerate(documents)]
    if kind == "JsonLines":
        lines = "".join(json.dumps(record) + "\n" for record in records).encode()
        return gzip.compress(lines) if name.endswith(".gz") else lines
    if kind == "Csv":
        file = io.StringIO()
        writer = csv.DictWriter(file, list(records[0]))
        writer.writeheader()
        writer.writerows(records)
        return file.getvalue().encode()
    assert kind == "Parquet"
    import pyarrow
    import pyarrow.parquet

    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), buffer)
    return buffer.getvalue()


def members(config: Path) -> dict[str, str]:
    """Names of the members that a corpus's archive has, with the text of each."""
    named = {
        "wikitext": [f"wikitext/wiki.{split}.raw" for split in ("train", "valid", "test")],
        "one_bill": [
            *(f"r13output/training/news.en-000{number:02}-of-00100" for number in (1, 2, 99)),
            *(f"r13output/heldout/news.en.heldout-000{number:02}-of-00050" for number in (0, 1, 2, 3, 10, 49)),
        ],
    }[config.stem[:8]]
    return {name: f"{name}\n" for name in named}


def test_the_corpora_that_are_promised_are_there() -> None:
    assert {file.stem for file in CORPORA} == {
        *("tinyshakespeare", "wikitext2", "wikitext103", "ptb", "one_billion_words", "tinystories", "openwebtext"),
        *("fineweb", "the_stack", "codeparrot", "chinese_poetry", "chinese_literature"),
    }


@each
def test_a_corpus_names_address_license_splits_and_how_to_use_it(config: Path) -> None:
    text = config.read_text(encoding="utf-8")
    head = text.partition("data:")[0]
    assert all(line.startswith("#") and len(line) <= 120 for line in head.splitlines())
    for word in ("# Overlay: ", "License: ", "Publisher", "Splits: ", "https://", "--data.source.paths "):
        assert word in head, word
    assert f"--config configs/corpora/{config.name}" in head
    given = settings(config)
    assert given["license"] and given["files"]
    for file in given["files"]:
        assert ADDRESS.fullmatch(file["address"])
        RemoteFile(**file)
        assert file.get("stated", "https://").startswith("https://")
    # What has no checksum is on the hub, which states one, or is said to be recorded.
    if not all("checksum" in file or file["address"].startswith("hf:") for file in given["files"]):
        assert "recorded in the lock file" in head


@each
def test_the_command_in_a_corpus_is_understood(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = re.search(r"^#   (lit-gpt fit .*)$", config.read_text(encoding="utf-8"), re.MULTILINE)
    assert line is not None
    words = [str(CONFIGS.parent / word) if word.startswith("configs/") else word for word in line[1].split()[1:]]
    with pytest.raises(SystemExit) as ended:
        main([*words, "--print_config"])
    shown = load_yaml(capsys.readouterr().out)["data"]
    assert ended.value.code == 0
    assert [file["address"] for file in shown["source"]["init_args"]["files"]] == [
        file["address"] for file in settings(config)["files"]
    ]


@each
def test_a_corpus_reads_what_its_publisher_offers(config: Path, server: TextServer) -> None:
    given = settings(config)
    files = []
    for file in given["files"]:
        name = RemoteFile(file["address"]).name
        content = sample(config, name, DOCUMENTS)
        if is_archive(name) and name.endswith("zip"):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                for member, text in members(config).items():
                    archive.writestr(member, text)
            content = buffer.getvalue()
        elif is_archive(name):
            content = tarred(members(config))
        files.append(RemoteFile(server.add(name, content)))
    source = Download(files, given["license"], reader(config), given.get("splits"))
    train, val, test = all_splits(source)
    if config.stem.startswith("wikitext"):
        assert (train, val, test) == tuple([f"wikitext/wiki.{split}.raw\n"] for split in ("train", "valid", "test"))
    elif config.stem == "one_billion_words":
        assert train == [f"r13output/training/news.en-000{number:02}-of-00100" for number in (1, 2, 99)]
        assert val == [f"r13output/heldout/news.en.heldout-000{number:02}-of-00050" for number in (1, 2)]
        assert test == ["r13output/heldout/news.en.heldout-00000-of-00050"]
    elif config.stem in ("ptb", "tinyshakespeare", "chinese_literature"):
        whole = "\n".join([*DOCUMENTS, ""])
        assert train == [whole] * (4 if config.stem == "chinese_literature" else 1)
        assert (val, test) == (([whole], [whole]) if config.stem == "ptb" else (None, None))
    else:
        assert train == DOCUMENTS * (5 if config.stem == "chinese_poetry" else 1)
        assert (val, test) == ((DOCUMENTS, None) if config.stem == "tinystories" else (None, None))


@each
def test_a_local_copy_of_a_corpus_is_prepared(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the command line, without any server."""
    copy, given = tmp_path / "copy", settings(config)
    copy.mkdir()
    documents = [f"{text} number {number}" for number in range(40) for text in DOCUMENTS]
    if is_archive(given["files"][0]["address"]):
        for name in members(config):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes(sample(config, name, documents))
    else:
        for file in given["files"]:
            name = RemoteFile(file["address"]).name
            (copy / name).write_bytes(sample(config, name, documents))
    words = [f"--data.folder={tmp_path / 'out'}", "--data.tokenizer=Byte", "--data.context=8"]
    assert main(["prepare", f"--config={config}", f"--data.source.paths={copy}", *words]) in (0, None)
    kept = json.loads((tmp_path / "out" / "manifest.json").read_text())["splits"]
    splits = given.get("splits", {})
    assert kept == ["train", "val", *(["test"] if "test" in splits else [])]
    assert "Download" in capsys.readouterr().out
