"""What is found in folders, in which sampler, and how mistakes are told."""

import os
import sys
from pathlib import Path

import pytest

from lit_gpt.data import StandardLibrary, TextFiles
from lit_gpt.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "texts"
    (root / "b" / "deep").mkdir(parents=True)
    (root / ".git").mkdir()
    for name in ("c.txt", "a.txt", "b/2.txt", "b/1.md", "b/deep/0.txt", ".hidden", ".git/config"):
        (root / name).write_text(name, encoding="utf-8")
    (root / "empty.txt").touch()
    (root / "image.png").write_bytes(b"\x89PNG\0\0\xff")
    (root / "broken").symlink_to(root / "nowhere")
    return root


def test_folders_are_read_through_in_the_order_of_names(folder: Path) -> None:
    assert list(TextFiles(str(folder))) == ["a.txt", "c.txt", "b/1.md", "b/2.txt", "b/deep/0.txt"]


def test_globs_and_lists_keep_the_order_given_and_take_each_file_once(folder: Path) -> None:
    assert list(TextFiles(f"{folder}/**/*.md")) == ["b/1.md"]
    paths = [str(folder / "c.txt"), f"{folder}/*.txt"]
    assert list(TextFiles(paths)) == ["c.txt", "a.txt"]


def test_a_separator_cuts_a_file_into_documents(tmp_path: Path) -> None:
    (tmp_path / "poems").write_text("one\ntwo\n\nthree\n\n\n\nfour")
    for separator in ("\n\n", r"\n\n"):
        assert list(TextFiles(str(tmp_path / "poems"), separator=separator)) == ["one\ntwo", "three", "four"]


def test_text_comes_as_it_is_but_for_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "dos").write_bytes("\ufeffa\r\nb\u2028".encode())
    assert list(TextFiles(str(tmp_path / "dos"))) == ["a\r\nb\u2028"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.txt", None, "there is no file or folder .*none.txt"),
        ("empty.txt", b"", "empty.txt is empty"),
        ("latin.txt", b"caf\xe9 au lait", "byte 0xe9 at offset 3"),
        ("marked.txt", b"\xef\xbb\xbfab\xff", "byte 0xff at offset 5"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        list(TextFiles(str(tmp_path / name)))
    assert "\n" not in str(caught.value) and str(tmp_path / name) in str(caught.value)


def test_folders_and_globs_without_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"\0\1")
    (tmp_path / "void.txt").touch()
    for paths, words in (
        (str(tmp_path), "has no text files"),
        (f"{tmp_path}/*.md", "matches no file"),
        (f"{tmp_path}/*.txt", "are empty"),
    ):
        with pytest.raises(UserError, match=words):
            list(TextFiles(paths))
    with pytest.raises(UserError, match="empty list"):
        list(TextFiles([]))
    for nothing in ("", [str(tmp_path), ""]):  # not the folder that this runs in
        with pytest.raises(UserError, match="paths of TextFiles holds an empty name"):
            list(TextFiles(nothing))
    with pytest.raises(UserError, match="separator"):
        TextFiles("x", separator="")


def test_a_folder_that_may_not_be_read_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refusing(path: str) -> object:  # root reads everything, so the system is not asked
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match="closed cannot be read"):
        list(TextFiles(str(tmp_path)))


def test_a_signature_changes_with_text_of_equal_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one")
    before, times = TextFiles(str(file)).signature(), file.stat()
    assert TextFiles(str(file)).signature() == before
    file.write_text("two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert TextFiles(str(file)).signature() != before


def test_the_standard_library_is_read_without_tests_and_stable() -> None:
    names = [path.as_posix() for path in StandardLibrary().files()]
    assert any(name.endswith("/json/decoder.py") for name in names)
    assert not any("/test/" in name or "/tests/" in name or "site-packages" in name for name in names)
    source = StandardLibrary(limit=200_000)
    documents = list(source)
    assert documents == list(source)
    assert 150_000 < sum(len(text.encode()) for text in documents) <= 200_000
    for text in documents[:20]:
        compile(text, "a file of the standard library", "exec", dont_inherit=True)
    assert sys.modules["json"]  # it is this Python's library that was read


def test_a_limit_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="limit 0"):
        StandardLibrary(limit=0)
