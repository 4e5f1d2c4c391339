"""Downloads from a server on this machine that breaks off, refuses and changes its files."""

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from text_server import TextServer

from lit_gpt.data.sources import transfer as module
from lit_gpt.data.sources.transfer import note_of, transfer
from lit_gpt.errors import UserError

TEXT = bytes(range(256)) * 4000  # 1 MB, several blocks


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "text.part"


def test_a_file_arrives_whole_and_leaves_no_notes(server: TextServer, part: Path) -> None:
    assert transfer(server.add("a.txt", TEXT), part) is False
    assert part.read_bytes() == TEXT and not note_of(part).exists()


def test_names_of_other_scripts_are_escaped(server: TextServer, part: Path) -> None:
    transfer(server.add("全唐詩/唐 1.csv", TEXT), part)
    assert part.read_bytes() == TEXT


def test_a_broken_download_goes_on_where_it_stopped(server: TextServer, part: Path) -> None:
    address = server.add("a.txt", TEXT, faults=[300_000, 400_000])
    assert transfer(address, part) is True
    assert part.read_bytes() == TEXT
    assert [asked[2:] for asked in server.asked] == [
        (None, None),
        ("bytes=300000-", '"one"'),
        ("bytes=700000-", '"one"'),
    ]


def test_a_download_stopped_with_its_process_goes_on_in_the_next(server: TextServer, part: Path) -> None:
    address = server.add("a.txt", TEXT, faults=[300_000, -503, -503, -503, -503])
    with pytest.raises(UserError, match=r"300,000 bytes are kept, run it again to go on from there"):
        transfer(address, part)
    assert part.stat().st_size == 300_000
    server.asked.clear()
    assert transfer(address, part) is True
    assert part.read_bytes() == TEXT and server.ranges() == ["bytes=300000-"]


def test_a_file_that_changed_in_between_is_taken_from_its_start(server: TextServer, part: Path) -> None:
    address = server.add("a.txt", TEXT, faults=[300_000, -500, -500, -500, -500])
    with pytest.raises(UserError):
        transfer(address, part)
    server.add("a.txt", TEXT[::-1], etag='"two"')
    transfer(address, part)
    assert part.read_bytes() == TEXT[::-1]


@pytest.mark.parametrize("etag", ['W/"weak"', None])
def test_without_a_strong_etag_sizes_are_compared(server: TextServer, part: Path, etag: str | None) -> None:
    address = server.add("a.txt", TEXT, etag=etag, faults=[300_000])
    transfer(address, part)
    assert part.read_bytes() == TEXT
    assert [asked[2:] for asked in server.asked] == [(None, None), ("bytes=300000-", None)]
    part.unlink()
    server.add("a.txt", TEXT, etag=etag, faults=[300_000, -500, -500, -500, -500])
    with pytest.raises(UserError):
        transfer(address, part)
    longer = b"other" + TEXT
    server.add("a.txt", longer, etag=etag)
    transfer(address, part)
    assert part.read_bytes() == longer


def test_a_server_without_ranges_sends_it_whole_again(server: TextServer, part: Path) -> None:
    transfer(server.add("a.txt", TEXT, ranges=False, faults=[300_000, 500_000]), part)
    assert part.read_bytes() == TEXT and server.ranges() == [None, "bytes=300000-", "bytes=500000-"]


def test_a_server_that_always_breaks_off_is_given_up(server: TextServer, part: Path) -> None:
    address = server.add("a.txt", TEXT, ranges=False, faults=[300_000] * 50)
    with pytest.raises(UserError, match="broke off at byte 300,000 of 1,024,000; 300,000 bytes are kept") as caught:
        transfer(address, part)
    assert address in str(caught.value) and "\n" not in str(caught.value)
    assert len(server.asked) == 1 + module.TRIES


def test_what_was_complete_but_not_published_is_not_asked_for_again(server: TextServer, part: Path) -> None:
    address = server.add("a.txt", TEXT)
    part.write_bytes(TEXT)
    note_of(part).write_text('{"etag": "\\"one\\"", "modified": null, "size": 1024000}')
    transfer(address, part)
    assert part.read_bytes() == TEXT and server.ranges() == ["bytes=1024000-"]


def test_a_begun_file_longer_than_the_servers_is_taken_anew(server: TextServer, part: Path) -> None:
    address = server.add("a.txt", TEXT, etag=None)
    part.write_bytes(TEXT + b"more")
    note_of(part).write_text('{"etag": null, "modified": null, "size": 1024004}')
    transfer(address, part)
    assert part.read_bytes() == TEXT


@pytest.mark.parametrize("note", ["", "{}", "[1", '{"etag": 1}'])
def test_a_begun_file_of_which_nothing_is_known_is_taken_anew(server: TextServer, part: Path, note: str) -> None:
    part.write_bytes(b"left by somebody")
    note_of(part).write_text(note)
    transfer(server.add("a.txt", TEXT), part)
    assert part.read_bytes() == TEXT and server.ranges() == [None]


def test_503_then_200(server: TextServer, part: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = server.add("a.txt", TEXT, faults=[-503, -429], retry="0")
    assert transfer(address, part) is False
    assert part.read_bytes() == TEXT
    assert f"{address}: the server answers 503 Service Unavailable; trying again in 0 s" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "words"), [(404, "it may have moved"), (403, "login"), (401, "login")])
def test_refusals_are_final(server: TextServer, part: Path, status: int, words: str) -> None:
    address = server.add("a.txt", TEXT, faults=[-status] * 9)
    with pytest.raises(UserError, match=words) as caught:
        transfer(address, part)
    assert address in str(caught.value) and str(status) in str(caught.value)
    assert len(server.asked) == 1


def test_no_server(server: TextServer, part: Path) -> None:
    server.close()
    with pytest.raises(UserError, match="could not be downloaded: no answer .*or give local files by paths"):
        transfer(f"{server.root}/a.txt", part)


def test_a_disk_too_small_is_told_before_and_a_full_one_in_between(
    server: TextServer, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.add("a.txt", TEXT)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(UserError, match="needs 1,024,000 bytes more, 1,000 are free"):
            transfer(address, part)

    def full(answer: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_read", full)
    with pytest.raises(UserError, match="cannot write .*bytes are free"):
        transfer(address, part)


def test_without_a_length_the_end_of_the_connection_is_the_end(server: TextServer, part: Path) -> None:
    transfer(server.add("a.txt", TEXT, lengths=False), part)
    assert part.read_bytes() == TEXT
