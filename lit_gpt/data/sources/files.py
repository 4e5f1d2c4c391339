"""File search: paths, folders and globs to files in order; signatures that tell whether files have changed."""

import codecs
import glob
import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lit_gpt.data.sources.archives import is_archive
from lit_gpt.data.sources.streams import COMPRESSED, byte_blocks
from lit_gpt.errors import UserError

_LOOK = 8192  # bytes of a file that tell text from binary, by a NUL among them, as git does
_NAMED = 3  # files that a line names
HIDDEN, LINK = "hidden", "a link to a folder"
# Kind, and what a file of it holds at which byte.
_ARCHIVES = (
    ("tar", 257, b"ustar"),
    ("zip", 0, b"PK\x03\x04"),
    ("7z", 0, b"7z\xbc\xaf\x27\x1c"),
    ("rar", 0, b"Rar!\x1a\x07"),
    ("cpio", 0, b"070701"),
    ("ar", 0, b"!<arch>\n"),
)


class Found(NamedTuple):
    """What a search for files gives: those to read, and by reason those that are not read."""

    files: list[Path]
    not_read: dict[str, list[Path]]


def search(paths: str | list[str], owner: str, endings: tuple[str, ...] | None = None) -> Found:
    """The files that are meant, in the order given, each once; those of a folder and of a glob in the order of names.

    Args:
        paths: A file, a folder or a glob, or a list of them.
        owner: Class whose argument `paths` it is, for errors.
        endings: What the names of files in a folder end in, before the suffix of a compression; by default all that
            are text are taken. A file that is named itself or by a glob is taken whatever its name.

    Raises:
        UserError: a path that does not exist, a glob that matches nothing, a folder with none, an empty file, an
            archive or a UTF-16 text that is named itself.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    if not given:
        raise UserError(f"paths of {owner} is an empty list; give a file, a folder or a glob")
    if "" in given:  # a shell's variable that is not set; as a path it would be the folder that this runs in
        raise UserError(f"paths of {owner} holds an empty name; give a file, a folder or a glob, . for this folder")
    found = Found([], {})
    for name in given:
        found.files.extend(_expand(os.path.expanduser(name), endings, found.not_read))
    files = list(dict.fromkeys(found.files))
    read = set(files)  # a list may name a file that a folder passed over
    not_read = {why: [one for one in dict.fromkeys(paths) if one not in read] for why, paths in found.not_read.items()}
    return Found(files, {why: some for why, some in not_read.items() if some})


def not_read_lines(not_read: dict[str, list[Path]]) -> list[str]:
    """A line for each reason why files are not read, with their number and the first names."""
    return [f"{len(some):,} not read: {why} ({names(some)})" for why, some in sorted(not_read.items())]


def names(paths: list[Path]) -> str:
    """Names of the first files, and how many more there are."""
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return ", ".join(path.name for path in paths[:_NAMED]) + more


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


def walk(folder: Path, follow: bool = False) -> Iterator[Path]:
    """Files below a folder in the order of names, without hidden ones.

    Args:
        folder: Where to look.
        follow: Links to folders are gone into, each folder once; else they are left, as they may go in circles.
    """
    return _followed(folder, {folder.resolve()}) if follow else (path for path, why in _walk(folder) if why is None)


def _followed(folder: Path, seen: set[Path]) -> Iterator[Path]:
    for path, why in _walk(folder):
        if why is None:
            yield path
        elif why == LINK and not any(path.resolve() in (one, *one.parents) for one in seen):
            seen.add(path.resolve())
            yield from _followed(path, seen)


def _walk(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """What lies below a folder, by names; with the reason where it is not looked into."""
    for here, folders, files in os.walk(folder, onerror=_refuse_folder):
        entered = []
        for name in sorted(folders):
            path = Path(here, name)
            if name.startswith("."):
                yield path, HIDDEN
            elif path.is_symlink():
                yield path, LINK
            else:
                entered.append(name)
        folders[:] = entered
        for name in sorted(files):
            yield Path(here, name), HIDDEN if name.startswith(".") else None


def _expand(name: str, endings: tuple[str, ...] | None, not_read: dict[str, list[Path]]) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        return _of_folder(name, endings, not_read)
    if path.exists():
        if not path.is_file():  # a pipe would be waited for in silence, and cannot be read twice
            raise UserError(f"{name} is neither a file nor a folder; give the path of a text file, a folder or a glob")
        return [_named(path)]
    if any(sign in name for sign in "*?["):
        matches = [Path(found) for found in sorted(glob.glob(name, recursive=True))]
        files = [found for found in matches if not found.is_dir()]
        if not files:
            raise UserError(f"the glob {name} matches no file; quote it, and use ** to go into folders")
        kept = []
        for found in files:
            why = _state(found)
            if why is None:
                kept.append(_named(found))
            else:
                not_read.setdefault(why, []).append(found)
        if not kept:
            raise UserError(f"all files that the glob {name} matches are empty; give files with text")
        if "**" not in name and (inside := [found for found in matches if found.is_dir()]):
            not_read.setdefault("folders that a glob matches, which takes files alone", []).extend(inside)
        return kept
    raise UserError(f"there is no file or folder {name}; give the path of a text file, a folder or a glob (paths)")


def _of_folder(name: str, endings: tuple[str, ...] | None, not_read: dict[str, list[Path]]) -> list[Path]:
    files = []
    for path, why in _walk(Path(name)):
        why = why or _state(path)
        if why is None:
            why = _why_no_text(path) if endings is None else None if ends_in(path, endings) else _other(endings)
        if why is None:
            files.append(path)
        else:
            not_read.setdefault(why, []).append(path)
    if not files:
        kind, example = (f"{' or '.join(endings)} files", endings[0]) if endings else ("text files", ".md")
        why = f" ({'; '.join(not_read_lines(not_read))})" if not_read else ""
        raise UserError(
            f"folder {name} has no {kind} in it{why}; give one that has, or a glob such as '{name}/**/*{example}'"
        )
    return files


def _other(endings: tuple[str, ...]) -> str:
    return f"another ending than {' or '.join(endings)}"


def _refuse_folder(error: OSError) -> None:
    # Passed over, its text would be missing from training with nobody told.
    raise UserError(f"folder {error.filename} cannot be read ({error.strerror}); change its permissions or move it")


def ends_in(path: Path, endings: tuple[str, ...]) -> bool:
    """Whether it is a file with something in it, of such a name, that of a compression aside."""
    name = path.name.lower()
    for suffix in COMPRESSED:
        name = name.removesuffix(suffix)
    return name.endswith(endings) and path.is_file() and path.stat().st_size > 0


def _state(path: Path) -> str | None:
    """Why there is nothing to read in it, whatever is wanted; None where there is."""
    if not path.is_file():
        return "a link that leads nowhere" if path.is_symlink() and not path.exists() else "neither file nor folder"
    return None if path.stat().st_size else "empty"


def _why_no_text(path: Path) -> str | None:
    """Why a file of a folder is no text; None where it is."""
    try:
        head = next(byte_blocks(path, _LOOK), b"")
    except UserError:
        return None  # said with its name when it is read
    if not head:
        return "empty"
    return archive_in(path, head) or _wide(head) or ("binary, with a NUL byte" if b"\0" in head else None)


def archive_in(path: Path, head: bytes) -> str | None:
    """What kind of archive a file is, by the first bytes that it unpacks to or by its name; None where it is none."""
    for kind, at, sign in _ARCHIVES:
        if head.startswith(sign, at):
            return f"an archive ({kind})"
    return "an archive" if is_archive(path.name) else None


def _wide(head: bytes) -> str | None:
    """Whether a text is in UTF-16 or UTF-32: by its mark, or by NUL at nearly every other byte."""
    marked = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE))
    even, odd = head[::2].count(0), head[1::2].count(0)
    wide = len(head) >= 16 and max(even, odd) > 0.4 * len(head) and even + odd < 0.8 * len(head)
    return "UTF-16 or UTF-32 text, which is to be converted to UTF-8" if marked or wide else None


def _named(path: Path) -> Path:
    """A file that is named itself, or by a glob, which has to be one that can be read as it is."""
    if path.is_file():
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty; give a file with text")
        head = b""
        with suppress(UserError):  # said when it is read
            head = next(byte_blocks(path, _LOOK), b"")
        if what := archive_in(path, head):
            raise UserError(f"{path} is {what} and no text; unpack it and give the folder")
        if _wide(head):
            raise UserError(f"{path} is UTF-16 or UTF-32 text; convert it (iconv -f UTF-16 -t UTF-8) and give the copy")
    return path
