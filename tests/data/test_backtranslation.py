"""Documents there and back: what is written and counted, and that a killed process changes no byte."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lit_gpt.data.augment import growing_file
from lit_gpt.data.augment.backtranslation import COUNTS, BackTranslation, Translator
from lit_gpt.errors import UserError

DOCUMENTS = [f"Document {number} says. " * (number % 7 + 1) + f"\n\nand ends with {number}" for number in range(60)]


class Drawing(Translator):
    """Puts a word before each text that its seed decides."""

    apart = ("|",)

    def __init__(self, name: str = "a", wait: float = 0.0) -> None:
        self.name, self.wait, self.seen = name, wait, []  # type: ignore[var-annotated]

    def translate(self, texts: list[str], seeds: list[int]) -> list[str | None]:
        time.sleep(self.wait)
        self.seen.append(list(texts))
        return [
            f"{self.name}{random.Random(seed).randint(0, 999)} {text}" for text, seed in zip(texts, seeds, strict=True)
        ]

    def configuration(self) -> dict[str, Any]:
        return {"name": self.name}


class Rules(Drawing):
    """Returns what its rules say of a text."""

    def __init__(self, **rules: str | None) -> None:
        super().__init__()
        self.rules = rules

    def translate(self, texts: list[str], seeds: list[int]) -> list[str | None]:
        return [self.rules.get(text, text) for text in texts]


def run(work: BackTranslation, documents: list[str], out: Path, fingerprint: str = "f") -> tuple[dict[str, int], bool]:
    return work.run(documents, fingerprint, sum(map(len, documents)), out)


def lines(out: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_pieces_go_there_and_back_and_are_joined_again(tmp_path: Path) -> None:
    there, back = Rules(**{"Ja.": "Yes.\n\nSure.", "Nein.": "No."}), Rules(**{"Sure.": "Aye.", "No.": "Nay."})
    counts, was_done = run(BackTranslation(there, back, most=8), ["Ja. Nein.|Ja.\n"], tmp_path / "o.jsonl")
    assert lines(tmp_path / "o.jsonl") == [{"text": "Yes.\n\nAye. Nay.|Yes.\n\nAye.\n", "original": "Ja. Nein.|Ja.\n"}]
    assert counts == dict.fromkeys(COUNTS, 0) | {"documents": 1, "characters": 14, "written": 1, "new_characters": 27}
    assert not was_done and not (tmp_path / "o.jsonl.part").exists()


@pytest.mark.parametrize("keep", [False, True])
def test_what_is_no_new_text_is_left_out_and_counted(tmp_path: Path, keep: bool) -> None:
    documents = ["new", "same", "same  one", "gone", "endless", "lost on the way back", " \n"]
    rules = {"new": "other", "gone": "", "same  one": "same one", "endless": None}
    work = BackTranslation(Rules(**rules), Rules(**{"lost on the way back": None}), keep_unchanged=keep)
    counts, _ = run(work, documents, tmp_path / "o.jsonl")
    kept = ["other", "same", "same one", " \n"] if keep else ["other"]
    assert [line["text"] for line in lines(tmp_path / "o.jsonl")] == kept
    found = {"documents": 7, "written": len(kept), "unchanged": 3, "empty": 1, "endless": 2}
    assert {name: counts[name] for name in found} == found


def test_texts_go_in_batches_and_draw_by_their_own_number(tmp_path: Path) -> None:
    there = Drawing()
    run(BackTranslation(there, Drawing("b"), together=4, most=30), DOCUMENTS, tmp_path / "o.jsonl")
    assert max(map(len, there.seen)) == 4 and all(len(text) <= 30 for texts in there.seen for text in texts)
    # A document's own translation depends neither on what goes beside it nor on its text.
    run(BackTranslation(Drawing(), Drawing("b"), together=7, most=30), ["x", *DOCUMENTS[1:]], tmp_path / "p.jsonl")
    assert lines(tmp_path / "o.jsonl")[1:] == lines(tmp_path / "p.jsonl")[1:]
    run(BackTranslation(Drawing(), Drawing("b"), together=4, most=30, seed=2), DOCUMENTS, tmp_path / "q.jsonl")
    assert lines(tmp_path / "o.jsonl") != lines(tmp_path / "q.jsonl")


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_backtranslation import DOCUMENTS, BackTranslation, Drawing, growing_file, run
growing_file._SAVE_EVERY = float(sys.argv[3])
print("ready", flush=True)
run(BackTranslation(Drawing(wait=0.01), Drawing("b", 0.01), together=4), DOCUMENTS, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("save_every", ["0", "0.1", "100"])
def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path: Path, save_every: str) -> None:
    draw, out = random.Random(5), tmp_path / "o.jsonl"
    run(BackTranslation(Drawing(), Drawing("b"), together=4), DOCUMENTS, tmp_path / "whole.jsonl")
    kills = 0
    while not out.exists():
        command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(out), save_every]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        if kills < 3:
            time.sleep(draw.uniform(0.0, 0.3))
            process.send_signal(signal.SIGKILL)
            kills += 1
            if (tmp_path / "o.jsonl.json").exists():
                with (tmp_path / "o.jsonl.part").open("ab") as part:  # what a write that was torn leaves
                    part.write(b'{"text": "to')
        process.stdout.close()
        assert process.wait(60) in (0, -signal.SIGKILL)
    assert kills == 3 and out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


class Failing(Drawing):
    """Is interrupted at one call."""

    def __init__(self, call: int, fault: BaseException) -> None:
        super().__init__("b")
        self.call, self.fault = call, fault

    def translate(self, texts: list[str], seeds: list[int]) -> list[str | None]:
        if len(self.seen) == self.call:
            raise self.fault
        return super().translate(texts, seeds)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), UserError("no network")])
def test_stopped_by_a_fault_it_goes_on_from_there(tmp_path: Path, fault: BaseException) -> None:
    out, back = tmp_path / "o.jsonl", Drawing("b")
    with pytest.raises(type(fault)):
        run(BackTranslation(Drawing(), Failing(5, fault), together=4), DOCUMENTS, out)
    assert not out.exists()
    counts, _ = run(BackTranslation(Drawing(), back, together=4), DOCUMENTS, out)
    assert len(back.seen) == 26 and counts["documents"] == 60, (
        "two groups of four documents, two pieces each, were done"
    )
    whole, _ = run(BackTranslation(Drawing(), Drawing("b"), together=4), DOCUMENTS, tmp_path / "whole.jsonl")
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes() and counts == whole


def test_only_the_same_work_goes_on_and_nothing_is_overwritten(tmp_path: Path) -> None:
    out, work = tmp_path / "new" / "o.jsonl", BackTranslation(Drawing(), Drawing("b"))

    def refuses(work: BackTranslation, says: str, fingerprint: str = "f") -> None:
        with pytest.raises(UserError, match=says):
            run(work, DOCUMENTS, out, fingerprint)

    with pytest.raises(UserError, match="no network"):
        run(BackTranslation(Drawing(), Failing(1, UserError("no network")), together=4), DOCUMENTS, out)
    for name in ("o.jsonl.part", "o.jsonl"):
        refuses(work, f"{name} is there already, made with settings batch_size 4, not 16; give another file")
        four = BackTranslation(Drawing("c"), Drawing("b"), together=4)
        refuses(four, f"{name} is there already, made with there name 'a', not 'c'")
        four.there = Drawing()
        refuses(four, f"{name} is there already, made with source 'f', not 'g'", "g")
        before = out.read_bytes() if out.exists() else b""
        assert run(four, DOCUMENTS, out)[1] is (name == "o.jsonl")
        assert not before or out.read_bytes() == before
    # Moved away, it makes room for another one.
    out.rename(tmp_path / "kept.jsonl")
    assert not run(work, DOCUMENTS, out)[1]
    out.with_name("o.jsonl.json").unlink()
    refuses(work, "o.jsonl is there already, and was not written by back-translation; give another file")
    out.with_name("o.jsonl.json").write_text("{")
    refuses(work, "o.jsonl.json is not readable")
    out.with_name("o.jsonl.json").write_text('{"format": "another"}')
    refuses(work, "was not written by back-translation")


def test_a_file_that_lost_lines_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(BackTranslation(Drawing(), Failing(5, KeyboardInterrupt()), together=4), DOCUMENTS, out)
    part = tmp_path / "o.jsonl.part"
    part.write_bytes(part.read_bytes()[:50])
    with pytest.raises(UserError, match=r"o.jsonl.part has 50 of [\d,]+ bytes that were written; remove it"):
        run(BackTranslation(Drawing(), Drawing("b"), together=4), DOCUMENTS, out)


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    with growing_file.GrowingFile(tmp_path / "o.jsonl", "back-translation", {}, COUNTS):
        with pytest.raises(UserError, match="another process writes"):
            run(BackTranslation(Drawing(), Drawing()), DOCUMENTS, tmp_path / "o.jsonl")


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written .*; give another file"):
        run(BackTranslation(Drawing(), Drawing()), DOCUMENTS, tmp_path / "file" / "o.jsonl")
    facts: dict[str, Any] = {}
    with growing_file.GrowingFile(out, "work", facts, ["lines"]) as file:
        file.add(["one"], {"lines": 1})
        file._save()
        file._file = _Full(file._file)  # type: ignore[assignment]
        with pytest.raises(UserError, match="No space left on device.*goes on where it stopped"):
            file.add(["two", "three"], {"lines": 2})
    with growing_file.GrowingFile(out, "work", facts, ["lines"]) as file:
        assert file.counts == {"lines": 1}
        file.add(["two"], {"lines": 1})
        file.finish()
    assert out.read_text() == "one\ntwo\n"


class _Full:
    """A file on a disk that takes three more bytes."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: bytes) -> int:
        self.file.write(data[:3])
        raise OSError(28, "No space left on device")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)
