"""The contract of the component `data.source`: what every source keeps, whatever it reads."""

import csv
import inspect
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lit_gpt.data import Csv, HubDataset, JsonLines, Mixture, Parquet, Source, StandardLibrary, TextFiles
from lit_gpt.data.chunks import whole
from lit_gpt.data.sources.record_files import RecordFiles
from lit_gpt.errors import UserError

TEXTS = ["one\r\n\0 床前 😀", "", "two " * 1000, "three"]
CLASSES = [Csv, HubDataset, JsonLines, Mixture, Parquet, StandardLibrary, TextFiles]


def text_files(folder: Path, texts: list[str]) -> Source:
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_bytes(text.encode())
    return TextFiles([str(folder / f"{number}.txt") for number, text in enumerate(texts) if text])


def parts_of_a_file(folder: Path, texts: list[str]) -> Source:
    (folder / "all.txt").write_bytes("<end>".join(texts).encode())
    return TextFiles(str(folder / "all.txt"), separator="<end>")


def json_lines(folder: Path, texts: list[str]) -> Source:
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return JsonLines(str(folder))


def csv_files(folder: Path, texts: list[str]) -> Source:
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["text"], *([text] for text in texts)])
    return Csv(f"{folder}/*.csv")


def parquet_files(folder: Path, texts: list[str]) -> Source:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": texts}), folder / "a.parquet")
    return Parquet([str(folder / "a.parquet")])


def hub_dataset(folder: Path, texts: list[str]) -> Source:
    pytest.importorskip("datasets")
    json_lines(folder, texts)
    return HubDataset(str(folder))


def mixture(folder: Path, texts: list[str]) -> Source:
    for name in ("a", "b"):
        (folder / name).mkdir(exist_ok=True)
    return Mixture(
        {"a": json_lines(folder / "a", texts[:2]), "b": csv_files(folder / "b", texts[2:])}, tags={"a": "<a>"}
    )


MAKE: list[Callable[[Path, list[str]], Source]] = [
    text_files,
    parts_of_a_file,
    json_lines,
    csv_files,
    parquet_files,
    hub_dataset,
    mixture,
]


@pytest.fixture(params=MAKE, ids=lambda make: make.__name__)
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_every_reading_gives_the_same_documents_in_order(make: Any, tmp_path: Path) -> None:
    source = make(tmp_path, TEXTS)
    # An empty file is refused, and there is nothing between two separators.
    kept = [text for text in TEXTS if text or make not in (text_files, parts_of_a_file)]
    assert list(source) == list(source) == kept
    chunks = list(source.chunks())
    assert [chunk.content for chunk in whole(chunks)] == kept
    assert chunks[0].begins and chunks[-1].ends and all(str(tmp_path) in chunk.where for chunk in chunks)
    assert all(one.ends == other.begins for one, other in itertools.pairwise(chunks))


def test_a_signature_changes_with_the_text_and_only_then(make: Any, tmp_path: Path) -> None:
    source = make(tmp_path, TEXTS)
    before = source.signature()
    assert before is not None and before == source.signature()
    assert make(tmp_path, [*TEXTS[:3], "four!"]).signature() != before


def test_it_is_described_in_one_line(make: Any, tmp_path: Path) -> None:
    source = make(tmp_path, TEXTS)
    assert source.describe().startswith(type(source).__name__ + "(") and "\n" not in source.describe()
    assert str(tmp_path) in source.describe()
    assert source() is source


def test_it_refuses_what_is_not_there_in_one_line(make: Any, tmp_path: Path) -> None:
    source = make(tmp_path, TEXTS)
    for file in [path for path in tmp_path.rglob("*") if path.is_file()]:
        file.unlink()
    with pytest.raises(UserError) as caught:
        list(source)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_what_it_should_be_is_named(make: Any, tmp_path: Path) -> None:
    source = make(tmp_path, TEXTS)
    for file in [path for path in tmp_path.rglob("*") if path.is_file()]:
        file.write_bytes(b"caf\xe9 \xff" * 100)
    with pytest.raises(UserError) as caught:
        list(source)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("cls", CLASSES)
def test_help_says_what_every_argument_does(cls: type) -> None:
    for name in list(inspect.signature(cls.__init__).parameters)[1:]:  # type: ignore[misc]
        assert f"        {name}: " in (cls.__doc__ or ""), f"{cls.__name__} does not document {name}"


@pytest.mark.parametrize(("one", "two"), list(itertools.combinations([*CLASSES, RecordFiles], 2)))
def test_siblings_agree_on_shared_arguments(one: type, two: type) -> None:
    """Changing the class keeps same-named arguments, so a name must mean the same and default to the same."""
    a, b = (inspect.signature(cls.__init__).parameters for cls in (one, two))  # type: ignore[misc]
    for name in (a.keys() & b.keys()) - {"self"}:
        assert (a[name].default, a[name].annotation) == (b[name].default, b[name].annotation), name


def test_naming_the_sources_costs_no_import_of_what_reads_them() -> None:
    code = (
        "import sys; from lit_gpt.data import Csv, HubDataset, JsonLines, Mixture, Parquet, TextFiles;"
        " print(*(m for m in ('datasets', 'pyarrow', 'zstandard', 'huggingface_hub', 'torch') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
