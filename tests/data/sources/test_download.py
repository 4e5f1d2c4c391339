"""Texts by their addresses: what is checked against what, archives, splits, local copies."""

import gzip
import hashlib
import io
import json
import multiprocessing
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from text_server import TextServer, all_splits, tarred, zipped

from lit_gpt.data.sources.checksums import digest
from lit_gpt.data.sources.download import Download
from lit_gpt.data.sources.remote_file import RemoteFile
from lit_gpt.data.sources.text_files import TextFiles
from lit_gpt.errors import UserError

TEXT = "".join(f"line {number} of a text\n" for number in range(40_000))
BYTES = TEXT.encode()
SHA256 = hashlib.sha256(BYTES).hexdigest()
MD5 = hashlib.md5(BYTES).hexdigest()
PAGE = "https://example.org/checksums"


def one(address: str, checksum: str | None = None, **options: object) -> Download:
    """A download of one file."""
    return Download([RemoteFile(address, checksum, PAGE if checksum else None)], "CC0", **options)  # type: ignore[arg-type]


# -- checks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checksum", [f"sha256:{SHA256}", f"md5:{MD5.upper()}"])
def test_what_is_stated_is_checked_and_said_once(
    server: TextServer, checksum: str, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = server.add("a.txt", BYTES)
    assert list(one(address, checksum)) == [TEXT]
    kind = checksum.partition(":")[0]
    assert f"a.txt ({len(BYTES):,} bytes): checked against the {kind} stated at {PAGE}" in capsys.readouterr().err
    assert list(one(address, checksum)) == [TEXT]
    assert capsys.readouterr().err == "" and len(server.asked) == 1
    assert not (cache / "downloads.lock.json").exists()
    assert not list(cache.rglob("*.part*"))


def test_a_git_name_is_what_git_computes(server: TextServer, tmp_path: Path) -> None:
    (tmp_path / "hello").write_bytes(b"what is up, doc?")  # the example of the book Pro Git, 10.2
    assert digest(tmp_path / "hello", "git") == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"
    address = server.add("a.txt", b"what is up, doc?")
    assert list(one(address, "git:bd9dbf5aae1a3862dd1526723246b20206e5fc37")) == ["what is up, doc?"]


def test_a_wrong_file_is_not_used_and_not_kept(server: TextServer, cache: Path) -> None:
    wrong = BYTES.replace(b"line 7 ", b"line 8 ")
    address = server.add("a.txt", wrong)
    source = one(address, f"sha256:{SHA256}")
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            list(source)
        words = (address, hashlib.sha256(wrong).hexdigest(), SHA256, PAGE, "was not kept", "by paths")
        assert all(word in str(caught.value) for word in words) and "\n" not in str(caught.value)
    assert not [path for path in cache.rglob("a.txt*") if path.is_file()]
    server.add("a.txt", BYTES)
    assert list(source) == [TEXT]


def test_the_first_download_is_recorded_and_the_next_compared(
    server: TextServer, cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, lock = server.add("a.txt", BYTES), tmp_path / "project" / "texts.lock.json"
    assert list(one(address, lock=str(lock))) == [TEXT]
    said = capsys.readouterr().err
    assert f"recorded sha256 {SHA256} in {lock}" in said and "nothing older to compare with" in said
    entry = json.loads(lock.read_text())[address]
    assert (entry["sha256"], entry["bytes"]) == (SHA256, len(BYTES))
    # A colleague with the same lock file, and a server that has another file by now.
    monkeypatch.setenv("LIT_GPT_CACHE", str(tmp_path / "other"))
    assert list(one(address, lock=str(lock))) == [TEXT]
    assert f"checked against the sha256 recorded in {lock}" in capsys.readouterr().err
    monkeypatch.setenv("LIT_GPT_CACHE", str(tmp_path / "third"))
    server.add("a.txt", BYTES + b"more")
    with pytest.raises(UserError, match="not .* as recorded in .*remove its entry from") as caught:
        list(one(address, lock=str(lock)))
    assert SHA256 in str(caught.value) and hashlib.sha256(BYTES + b"more").hexdigest() in str(caught.value)
    # Without a lock file of one's own it lies in the cache.
    list(one(address))
    assert address in json.loads((tmp_path / "third" / "downloads.lock.json").read_text())


@pytest.mark.parametrize(
    ("content", "words"), [("[]", "holds no addresses"), ("{", "is not valid"), ("{%s: 1}", "no sha256")]
)
def test_a_damaged_lock_file_is_said(server: TextServer, tmp_path: Path, content: str, words: str) -> None:
    address, lock = server.add("a.txt", BYTES), tmp_path / "lock.json"
    lock.write_text(content.replace("%s", json.dumps(address)))
    with pytest.raises(UserError, match=words):
        list(one(address, lock=str(lock)))


def test_a_file_damaged_in_the_cache_is_found_when_it_was_touched(server: TextServer, cache: Path) -> None:
    address = server.add("a.txt", BYTES)
    list(one(address, f"md5:{MD5}"))
    kept = next(path for path in cache.rglob("a.txt") if path.is_file())
    kept.write_bytes(BYTES[:-1])
    with pytest.raises(UserError, match="to have it downloaded again"):
        list(one(address, f"md5:{MD5}"))
    kept.unlink()
    assert list(one(address, f"md5:{MD5}")) == [TEXT]


def test_parts_that_do_not_fit_together_are_downloaded_once_more(
    server: TextServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server without an ETag that exchanged the file for one of the same size in the middle."""
    address = server.add("a.txt", BYTES[::-1], etag=None, faults=[300_000, -500, -500, -500, -500])
    with pytest.raises(UserError, match="300,000 bytes are kept"):
        list(one(address, f"sha256:{SHA256}"))
    server.add("a.txt", BYTES, etag=None)
    assert list(one(address, f"sha256:{SHA256}")) == [TEXT]
    assert "downloaded once more, whole" in capsys.readouterr().err
    assert server.ranges()[-2:] == ["bytes=300000-", None]


def _read(address: str, cache: str, results: "multiprocessing.Queue[str]") -> None:
    os.environ["LIT_GPT_CACHE"] = cache
    results.put(hashlib.sha256("".join(one(address)).encode()).hexdigest())  # type: ignore[arg-type]


def test_processes_that_want_the_same_download_it_once(server: TextServer, cache: Path) -> None:
    address = server.add("a.txt", BYTES)
    context = multiprocessing.get_context("fork")
    results: multiprocessing.Queue[str] = context.Queue()
    processes = [context.Process(target=_read, args=(address, str(cache), results)) for _ in range(4)]
    for process in processes:
        process.start()
    assert [results.get(timeout=60) for _ in processes] == [SHA256] * 4
    for process in processes:
        process.join()
    assert len(server.asked) == 1


@pytest.mark.parametrize("checksum", ["abc", "sha256:12", f"sha1:{'0' * 40}", f"md5:{'x' * 32}"])
def test_checksums_that_are_none_are_refused(checksum: str) -> None:
    with pytest.raises(UserError, match="is none; give sha256: and 64"):
        RemoteFile("https://example.org/a.txt", checksum, PAGE)


def test_mistakes_in_arguments() -> None:
    files = [RemoteFile("https://example.org/a.txt")]
    for address in ("ftp://example.org/a", "https://example.org", "example.org/a.txt", "hf://models/a/b/c"):
        with pytest.raises(UserError, match="address .* of Download is none"):
            RemoteFile(address)
    with pytest.raises(UserError, match="has no origin"):
        RemoteFile("https://example.org/a.txt", f"md5:{MD5}")
    with pytest.raises(UserError, match="empty list"):
        Download([], "CC0")
    with pytest.raises(UserError, match="names 'valid'; there are train, val, test"):
        Download(files, "CC0", splits={"train": "a", "valid": "b"})
    with pytest.raises(UserError, match="has no train"):
        Download(files, "CC0", splits={"val": "b"})
    with pytest.raises(UserError, match="paths of Download is empty"):
        Download(files, "CC0", paths=[])


# -- splits and archives -----------------------------------------------------------------------------------------------

WIKI = {"train": "wiki.train.txt", "val": "wiki.valid.txt", "test": ["wiki.test.txt"]}
MEMBERS = {"wiki__wiki.train": "training", "wiki__wiki.valid": "validation", "wiki__wiki.test": "test", "README": "no"}


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz", "tar"])
def test_members_of_an_archive_are_splits(server: TextServer, cache: Path, kind: str) -> None:
    names = {name.replace("__", "/") + ".txt": text for name, text in MEMBERS.items()}
    mode = {"tar.gz": "w:gz", "tar.xz": "w:xz", "tar": "w"}.get(kind, "")
    address = server.add(f"wiki.{kind}", zipped(**MEMBERS) if kind == "zip" else tarred(names, mode))
    source = one(address, splits=WIKI)
    assert all_splits(source) == [["training"], ["validation"], ["test"]]
    assert len(server.asked) == 1 and not list(cache.rglob("README*"))
    assert source.signature() == source.signature() != source.own_split("val").signature()  # type: ignore[union-attr]


def test_only_the_files_of_a_split_are_fetched(server: TextServer) -> None:
    files = [RemoteFile(server.add(f"data/{name}.txt", name.encode())) for name in ("b-train", "a-train", "valid")]
    source = Download(files, "CC0", splits={"train": "*-train.txt", "val": "valid.txt"})
    assert list(source) == ["b-train", "a-train"]  # in the order of the addresses
    assert [asked[1] for asked in server.asked] == ["data/b-train.txt", "data/a-train.txt"]
    assert all_splits(source) == [["b-train", "a-train"], ["valid"], None]


def test_a_split_without_files_is_said(server: TextServer) -> None:
    source = one(server.add("wiki.zip", zipped(a="x")), splits={"train": "a.txt", "val": "nowhere.txt"})
    with pytest.raises(UserError, match=r"there is no file named nowhere.txt; look at splits"):
        list(source.own_split("val"))  # type: ignore[arg-type]


def test_members_that_lead_out_of_the_folder_are_refused(server: TextServer, cache: Path) -> None:
    for name in ("../outside.txt", "/tmp/outside.txt", "a/../../outside.txt"):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(name, "x")
        with pytest.raises(UserError, match="is not unpacked"):
            list(one(server.add(f"{len(name)}.zip", file.getvalue())))
        address = server.add(f"{len(name)}.tar", tarred({name: "x"}, "w"))
        if not name.startswith("/"):  # tar takes a leading / off, as everybody's does
            with pytest.raises(UserError, match="is not unpacked"):
                list(one(address))
    assert not list(cache.parent.rglob("outside.txt"))


def test_links_in_an_archive_and_torn_archives_are_refused(server: TextServer) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        link = tarfile.TarInfo("a.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "b.txt"
        archive.addfile(link)
    with pytest.raises(UserError, match="is a link or a device"):
        list(one(server.add("link.tar", file.getvalue())))
    whole = tarred({"a.txt": TEXT})
    for name, content in (("a.tar.gz", whole[: len(whole) // 2]), ("b.zip", b"no zip"), ("c.tar", b"no tar")):
        with pytest.raises(UserError, match="is damaged"):
            list(one(server.add(name, content)))


def test_a_compressed_file_is_left_to_its_reader(server: TextServer) -> None:
    assert list(one(server.add("a.txt.gz", gzip.compress(BYTES)))) == [TEXT]


# -- local copies ------------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The members in a folder of the user's."""
    for name, text in MEMBERS.items():
        file = tmp_path / "my" / (name.replace("__", "/") + ".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "my"


@pytest.mark.parametrize("where", ["", "wiki", "*", "wiki/*.txt", "archive"])
def test_a_local_copy_replaces_the_download(server: TextServer, copy: Path, where: str) -> None:
    path = copy / where
    if where == "archive":
        path = copy.parent / "wiki.zip"
        path.write_bytes(zipped(**MEMBERS))
    source = one(f"{server.root}/wiki.zip", splits=WIKI, paths=str(path))
    if where == "*":  # a glob that finds README alone: no file of any split
        assert all_splits(source) == [["no"], None, None]
    else:
        assert all_splits(source) == [["training"], ["validation"], ["test"]]
    assert server.asked == []


def test_local_files_of_other_names_are_one_text(
    server: TextServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.txt").write_text("a|b")
    (tmp_path / "mine.zip").write_bytes(zipped(c="c|d"))
    paths = [str(tmp_path / "mine.txt"), str(tmp_path / "mine.zip")]
    source = one(f"{server.root}/x.zip", splits=WIKI, paths=paths, reader=lambda found: TextFiles(found, "|"))
    assert all_splits(source) == [["a", "b", "c", "d"], None, None]
    assert "is named like a split (wiki.train.txt" in capsys.readouterr().err


def test_a_local_copy_that_lacks_a_split(server: TextServer, copy: Path) -> None:
    (copy / "wiki" / "wiki.valid.txt").unlink()
    source = one(f"{server.root}/wiki.zip", splits=WIKI, paths=str(copy))
    assert all_splits(source) == [["training"], None, ["test"]]
    (copy / "wiki" / "wiki.train.txt").unlink()
    source = one(f"{server.root}/wiki.zip", splits=WIKI, paths=str(copy))
    with pytest.raises(UserError, match=r"has files for test, none for train \(named wiki.train.txt\)"):
        list(source)


def test_a_local_path_that_is_not_there(server: TextServer, tmp_path: Path) -> None:
    for name in ("nowhere", "nowhere.zip"):
        with pytest.raises(UserError, match="there is no .*nowhere"):
            list(one(f"{server.root}/a.txt", paths=str(tmp_path / name), splits=WIKI))


# -- the hub -----------------------------------------------------------------------------------------------------------


def test_files_of_the_hub_are_checked_against_what_the_hub_states(
    server: TextServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import constants, file_download

    commit = "0" * 39 + "1"
    for module in (constants, file_download):
        for name in ("ENDPOINT", "HF_HUB_CACHE"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, server.root if name == "ENDPOINT" else str(tmp_path / "hub"))
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.root + "/{repo_id}/resolve/{revision}/{filename}"
    )
    more = {"X-Repo-Commit": commit, "X-Linked-Size": str(len(BYTES)), "X-Linked-ETag": f'"{SHA256}"'}
    server.add("datasets/some/text/resolve/main/data/a.txt", BYTES, more=more)
    address = "hf://datasets/some/text/data/a.txt"
    assert list(one(address)) == [TEXT]
    where = "stated at the hub, https://huggingface.co/datasets/some/text"
    assert f"a.txt ({len(BYTES):,} bytes): checked against the sha256 {where}" in capsys.readouterr().err
    assert list(one(address)) == [TEXT]
    missing = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
    server.add("datasets/some/text/resolve/main/data/none.txt", b"", faults=[-404] * 9, more=missing)
    with pytest.raises(UserError, match=r"the hub has no data/none.txt in .*/some/text at revision main"):
        list(one("hf://datasets/some/text/data/none.txt"))
    gated = {"X-Error-Code": "GatedRepo"}
    server.add("datasets/some/gated/resolve/main/a.txt", b"", faults=[-403] * 9, more=gated)
    with pytest.raises(UserError, match="asks for its terms to be accepted first: do so at .*; or give local files"):
        list(one("hf://datasets/some/gated/a.txt"))
    blob = next((tmp_path / "hub").rglob(SHA256))
    blob.write_bytes(BYTES[:-1])
    with pytest.raises(UserError, match=rf"not {SHA256} as {where}; remove {blob}"):
        list(one(address))
