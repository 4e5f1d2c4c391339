"""What of folders, globs and names is not read: counted by reason and said, or refused."""

import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from lit_gpt.__main__ import main
from lit_gpt.data import JsonLines, Mixture, TextFiles
from lit_gpt.errors import UserError

BASE = ["prepare", "--data.tokenizer", "Byte", "--data.context", "8"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two texts among much else."""
    root = tmp_path / "texts"
    (root / "deep").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / "a.txt").write_text("plain text, long enough to be split " * 9)
    (root / "deep" / "b.txt").write_text("more of it, in a folder of its own " * 9)
    (root / "utf16.txt").write_text("hello there", encoding="utf-16")
    (root / "unmarked.txt").write_bytes("hello there".encode("utf-16-le"))
    (root / "utf32.txt").write_bytes("hello there".encode("utf-32-be"))
    (root / "nul.txt").write_bytes(b"some text\0 and more")
    (root / "zeros.bin").write_bytes(bytes(100))
    (root / "empty.txt").touch()
    (root / ".hidden").write_text("x")
    (root / "folder").symlink_to(root / "deep")
    (root / "broken").symlink_to(root / "nowhere")
    os.mkfifo(root / "pipe")
    for name in ("c.tar", "d.tar.gz", "named_otherwise.txt"):
        with tarfile.open(root / name, "w:gz" if name.endswith("gz") else "w") as archive:
            archive.add(root / "a.txt")
    with zipfile.ZipFile(root / "e.zip", "w") as archive_file:
        archive_file.write(root / "a.txt")
    return root


NOT_READ = [
    "2 not read: UTF-16 or UTF-32 text, which is to be converted to UTF-8",
    "1 not read: a link that leads nowhere (broken)",
    "1 not read: a link to a folder (folder)",
    "3 not read: an archive (tar) (c.tar, d.tar.gz, named_otherwise.txt)",
    "1 not read: an archive (zip) (e.zip)",
    "2 not read: binary, with a NUL byte (nul.txt, zeros.bin)",
    "1 not read: empty (empty.txt)",
    "2 not read: hidden (.git, .hidden)",
    "1 not read: neither file nor folder (pipe)",
]


def test_every_file_that_is_not_read_is_counted_by_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = [f"3{NOT_READ[0][1:]} (unmarked.txt, utf16.txt, utf32.txt)", *NOT_READ[1:]]
    source = TextFiles(str(folder))
    assert [path.name for path in source.files()] == ["a.txt", "b.txt"]
    assert source.not_read() == expected
    assert Mixture({"one": lambda: source}).not_read() == [f"one: {line}" for line in expected]
    assert main([*BASE, "--data.source.paths", str(folder)]) == 0
    said = capsys.readouterr().out
    assert all(line in said for line in expected)
    (folder / "later.txt").write_bytes(b"\0")  # the text is the same, so what was prepared is found again
    assert main([*BASE, "--data.source.paths", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "up to date" in said and "3 not read: binary, with a NUL byte (later.txt, nul.txt, zeros.bin)" in said


def test_of_records_files_with_other_endings_are_counted(folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"text": "a"}\n')
    (folder / "void.jsonl").touch()
    source = JsonLines(str(folder))
    assert list(source) == ["a"]
    said = source.not_read()
    assert "2 not read: empty (empty.txt, void.jsonl)" in said and "1 not read: a link to a folder (folder)" in said
    line = "11 not read: another ending than .jsonl or .ndjson (a.txt, c.tar, d.tar.gz and 8 more)"
    assert line in said, said


def test_a_list_or_glob_that_names_a_file_reads_it_after_all(folder: Path) -> None:
    source = TextFiles([str(folder), str(folder / "nul.txt")])
    assert len(source.files()) == 3 and "1 not read: binary, with a NUL byte (zeros.bin)" in source.not_read()
    inside = TextFiles(f"{folder}/[ad]*[tp]")
    assert [path.name for path in inside.files()] == ["a.txt"]
    assert inside.not_read() == ["1 not read: folders that a glob matches, which takes files alone (deep)"]
    assert TextFiles(f"{folder}/{'[ae]*.txt'}").not_read() == ["1 not read: empty (empty.txt)"]


@pytest.mark.parametrize("name", ["c.tar", "d.tar.gz", "named_otherwise.txt", "e.zip"])
@pytest.mark.parametrize("way", ["{}", "{}*"])
def test_an_archive_that_is_named_as_text_is_refused(folder: Path, name: str, way: str) -> None:
    with pytest.raises(UserError, match=f"{name} is an archive .* unpack it and give the folder"):
        list(TextFiles(way.format(folder / name)))


@pytest.mark.parametrize("name", ["utf16.txt", "unmarked.txt", "utf32.txt"])
def test_utf16_that_is_named_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is UTF-16 or UTF-32 text; convert it"):
        list(TextFiles(str(folder / name)))


def test_a_folder_without_text_says_what_it_holds_instead(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text", encoding="utf-16")
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"no text files in it \(1 not read: UTF-16 .*a.txt.*; 1 not read: an archive"):
        list(TextFiles(str(tmp_path)))


def test_a_pipe_that_is_named_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(UserError, match="neither a file nor a folder"):
        list(TextFiles(str(tmp_path / "pipe.txt")).chunks())
