"""RemoteFile: a downloaded file in the cache, checked against a stated or recorded checksum.

Files on the hub go through `huggingface_hub`, into its own cache: it resumes, keeps logins and knows the hub's storage.
"""

import hashlib
import re
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lit_gpt import atomic_io
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.folders import cache_folder, disk_hints, exclusive, make_folder, write_json
from lit_gpt.data.progress import say
from lit_gpt.data.sources.checksums import LockFile, digest, parse
from lit_gpt.data.sources.transfer import note_of, transfer
from lit_gpt.errors import UserError

_ON_HUB = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)(?:@([^/]+))?/(.+)")


@dataclass
class RemoteFile:
    """A file that a publisher offers.

    Args:
        address: https://…, or hf://datasets/OWNER/NAME@REVISION/PATH for a file on the Hugging Face hub.
        checksum: sha256:…, md5:… or git:… as it is stated; without one the first download is recorded, and later ones
            are compared with it.
        stated: Address of the page that states the checksum.
    """

    address: str
    checksum: str | None = None
    stated: str | None = None

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/]+/.", self.address) and not _ON_HUB.fullmatch(self.address):
            raise UserError(
                f"address {self.address!r} of Download is none; give http(s)://HOST/PATH or"
                " hf://datasets/OWNER/NAME@REVISION/PATH"
            )
        if self.checksum is not None:
            parse(self.checksum)
            if not self.stated:
                raise UserError(f"the checksum of {self.address} has no origin; name the page that states it (stated)")

    @property
    def name(self) -> str:
        """What the file is called."""
        path = self.address if self.address.startswith("hf:") else urllib.parse.urlsplit(self.address).path
        return urllib.parse.unquote(path.rpartition("/")[2]) or "file"

    @property
    def folder(self) -> Path:
        """Where in the cache everything of this address is kept."""
        key = hashlib.sha256(self.address.encode()).hexdigest()[:12]
        return cache_folder() / "downloads" / f"{self.name}-{key}"

    def obtain(self, lock: LockFile) -> Path:
        """The file, fetched where it is not there yet, and checked.

        Args:
            lock: Where checksums of first downloads are recorded; used if the publisher states none.

        Raises:
            UserError: it cannot be fetched, or is not what the checksum says; then it is not kept.
        """
        make_folder(self.folder)
        with disk_hints(self.folder), exclusive(self.folder / ".lock", f"downloads {self.name}"):
            return self._from_hub(lock) if self.address.startswith("hf:") else self._from_server(lock)

    def _from_server(self, lock: LockFile) -> Path:
        target, part = self.folder / self.name, self.folder / f"{self.name}.part"
        if not target.exists():
            resumed = transfer(self.address, part)
            wrong = self._check(part, lock)
            if wrong and resumed:
                say(f"{wrong}; it was put together from parts, so it is downloaded once more, whole")
                _discard(part)
                transfer(self.address, part)
                wrong = self._check(part, lock)
            if wrong:
                _discard(part)
                raise UserError(f"{wrong}; the file was not kept. {self._remedy(lock)}")
            atomic_io.fsync_path(part)
            atomic_io.rename(part, target)
        elif wrong := self._check(target, lock):
            raise UserError(f"{wrong}; remove {target} to have it downloaded again. {self._remedy(lock)}")
        return target

    def _from_hub(self, lock: LockFile) -> Path:
        found = _ON_HUB.fullmatch(self.address)
        assert found is not None
        path = _hub_download(found[1], urllib.parse.unquote(found[2] or "main"), found[3])
        # In the hub's cache a file is named by its checksum: sha256 of large files, git's name of small ones.
        named = path.resolve().name
        kind = {64: "sha256", 40: "git"}.get(len(named)) if re.fullmatch("[0-9a-f]+", named) else None
        theirs = _Stated(kind, named, f"the hub, https://huggingface.co/datasets/{found[1]}") if kind else None
        if wrong := self._check(path, lock, theirs):
            raise UserError(f"{wrong}; remove {path.resolve()} to have it downloaded again. {self._remedy(lock)}")
        return path

    def _check(self, path: Path, lock: LockFile, theirs: "_Stated | None" = None) -> str | None:
        """What is wrong with a file, None if nothing is; what it was compared with is said when it is read for that."""
        stated = _Stated(*parse(self.checksum), str(self.stated)) if self.checksum else theirs
        entry = None if stated else lock.get(self.address)
        kind = stated.kind if stated else "sha256"
        value, fresh = self._digest(path, kind)
        size = f"{self.name} ({path.stat().st_size:,} bytes)"
        if stated:
            if value != stated.value:
                return f"{self.address} has the {kind} {value}, not {stated.value} as stated at {stated.where}"
            if fresh:
                say(f"{size}: checked against the {kind} stated at {stated.where}")
        elif entry is None:
            lock.record(self.address, value, path.stat().st_size)
            say(f"{size}: recorded sha256 {value} in {lock.path}; none is stated, nothing older to compare with")
        elif value != entry["sha256"]:
            return f"{self.address} has the sha256 {value}, not {entry['sha256']} as recorded in {lock.path}"
        elif fresh:
            say(f"{size}: checked against the sha256 recorded in {lock.path} ({entry.get('recorded', 'no date')})")
        return None

    def _digest(self, path: Path, kind: str) -> tuple[str, bool]:
        """A file's checksum, and whether the file was read for it: what was not touched since is not read again."""
        note = self.folder / "checked.json"
        stat = path.stat()
        state = {"file": str(path), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        try:
            kept: dict[str, Any] = parse_json(note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            kept = {}
        # A rename keeps size and times, so a note made of the .part holds for the file that it became.
        same = {key: kept.get(key) for key in ("bytes", "mtime_ns")} == {k: state[k] for k in ("bytes", "mtime_ns")}
        digests = kept.get("digests", {}) if same else {}
        if isinstance(digests.get(kind), str):
            return digests[kind], False
        value = digest(path, kind)
        write_json(note, {**state, "digests": {**digests, kind: value}})
        return value, True

    def _remedy(self, lock: LockFile) -> str:
        if self.checksum:
            return (
                "If the publisher has exchanged it, give the new checksum; a file that you trust can be given by paths"
            )
        return f"If the publisher has exchanged it, remove its entry from {lock.path}; or give local files by paths"


class _Stated(NamedTuple):
    kind: str
    value: str
    where: str


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    note_of(part).unlink(missing_ok=True)


def _hub_download(name: str, revision: str, path: str) -> Path:
    from huggingface_hub import errors, hf_hub_download

    page = f"https://huggingface.co/datasets/{name}"
    try:
        return Path(hf_hub_download(name, path, repo_type="dataset", revision=revision))
    except errors.GatedRepoError:
        raise UserError(
            f"{name} asks for its terms to be accepted first: do so at {page}, log in with `hf auth login` and run it"
            " again; or give local files by paths"
        ) from None
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        if isinstance(error, errors.LocalEntryNotFoundError):  # no network, and not in the cache
            raise UserError(
                f"{path} of {page} is not in the cache, and the hub cannot be reached; try again with a network, or"
                " give local files by paths"
            ) from None
        raise UserError(
            f"the hub has no {path} in {page} at revision {revision} that you may read; look at its files, or give"
            " local files by paths"
        ) from None
    except OSError as error:
        if error.errno is not None:
            raise  # the disk's
        raise _unreachable(page, path, error) from None
    except Exception as error:  # the network library below has errors of its own, and was exchanged more than once
        raise _unreachable(page, path, error) from None


def _unreachable(page: str, path: str, error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
    return UserError(
        f"{path} of {page} could not be downloaded ({reason}); run it again, it goes on where it stopped; or give local"
        " files by paths"
    )
