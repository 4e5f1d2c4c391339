"""TextFiles as a stream: the same documents as when each file is read whole, in whatever memory."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.config import command_line as settings_module
from lit_gpt.data import Csv, JsonLines, Parquet, TextFiles
from lit_gpt.data.sources import streams as opening_module
from lit_gpt.data.sources import text_files as text_files_module

TEXT = st.text(st.sampled_from("ab\n-\r é字🙂\0"), max_size=60)


@given(
    st.lists(TEXT.filter(bool), min_size=1, max_size=4), st.sampled_from([None, "\n", "\n\n", "-a-", "aab"]), st.data()
)
@settings(max_examples=150, deadline=None)
def test_documents_are_those_of_the_whole_text(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], separator: str | None, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("t")
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_bytes(text.encode())
    size = data.draw(st.integers(1, 9))
    wanted = [part for text in texts for part in (text.split(separator) if separator else [text]) if part]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files_module, "text_blocks", lambda path: opening_module.text_blocks(path, size))
        source = TextFiles([str(folder / f"{number}.txt") for number in range(len(texts))], separator)
        assert list(source) == wanted
        chunks = list(source.chunks())
    assert sum(chunk.begins for chunk in chunks) == sum(chunk.ends for chunk in chunks) == len(wanted)
    assert all(chunk.where.endswith(".txt") for chunk in chunks)


def test_compressed_files_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"eins\r\nzwei\n"))
    assert list(TextFiles(str(tmp_path))) == ["eins\r\nzwei\n"]


LONG_LINE = """
import sys
from pathlib import Path
from lit_gpt.data import BPE, TextFiles
from lit_gpt.data.corpus.engines import InProcess
from lit_gpt.data.corpus.prepare import prepare
from lit_gpt.data.corpus.recipe import Recipe
from lit_gpt.data.corpus.recipe import Fractions
tokenizer = BPE(vocab_size=300)
tokenizer.train(["the cat sat on the mat"])
prepared = prepare(Recipe(TextFiles(sys.argv[1]), tokenizer, Fractions(0.1, 0.0)), sys.argv[2], InProcess())
train = prepared.corpora["train"]
# Not ru_maxrss, which begins with that of pytest.
(peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(int(peak.split()[1]) // 1024, train.documents, train.bytes)
"""


def long_line(folder: Path, size: int) -> list[int]:
    """Megabytes at most resident, documents and bytes of training, where one line of so many bytes is prepared."""
    with (folder / "long.txt").open("w") as file:
        for _ in range(size // 1_000_000):
            file.write("the cat sat on the mat and " * 37037 + "x")
    command = [sys.executable, "-c", LONG_LINE, str(folder / "long.txt"), str(folder / "corpus")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert run.returncode == 0, run.stderr
    return [int(number) for number in run.stdout.split()]


def test_a_long_line_is_one_document_in_little_memory(tmp_path: Path) -> None:
    resident, documents, size = long_line(tmp_path, 5_000_000)
    assert documents == 1 and size == int(5_000_000 * 0.9)
    assert resident < 300


@pytest.mark.slow
def test_a_line_of_200_megabytes_stays_below_500(tmp_path: Path) -> None:
    resident, documents, size = long_line(tmp_path, 200_000_000)
    assert documents == 1 and size == int(200_000_000 * 0.9)
    print(f"\n200 MB in one line: {resident} MB resident at most")
    assert resident < 500


def test_the_command_line_knows_readers_by_the_same_endings() -> None:
    assert settings_module._READERS == {end: one.__name__ for one in (JsonLines, Csv, Parquet) for end in one.endings}
    assert settings_module._COMPRESSED == opening_module.COMPRESSED


def test_what_is_probably_not_meant_is_told_after_the_reading(tmp_path: Path) -> None:
    for name, text in {"a.txt": "one\n\ntwo", "b.txt": "one\r\n\r\ntwo", "c.txt": "one"}.items():
        (tmp_path / name).write_bytes(text.encode())
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"text": 1}\n\n{"text": 2}'))
    source = TextFiles(str(tmp_path), "\n\n")
    assert len(list(source)) == 6
    assert source.notes() == [
        "d.jsonl.gz is read as plain text, marks and all; JsonLines takes the text out",
        "the separator '\\n\\n' is nowhere in b.txt, c.txt, each of which is one document; lines end in \\r\\n there",
    ]
    plain = TextFiles(str(tmp_path / "b.txt"))
    assert list(plain) and plain.notes() == []
