"""Where text comes from: files, folders, the standard library of the running Python.

Knows: how documents are found and read. Does not know: tokenizers, splits, files of ids.

A source yields documents (one `str` each) in an order that depends on the text alone, every time it is iterated.
"""

import codecs
import glob
import hashlib
import os
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_gpt.errors import UserError

_LOOK = 8192  # bytes of a file that tell text from binary, by a NUL among them, as git does


class Source:
    """The base of all sources of text. A subclass writes `__iter__`, and `signature` where that is cheap."""

    def __iter__(self) -> Iterator[str]:
        """Yields the documents."""
        raise NotImplementedError

    def __call__(self) -> "Source":
        """Itself, so that a made source may stand where a class to be made is expected."""
        return self

    def describe(self) -> str:
        """Class and arguments in one line, for reports."""
        arguments = ", ".join(f"{key}={value!r}" for key, value in vars(self).items() if not key.startswith("_"))
        return f"{type(self).__name__}({arguments})"

    def signature(self) -> str | None:
        """A cheap hash that changes whenever the text can have changed; None where only reading it all tells."""
        return None


class TextFiles(Source):
    """UTF-8 text from files, folders and globs; a file is one document unless a separator cuts it.

    A folder is searched through all its subfolders, in the order of names; hidden, empty and binary files in it are
    passed over. A file that is named itself has to be text.

    Args:
        paths: A file, a folder or a glob (`books/**/*.txt`), or a list of them, read in the order given.
        separator: Text between documents inside a file, \\n\\n for a blank line; by default a file is one document.
    """

    def __init__(self, paths: str | list[str], separator: str | None = None) -> None:
        self.paths = paths
        # A command line has no other way of typing a line break.
        self.separator = separator and separator.replace("\\n", "\n").replace("\\t", "\t")
        if separator == "":
            raise UserError("separator of TextFiles is empty; leave it out to take each file as one document")

    def __iter__(self) -> Iterator[str]:
        for path in self.files():
            text = read_text(path)
            if self.separator is None:
                yield text
            else:
                yield from (part for part in text.split(self.separator) if part)

    def signature(self) -> str | None:
        return _stat_signature(self.files(), f"{type(self).__qualname__} {self.separator!r}")

    def files(self) -> list[Path]:
        """The files that will be read, in order, each once.

        Raises:
            UserError: a path that does not exist, a glob that matches nothing, a folder with no text, an empty file.
        """
        given = [self.paths] if isinstance(self.paths, (str, os.PathLike)) else list(self.paths)
        if not given:
            raise UserError("paths of TextFiles is an empty list; give a file, a folder or a glob")
        return list(dict.fromkeys(path for name in given for path in _expand(os.path.expanduser(name))))


class StandardLibrary(Source):
    """The source text of the running Python's standard library: one document per .py file, in the order of their names.

    Tests, installed packages and files that are not UTF-8 are left out, and so are `encodings` and `pydoc_data`, which
    hold tables of characters and pages of prose rather than code.

    Args:
        limit: Most bytes to take, in whole files (those that do not fit any more are passed over); null takes all,
            some 10 MB.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        if limit is not None and limit < 1:
            raise UserError(f"limit {limit} of StandardLibrary leaves no text; give a number of bytes, or null for all")

    def __iter__(self) -> Iterator[str]:
        taken = 0
        for path in self.files():
            try:
                text = path.read_bytes().decode("utf-8")
            except UnicodeDecodeError:
                continue
            if not text:
                continue
            size = len(text.encode("utf-8"))
            if self.limit is not None and taken + size > self.limit:
                continue
            taken += size
            yield text

    def signature(self) -> str | None:
        return _stat_signature(self.files(), f"{platform.python_version()} {self.limit}")

    def files(self) -> list[Path]:
        """The .py files, in order."""
        root = Path(sysconfig.get_path("stdlib"))
        left_out = {
            "test",
            "tests",
            "idle_test",
            "site-packages",
            "dist-packages",
            "__pycache__",
            "encodings",
            "pydoc_data",
        }
        found = []
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if name not in left_out and not name.startswith("config-"))
            found += [
                Path(folder, name) for name in names if name.endswith(".py") and not name.startswith("_sysconfigdata")
            ]
        if not found:
            raise UserError(f"this Python keeps no source text of its standard library in {root}; use TextFiles")
        return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        UserError: unreadable file, or bytes that are not UTF-8, with their offset.
    """
    try:
        content = path.read_bytes()
    except PermissionError:
        raise UserError(f"{path} may not be read by this user; change its permissions") from None
    except OSError as fault:
        raise UserError(f"{path} cannot be read ({fault.strerror}); give a file or a folder of text") from None
    mark = len(codecs.BOM_UTF8) if content.startswith(codecs.BOM_UTF8) else 0
    try:
        return content[mark:].decode("utf-8")
    except UnicodeDecodeError as fault:
        raise UserError(
            f"{path} is not UTF-8 text: byte 0x{content[mark + fault.start]:02x} at offset {mark + fault.start};"
            " convert it (iconv -t UTF-8) or leave it out"
        ) from None


def _expand(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        files = [found for found in _walk(path) if _is_text(found)]
        if not files:
            raise UserError(
                f"folder {name} has no text files in it; give one that has, or a glob such as '{name}/**/*.md'"
            )
        return files
    if path.exists():
        return [_nonempty(path)]
    if any(sign in name for sign in "*?["):
        files = [Path(found) for found in sorted(glob.glob(name, recursive=True)) if not os.path.isdir(found)]
        if not files:
            raise UserError(f"the glob {name} matches no file; quote it, and use ** to go into folders")
        files = [found for found in files if found.stat().st_size]
        if not files:
            raise UserError(f"all files that the glob {name} matches are empty; give files with text")
        return files
    raise UserError(f"there is no file or folder {name}; give the path of a text file, a folder or a glob (paths)")


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder by names, hidden ones left out; links to folders are left, they may go in circles."""
    for here, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(here, name)


def _refuse_folder(fault: OSError) -> None:
    # Passed over, its text would be missing from training with nobody told.
    raise UserError(f"folder {fault.filename} cannot be read ({fault.strerror}); change its permissions or move it")


def _is_text(path: Path) -> bool:
    if not path.is_file():  # a broken link, a socket
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_LOOK)
    except PermissionError:
        return True  # said with its name when it is read
    return bool(head) and b"\0" not in head


def _nonempty(path: Path) -> Path:
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{path} is empty; give a file with text")
    return path


def _stat_signature(files: list[Path], more: str) -> str:
    digest = hashlib.sha256(more.encode())
    for path in files:
        stat: Any = path.stat()
        # ctime too: a copy that keeps its times (cp -p, rsync) changes the text and not the mtime.
        line = f"\n{os.path.abspath(path)} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
