"""The datasets library as a source: folders as they are, the hub by what it would be asked."""

import gzip
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lit_gpt.data import HubDataset
from lit_gpt.errors import UserError

datasets = pytest.importorskip("datasets")
hub = pytest.importorskip("huggingface_hub")

RECORDS = [{"text": f"text {n} 床", "meta": {"body": f"body {n}"}} for n in range(5)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    (folder / "test.jsonl").write_text(json.dumps(RECORDS[0]))
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.mark.parametrize("streaming", [True, False])
def test_a_folder_of_data_files(folder: Path, streaming: bool) -> None:
    def made(**more: Any) -> HubDataset:
        return HubDataset(str(folder), streaming=streaming, **more)

    assert list(made()) == [record["text"] for record in RECORDS] == list(made())
    assert list(made(field="meta.body")) == [record["meta"]["body"] for record in RECORDS]
    assert list(made(field=None)) == RECORDS
    assert [one.where for one in made(split="test").chunks()] == [f"{folder} (test), record 1"]
    before = made().signature()
    assert before == made().signature() != made(split="test").signature()
    (folder / "train.jsonl").write_text('{"text": "new"}')
    assert made().signature() != before


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_text_edited_with_size_and_time_kept_is_read_anew(folder: Path, name: str) -> None:
    for file in folder.iterdir():
        file.unlink()
    for word in ("one", "two", "two"):
        content = json.dumps({"text": word}).encode()
        (folder / name).write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
        os.utime(folder / name, (1_700_000_000, 1_700_000_000))
        assert list(HubDataset(str(folder), streaming=False)) == [word] == list(HubDataset(str(folder)))


def test_unchanged_files_are_read_from_the_library_s_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, load = [], datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: asked.append(k["download_mode"]) or load(*a, **k))
    assert list(HubDataset(str(folder), streaming=False)) == list(HubDataset(str(folder), streaming=False))
    assert asked == ["force_redownload", None]


def test_files_behind_links_to_folders_count(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.jsonl").write_text('{"text": "one"}')
    (tmp_path / "elsewhere" / "back").symlink_to(folder)
    (folder / "more").symlink_to(tmp_path / "elsewhere")
    before = HubDataset(str(folder)).signature()
    (tmp_path / "elsewhere" / "more.jsonl").write_text('{"text": "two"}')
    assert HubDataset(str(folder)).signature() != before


def test_a_folder_s_own_splits_are_taken(folder: Path, tmp_path: Path) -> None:
    from lit_gpt.data import Byte
    from lit_gpt.data.corpus.recipe import Fractions, Recipe

    def own(source: HubDataset) -> dict[str, list[Any]]:
        recipe = Recipe(source, Byte(), Fractions(0.2, 0.0))
        return {split: list(text) for split, text in recipe.own_sources().items()}

    assert own(HubDataset(str(folder))) == {"test": [RECORDS[0]["text"]]}
    (folder / "validation.jsonl").write_text('{"text": "held out"}')
    assert own(HubDataset(str(folder), limit=20)) == {"val": ["held out"], "test": [RECORDS[0]["text"]]}
    assert own(HubDataset(str(folder), split="test")) == {}
    one = datasets.Dataset.from_list(RECORDS)
    datasets.DatasetDict({"train": one, "dev": one.select([1])}).save_to_disk(tmp_path / "splits")
    assert own(HubDataset(str(tmp_path / "splits"))) == {"val": [RECORDS[1]["text"]]}
    one.save_to_disk(tmp_path / "one")
    assert own(HubDataset(str(tmp_path / "one"))) == {}


def test_what_save_to_disk_wrote(tmp_path: Path) -> None:
    one = datasets.Dataset.from_list(RECORDS)
    one.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": one, "dev": one.select([1])}).save_to_disk(tmp_path / "splits")
    assert list(HubDataset(str(tmp_path / "one"))) == [record["text"] for record in RECORDS]
    assert list(HubDataset(str(tmp_path / "splits"), split="dev")) == [RECORDS[1]["text"]]
    with pytest.raises(UserError, match="has no split 'test'; it has train, dev"):
        list(HubDataset(str(tmp_path / "splits"), split="test"))
    with pytest.raises(UserError, match="one dataset without splits; leave split 'dev' out"):
        list(HubDataset(str(tmp_path / "one"), split="dev"))


def test_a_limit_takes_whole_documents_and_says_what_is_left(folder: Path) -> None:
    size = len(RECORDS[0]["text"].encode())
    source = HubDataset(str(folder), limit=3 * size - 1)
    assert list(source) == [record["text"] for record in RECORDS[:2]]
    assert source.notes() == [f"{folder}: 2 documents within limit {3 * size - 1} bytes; left out from record 3 on"]
    source = HubDataset(str(folder), limit=5 * size)
    assert len(list(source)) == 5 and source.notes() == []
    with pytest.raises(UserError, match="limit 3 of HubDataset is less than .* record 1 has"):
        list(HubDataset(str(folder), limit=3))
    with pytest.raises(UserError, match="limit 0"):
        HubDataset(str(folder), limit=0)


def test_mistakes_are_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "code.py").write_text("raise SystemExit('run')")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "train.jsonl").write_text('{"text": "a"}\n{"text": "b"')
    for arguments, words in (
        ({"name": str(folder), "field": "body"}, r"\(train\): there is no field 'body'; the fields are: text, meta;"),
        ({"name": str(folder), "field": "meta"}, r"record 1: field 'meta' holds a record and no text"),
        ({"name": str(folder), "split": "dev"}, "cannot be opened .Bad split: dev"),
        ({"name": str(folder), "split": "train[:10%]"}, "streaming false for a part of a split"),
        ({"name": str(folder), "config": "no"}, "cannot be opened .BuilderConfig 'no' not found"),
        ({"name": str(folder), "revision": "main"}, "is for the hub, and .* is a folder"),
        ({"name": str(tmp_path / "void")}, "cannot be opened .*doesn't contain any data files"),
        ({"name": str(tmp_path / "code")}, "cannot be opened .Dataset scripts are no longer supported"),
        ({"name": str(tmp_path / "torn")}, "cannot be (opened|read)"),
        ({"name": str(tmp_path / "nowhere")}, "there is no folder"),
        ({"name": str(folder / "test.jsonl")}, "is a file; give it to Parquet"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            list(HubDataset(**arguments))
        assert "\n" not in str(caught.value)


class Hub:
    """Stands for the hub: notes what it is asked, and gives what it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        self.asked: list[Any] = []
        self.answers = list(answers)
        monkeypatch.setattr(hub.HfApi, "dataset_info", self.info)
        monkeypatch.setattr(datasets, "load_dataset", self.load)

    def info(self, name: str, revision: str | None = None, timeout: float | None = None) -> SimpleNamespace:
        self.asked.append((name, revision))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(sha=answer)

    def load(self, *arguments: Any, **more: Any) -> Any:
        self.asked.append((*arguments, more))
        if isinstance(self.answers[0], Exception):
            raise ConnectionError("Couldn't reach it")
        return datasets.Dataset.from_list(RECORDS).to_iterable_dataset()


def test_the_commit_is_looked_up_once_and_asked_for_ever_after(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Hub(monkeypatch, "c0ffee", "decade").asked
    source = HubDataset("who/what", config="zh", split="validation", revision="v2")
    assert list(source) == list(source) == [record["text"] for record in RECORDS]
    request = ("who/what", "zh", {"split": "validation", "revision": "c0ffee", "streaming": True})
    assert asked == [("who/what", "v2"), request, request]
    assert source.signature() is not None and source.notes() == ["who/what: commit c0ffee"]
    assert HubDataset("who/what", config="zh", split="validation", revision="v2").signature() != source.signature()
    assert [one.where for one in source.chunks()][0] == "who/what (validation), record 1"


def test_without_network_the_cache_is_used_or_a_fix_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Hub(monkeypatch, OSError("Name or service not known")).asked
    source = HubDataset("who/what")
    assert source.signature() is None
    with pytest.raises(UserError, match="cannot be reached for dataset who/what: .*HF_HUB_OFFLINE.*Parquet") as caught:
        list(source)
    assert asked[-1] == ("who/what", None, {"split": "train", "revision": None, "streaming": False})
    assert "\n" not in str(caught.value)


def test_a_name_that_the_hub_does_not_know_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = hub.errors
    response = SimpleNamespace(headers={}, request=None, status_code=404)
    for fault, words in (
        (errors.RepositoryNotFoundError, "the hub has no dataset who/what"),
        (errors.RevisionNotFoundError, "has no revision v3"),
        (errors.HfHubHTTPError, "the hub refuses dataset who/what"),
    ):
        Hub(monkeypatch, fault("not\nfound", response=response))
        with pytest.raises(UserError, match=words) as caught:
            HubDataset("who/what", revision="v3").signature()
        assert "\n" not in str(caught.value)


def test_a_stream_that_breaks_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def torn() -> Any:
        yield RECORDS[0]
        raise OSError("connection\nreset")

    stands = Hub(monkeypatch, "c0ffee")
    monkeypatch.setattr(stands, "load", None)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.IterableDataset.from_generator(torn))
    with pytest.raises(UserError, match=r"who/what \(train\) cannot be read after record 1 \(connection reset\)"):
        list(HubDataset("who/what"))
