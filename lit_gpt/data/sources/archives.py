"""Unpacks zip and tar archives into a folder, safely: no member outside it, no bomb."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from lit_gpt import atomic_io
from lit_gpt.data.folders import disk_hints, make_folder
from lit_gpt.data.progress import Progress
from lit_gpt.data.sources.streams import refuse_bomb
from lit_gpt.errors import UserError

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)


def is_archive(name: str) -> bool:
    """Whether a file of this name is a zip or tar archive."""
    return name.lower().endswith((".zip", *_TAR))


def unpack(archive: Path, wanted: Callable[[str], bool], target: Path) -> None:
    """Unpacks the wanted members of an archive into a new folder, which appears whole or not at all.

    Args:
        archive: A zip or tar file, read once from its start to its end.
        wanted: Is told the name of each member that is a file.
        target: The folder; does not exist yet, or is empty.

    Raises:
        UserError: the archive is damaged, a wanted member leads out of the folder or is no plain file, disk full.
    """
    size, written = archive.stat().st_size, 0
    make_folder(target.absolute().parent)
    with disk_hints(target), atomic_io.staged_folder(target) as new:
        members = _zip_members if archive.name.lower().endswith(".zip") else _tar_members
        with Progress(f"unpacking {archive.name}", size, "bytes") as progress:
            try:
                for name, content, done in members(archive, wanted, new):
                    written = _write(content, _inside(new, name, archive), archive, written)
                    progress.advance(max(done - progress.done, 0))
            except tarfile.FilterError as error:
                raise UserError(f"{archive} is not unpacked: {error}") from None
            except _DAMAGE as error:
                raise UserError(f"{archive} is damaged ({error}); remove it, and it is downloaded again") from None


Member = tuple[str, IO[bytes], int]  # name, content, bytes of the archive that have been read


def _zip_members(archive: Path, wanted: Callable[[str], bool], folder: Path) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            if not member.is_dir() and wanted(member.filename):
                with file.open(member) as content:
                    yield member.filename, content, member.header_offset + member.compress_size


def _tar_members(archive: Path, wanted: Callable[[str], bool], folder: Path) -> Iterator[Member]:
    # As a stream, a compressed archive is decompressed once.
    with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|*") as file:
        for member in file:
            if member.isdir() or not wanted(member.name):
                continue
            safe = tarfile.data_filter(member, str(folder.absolute()))
            content = file.extractfile(member) if safe.isreg() else None
            if content is None:
                raise UserError(f"{member.name} in {archive} is a link or a device, no file; it is not unpacked")
            yield member.name, content, raw.tell()


def _inside(folder: Path, name: str, archive: Path) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or PurePosixPath(name).is_absolute() or ".." in parts or "\\" in name:
        raise UserError(f"{archive} is not unpacked: its member {name!r} leads out of the folder")
    return folder.joinpath(*parts)


def _write(content: IO[bytes], path: Path, archive: Path, before: int) -> int:
    """Writes a member; returns the bytes of all members up to it, `before` being those ahead of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while block := content.read(1 << 20):
            refuse_bomb(archive, before + file.tell() + len(block), archive.stat().st_size)
            file.write(block)
        atomic_io.fsync_file(file)
        return before + file.tell()
