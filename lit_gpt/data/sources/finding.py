"""Which files are meant by paths, folders and globs, in which order; and whether they have changed.

Knows: names and states of files, what tells text from binary. Does not know: documents, records.
"""

import glob
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_gpt.data.sources.opening import COMPRESSED, byte_blocks
from lit_gpt.errors import UserError

_LOOK = 8192  # bytes of a file that tell text from binary, by a NUL among them, as git does


def find_files(paths: str | list[str], owner: str, endings: tuple[str, ...] | None = None) -> list[Path]:
    """The files that are meant, in the order given, each once; those of a folder and of a glob in the order of names.

    Args:
        paths: A file, a folder or a glob, or a list of them.
        owner: Class whose argument `paths` it is, for errors.
        endings: What the names of files in a folder end in, before the suffix of a compression; by default all that
            are text are taken. A file that is named itself or by a glob is taken whatever its name.

    Raises:
        UserError: a path that does not exist, a glob that matches nothing, a folder with none, an empty file.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given:
        raise UserError(f"paths of {owner} is an empty list; give a file, a folder or a glob")
    if "" in given:  # a shell's variable that is not set; as a path it would be the folder that this runs in
        raise UserError(f"paths of {owner} holds an empty name; give a file, a folder or a glob, . for this folder")
    return list(dict.fromkeys(path for name in given for path in _expand(os.path.expanduser(name), endings)))


def stat_signature(files: list[Path], more: str) -> str:
    """A hash of the state of files, which changes whenever one was written.

    Args:
        files: What was found.
        more: All else that decides the text: class and arguments.
    """
    digest = hashlib.sha256(more.encode())
    for path in files:
        stat: Any = path.stat()
        # ctime too: a copy that keeps its times (cp -p, rsync) changes the text and not the mtime.
        line = f"\n{os.path.abspath(path)} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def walk(folder: Path) -> Iterator[Path]:
    """Files below a folder by names, hidden ones left out; links to folders are left, they may go in circles."""
    for here, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(here, name)


def _expand(name: str, endings: tuple[str, ...] | None) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        files = [found for found in walk(path) if (ends_in(found, endings) if endings else _is_text(found))]
        if not files:
            kind, example = (f"{' or '.join(endings)} files", endings[0]) if endings else ("text files", ".md")
            raise UserError(
                f"folder {name} has no {kind} in it; give one that has, or a glob such as '{name}/**/*{example}'"
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


def _refuse_folder(fault: OSError) -> None:
    # Passed over, its text would be missing from training with nobody told.
    raise UserError(f"folder {fault.filename} cannot be read ({fault.strerror}); change its permissions or move it")


def ends_in(path: Path, endings: tuple[str, ...]) -> bool:
    """Whether it is a file with something in it, of such a name, that of a compression aside."""
    name = path.name.lower()
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return name.endswith(endings) and path.is_file() and path.stat().st_size > 0


def _is_text(path: Path) -> bool:
    if not path.is_file():  # a broken link, a socket
        return False
    try:
        head = next(byte_blocks(path, _LOOK), b"")
    except UserError:
        return True  # said with its name when it is read
    return bool(head) and b"\0" not in head


def _nonempty(path: Path) -> Path:
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{path} is empty; give a file with text")
    return path
