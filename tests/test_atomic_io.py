"""Atomic file writes: the old or the new bytes at any time, locks between processes, and nobody writes around them."""

import ast
import multiprocessing
import os
from pathlib import Path

import pytest

from lit_gpt import atomic_io

PACKAGE = Path(__file__).parents[1] / "lit_gpt"
BY_NAME = {"replace", "rename", "renames", "fsync", "fdatasync", "flock", "lockf", "mkstemp", "NamedTemporaryFile"}


def durable_calls(source: str) -> list[str]:
    """Calls of a file that rename, sync or lock: os.replace, Path.rename, fcntl.flock and their like."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or node.func.attr not in BY_NAME:
            continue
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        if owner == "atomic_io":
            continue
        # str.replace takes two arguments, Path.replace takes one.
        if node.func.attr == "replace" and owner != "os" and (len(node.args) != 1 or node.keywords):
            continue
        found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_only_atomic_io_renames_syncs_and_locks(file: Path) -> None:
    if file != PACKAGE / "atomic_io.py":
        assert durable_calls(file.read_text(encoding="utf-8")) == [], "use lit_gpt.atomic_io"


def test_the_search_finds_such_calls() -> None:
    found = durable_calls("os.replace(a, b); p.rename(q); p.replace(q); os.fsync(3); fcntl.flock(f, 2)")
    assert len(found) == 5
    assert durable_calls("'a'.replace('b', 'c'); dataclasses.replace(a, b=1); atomic_io.rename(a, b)") == []


def test_a_failed_write_leaves_the_old_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic_io.write_bytes(path, b"old")
    with pytest.raises(RuntimeError), atomic_io.staged_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.json"]


def test_a_link_is_relative_and_replaced(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        atomic_io.write_link(tmp_path / "link", tmp_path / name)
        assert os.readlink(tmp_path / "link") == name
    assert sorted(os.listdir(tmp_path)) == ["link", "one", "two"]


def test_a_staged_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with pytest.raises(RuntimeError), atomic_io.staged_folder(target) as staged:
        (staged / "a").write_text("a")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    target.mkdir()  # empty: replaced
    with atomic_io.staged_folder(target) as staged:
        (staged / "a").write_text("a")
        assert os.listdir(target) == []
    assert os.listdir(tmp_path) == ["folder"] and os.listdir(target) == ["a"]


def test_a_swapped_folder_keeps_the_old_one(tmp_path: Path) -> None:
    new, target, old = tmp_path / "new", tmp_path / "target", tmp_path / "old"
    for number in ("1", "2", "3"):
        new.mkdir()
        (new / number).touch()
        atomic_io.swap_folder(new, target, old)
    assert os.listdir(target) == ["3"] and os.listdir(old) == ["2"] and not new.exists()


def test_a_lock_is_held_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    assert not atomic_io.is_locked(path)
    with atomic_io.lock_file(path):
        assert atomic_io.is_locked(path)
        with pytest.raises(TimeoutError):
            atomic_io.lock_file(path, timeout=0.05)
    assert not atomic_io.is_locked(path)
    atomic_io.lock_file(path, timeout=0).close()


def test_a_forked_worker_does_not_keep_a_lock(tmp_path: Path) -> None:
    """It may outlive the process that took the lock."""
    path = tmp_path / ".lock"
    lock = atomic_io.lock_file(path)
    begun, end = multiprocessing.get_context("fork").Event(), multiprocessing.get_context("fork").Event()
    worker = multiprocessing.get_context("fork").Process(target=lambda: (begun.set(), end.wait(60)))
    worker.start()
    assert begun.wait(60)
    lock.close()
    assert not atomic_io.is_locked(path)
    end.set()
    worker.join()


def test_a_full_disk_is_one_line_with_the_free_bytes(tmp_path: Path) -> None:
    with pytest.raises(atomic_io.CannotWrite) as told, atomic_io.disk_errors(tmp_path / "a", 1234, "hint"):
        raise OSError(atomic_io.DISK_FULL[0], "No space left on device")
    line = str(told.value)
    assert str(tmp_path / "a") in line and "1,234 bytes are needed" in line and line.endswith("; hint")
