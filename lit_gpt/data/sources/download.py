"""Download: text from the network with the publisher's splits, or from a local copy."""

import copy
import glob
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from lit_gpt.data.chunks import Chunk, Content
from lit_gpt.data.folders import cache_folder, exclusive, make_folder
from lit_gpt.data.progress import say
from lit_gpt.data.sources.archives import is_archive, unpack
from lit_gpt.data.sources.checksums import LockFile
from lit_gpt.data.sources.files import not_read_lines, walk
from lit_gpt.data.sources.remote_file import RemoteFile
from lit_gpt.data.sources.source import Source
from lit_gpt.data.sources.text_files import TextFiles
from lit_gpt.errors import UserError

NewReader = Callable[[list[str]], Source]

_SPLITS = ("train", "val", "test")


class Download(Source):
    """A text from the network, fetched once into the cache and checked; with `paths`, a local copy in its place.

    A broken download is resumed. A file is checked against the checksum that is stated for it; where
    none is, against the one recorded at the first download. The default lock file for those lies in the cache, so that
    no project gets a file that nobody asked for; name one beside your project (`lock: downloads.lock.json`) and commit
    it, and all who work on it train on the same bytes.

    Args:
        files: What to download, each an address or a record with its checksum; zip and tar archives are unpacked.
        license: Under which terms the text may be used.
        reader: How the files are read: TextFiles, JsonLines, Parquet, Csv, or another source that takes `paths` first.
        splits: Which files are train, val and test, by patterns for the ends of their names (`wiki.valid.raw`,
            `heldout/*.txt`). Own val and test files go before val_fraction and test_fraction, own val_source and
            test_source before them. By default all files are one text.
        paths: Local files, folders, globs or archives in place of the download. Where there are files in them that
            match `splits`, these are the splits; where no file matches any, all of them are one text.
        lock: File in which checksums are recorded where the publisher states none.
    """

    def __init__(
        self,
        files: list[RemoteFile | str],
        license: str,
        reader: NewReader = TextFiles,
        splits: dict[str, str | list[str]] | None = None,
        paths: str | list[str] | None = None,
        lock: str | None = None,
    ) -> None:
        self.files = [RemoteFile(file) if isinstance(file, str) else file for file in files]
        self.license, self.splits, self.paths, self.lock = license, splits, paths, lock
        self._reader, self._split = reader, "train"
        self._made: Source | None = None
        if not files:
            raise UserError("files of Download is an empty list; name at least one address")
        if paths is not None and not paths:
            raise UserError("paths of Download is empty; give a local copy, or null to download")
        self._patterns = {name: [one] if isinstance(one, str) else list(one) for name, one in (splits or {}).items()}
        if unknown := [name for name in self._patterns if name not in _SPLITS]:
            raise UserError(f"splits of Download names {unknown[0]!r}; there are {', '.join(_SPLITS)}")
        if self._patterns and "train" not in self._patterns:
            raise UserError("splits of Download has no train; name the files of the training text")

    def own_split(self, split: str) -> Source | None:
        if split not in self._patterns or (self.paths is not None and not self._matching(self._local(), split)):
            return None
        other = copy.copy(self)
        other._split, other._made = split, None
        return other

    def __iter__(self) -> Iterator[Content]:
        return iter(self._source())

    def chunks(self) -> Iterator[Chunk]:
        return self._source().chunks()

    def signature(self) -> str | None:
        inner = self._source().signature()
        return None if inner is None else hashlib.sha256(f"{self._split} {inner}".encode()).hexdigest()

    def read_files(self) -> list[Path]:
        return self._source().read_files()

    def not_read(self) -> list[str]:
        lines = self._source().not_read()
        local = self._local() if self.paths is not None and self._split == "train" else []
        if any(self._matching(local, name) for name in self._patterns):
            taken = {path for name in self._patterns for _, path in self._matching(local, name)}
            rest = [path for _, path in local if path not in taken]
            lines += not_read_lines({"named like no split": rest} if rest else {})
        return lines

    def notes(self) -> list[str]:
        return self._source().notes()

    def describe(self) -> str:
        if self.paths is not None:
            return f"Download(paths={self.paths!r}, {self._split})"
        first = self.files[0].address + (f" and {len(self.files) - 1} more" if len(self.files) > 1 else "")
        return f"Download({first}, {self._split}, license {self.license})"

    def _source(self) -> Source:
        if self._made is None:
            if self.paths is not None and self._split == "train":
                say(f"text from {self.paths}: taken as it is, nothing is downloaded or checked")
            self._made = self._reader(self._downloaded() if self.paths is None else self._given())
        return self._made

    def _downloaded(self) -> list[str]:
        """The split's files in the cache, in the order of the addresses, those of an archive by their names."""
        lock = LockFile(Path(self.lock).expanduser() if self.lock else cache_folder() / "downloads.lock.json")
        wanted = [pattern for patterns in self._patterns.values() for pattern in patterns]
        found: list[Named] = []
        for file in self.files:
            if is_archive(file.name):
                found += _unpacked(file.obtain(lock), file.folder, wanted)
            elif not self._patterns or self._matching([(file.name, Path())], self._split):
                found.append((file.name, file.obtain(lock)))
        if self._patterns:
            found = self._matching(found, self._split)
        if not found:
            asked = f"file named {' or '.join(self._patterns[self._split])}" if self._patterns else "file in it"
            raise UserError(f"{self.describe()}: there is no {asked}; look at splits, or give local files by paths")
        return [str(path) for _, path in found]

    def _given(self) -> list[str]:
        """The split's files among the local ones; all of these if none is named like any split's."""
        local = self._local()
        if chosen := self._matching(local, self._split):
            return [str(path) for _, path in chosen]
        if matched := [name for name in self._patterns if self._matching(local, name)]:
            raise UserError(
                f"paths {self.paths!r} has files for {' and '.join(matched)}, none for train (named"
                f" {' or '.join(self._patterns['train'])}); add them"
            )
        if self._patterns:
            named = ", ".join(pattern for patterns in self._patterns.values() for pattern in patterns)
            say(f"none of the files in {self.paths} is named like a split ({named}): all of them are one text")
        # Folders and globs as they are: which files in them are read, the reader knows.
        return [
            str(one)
            for name in self._names()
            for one in ([path for _, path in _members(Path(name))] if is_archive(name) else [name])
        ]

    def _names(self) -> list[str]:
        given = [self.paths] if isinstance(self.paths, (str, os.PathLike)) else list(self.paths or [])
        return [os.path.expanduser(name) for name in given]

    def _local(self) -> list["Named"]:
        """All local files, with the names by which patterns know them; of those not there the reader tells."""
        found: list[Named] = []
        for name in self._names():
            path = Path(name)
            if path.is_file() and is_archive(name):
                found += _members(path)
            elif path.is_dir():
                found += [(one.absolute().as_posix(), one) for one in walk(path)]
            else:
                files = [path] if path.exists() else [Path(one) for one in sorted(glob.glob(name, recursive=True))]
                found += [(one.absolute().as_posix(), one) for one in files if one.is_file()]
        return found

    def _matching(self, files: list["Named"], split: str) -> list["Named"]:
        patterns = self._patterns.get(split, [])
        return [(name, path) for name, path in files if _matches(name, patterns)]


Named = tuple[str, Path]  # the name by which patterns know a file, and where it is


def _matches(name: str, patterns: list[str]) -> bool:
    """Whether a name ends as one of the patterns says, part by part from its end."""
    return any(PurePosixPath(name).match(pattern) for pattern in patterns)


def _members(archive: Path) -> list[Named]:
    """All files of a local archive."""
    if not archive.is_file():
        raise UserError(f"there is no archive {archive}; give the path of a local copy")
    key = hashlib.sha256(str(archive.absolute()).encode()).hexdigest()[:12]
    return _unpacked(archive, cache_folder() / "downloads" / f"{archive.name}-{key}", [])


def _unpacked(archive: Path, beside: Path, patterns: list[str]) -> list[Named]:
    """Members of an archive whose names match, all without patterns, unpacked once into a folder of the cache."""
    stat = archive.stat()  # what was written anew is unpacked anew
    key = hashlib.sha256(f"{patterns} {stat.st_size} {stat.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = beside / f"unpacked-{key}"
    make_folder(beside)
    with exclusive(beside / ".unpacking.lock", f"unpacks {archive.name}"):
        if not folder.exists():
            unpack(archive, lambda name: not patterns or _matches(name, patterns), folder)
    return [(path.relative_to(folder).as_posix(), path) for path in walk(folder)]
