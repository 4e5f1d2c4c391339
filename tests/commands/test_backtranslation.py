"""Documents there and back: what is written and counted, and that a killed process changes no byte."""

import json
import random
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_gpt.atomic_io import lock_file
from lit_gpt.commands import backtranslation
from lit_gpt.commands.backtranslation import BackTranslation, split_pieces
from lit_gpt.commands.translators import Translator
from lit_gpt.errors import UserError

DOCUMENTS = [f"Document {number} says. " * (number % 7 + 1) + f"\n\nand ends with {number}" for number in range(60)]


class Drawing(Translator):
    """Puts a word before each text that its seed decides."""

    separators = ("|",)

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
    counts, was_done = run(BackTranslation(there, back, max_chars=8), ["Ja. Nein.|Ja.\n"], tmp_path / "o.jsonl")
    assert lines(tmp_path / "o.jsonl") == [{"text": "Yes.\n\nAye. Nay.|Yes.\n\nAye.\n", "original": "Ja. Nein.|Ja.\n"}]
    assert counts == {"documents": 1, "characters": 14, "written": 1, "new_characters": 27}
    assert not was_done and not (tmp_path / "o.jsonl.part").exists()


@pytest.mark.parametrize("keep", [False, True])
def test_documents_without_a_new_text_are_dropped_and_counted(tmp_path: Path, keep: bool) -> None:
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
    run(BackTranslation(there, Drawing("b"), batch_size=4, max_chars=30), DOCUMENTS, tmp_path / "o.jsonl")
    assert max(map(len, there.seen)) == 4 and all(len(text) <= 30 for texts in there.seen for text in texts)
    # A document's own translation depends neither on what goes beside it nor on its text.
    run(
        BackTranslation(Drawing(), Drawing("b"), batch_size=7, max_chars=30),
        ["x", *DOCUMENTS[1:]],
        tmp_path / "p.jsonl",
    )
    assert lines(tmp_path / "o.jsonl")[1:] == lines(tmp_path / "p.jsonl")[1:]
    run(BackTranslation(Drawing(), Drawing("b"), batch_size=4, max_chars=30, seed=2), DOCUMENTS, tmp_path / "q.jsonl")
    assert lines(tmp_path / "o.jsonl") != lines(tmp_path / "q.jsonl")


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_backtranslation import DOCUMENTS, BackTranslation, Drawing, run
print("ready", flush=True)
run(BackTranslation(Drawing(wait=0.01), Drawing("b", 0.01), batch_size=4), DOCUMENTS, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("seed", [5, 6])
def test_killed_at_any_moment_it_ends_with_the_same_bytes(tmp_path: Path, seed: int) -> None:
    draw, out = random.Random(seed), tmp_path / "o.jsonl"
    run(BackTranslation(Drawing(), Drawing("b"), batch_size=4), DOCUMENTS, tmp_path / "whole.jsonl")
    kills = 0
    while not out.exists():
        command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(out)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        if kills < 3:
            time.sleep(draw.uniform(0.0, 0.3))
            process.send_signal(signal.SIGKILL)
            kills += 1
            if (tmp_path / "o.jsonl.part").exists():
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
def test_an_interrupted_file_resumes(tmp_path: Path, fault: BaseException) -> None:
    out, back = tmp_path / "o.jsonl", Drawing("b")
    with pytest.raises(type(fault)):
        run(BackTranslation(Drawing(), Failing(5, fault), batch_size=4), DOCUMENTS, out)
    assert not out.exists()
    counts, _ = run(BackTranslation(Drawing(), back, batch_size=4), DOCUMENTS, out)
    assert len(back.seen) == 26 and counts["documents"] == 60, (
        "two groups of four documents, two pieces each, were done"
    )
    whole, _ = run(BackTranslation(Drawing(), Drawing("b"), batch_size=4), DOCUMENTS, tmp_path / "whole.jsonl")
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes() and counts == whole


def test_only_the_same_work_resumes_and_nothing_is_overwritten(tmp_path: Path) -> None:
    out, work = tmp_path / "new" / "o.jsonl", BackTranslation(Drawing(), Drawing("b"))

    def refuses(work: BackTranslation, says: str, fingerprint: str = "f") -> None:
        with pytest.raises(UserError, match=says):
            run(work, DOCUMENTS, out, fingerprint)

    with pytest.raises(UserError, match="no network"):
        run(BackTranslation(Drawing(), Failing(1, UserError("no network")), batch_size=4), DOCUMENTS, out)
    for name in ("o.jsonl.part", "o.jsonl"):
        refuses(work, f"{name} exists, made with batch_size 4, not 16")
        four = BackTranslation(Drawing("c"), Drawing("b"), batch_size=4)
        refuses(four, f"{name} exists, made with there name 'a', not 'c'")
        four.there = Drawing()
        refuses(four, f"{name} exists, made with source 'f', not 'g'", "g")
        before = out.read_bytes() if out.exists() else b""
        assert run(four, DOCUMENTS, out)[1] is (name == "o.jsonl")
        assert not before or out.read_bytes() == before
    # Moved away, it makes room for another one.
    out.rename(tmp_path / "kept.jsonl")
    assert not run(work, DOCUMENTS, out)[1]
    out.with_name("o.jsonl.json").unlink()
    refuses(work, "o.jsonl exists, and was not written by back-translation")
    out.with_name("o.jsonl.json").write_text("{")
    refuses(work, "was not written by back-translation")
    out.with_name("o.jsonl.json").write_text('{"format": "another"}')
    refuses(work, "was not written by back-translation")


def test_a_file_that_lost_lines_resumes_before_them(tmp_path: Path) -> None:
    out = tmp_path / "o.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(BackTranslation(Drawing(), Failing(5, KeyboardInterrupt()), batch_size=4), DOCUMENTS, out)
    part = tmp_path / "o.jsonl.part"
    whole = part.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 50, 0):
        part.write_bytes(whole[:size])
        run(BackTranslation(Drawing(), Drawing("b"), batch_size=4), DOCUMENTS, out)
        assert len(lines(out)) == 60
        out.unlink()
    part.write_text("another file\n")
    with pytest.raises(UserError, match="o.jsonl.part exists, and was not written by back-translation"):
        run(BackTranslation(Drawing(), Drawing("b"), batch_size=4), DOCUMENTS, out)
    assert part.read_text() == "another file\n"


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    with lock_file(tmp_path / ".o.jsonl.lock"), pytest.raises(UserError, match="another process writes"):
        run(BackTranslation(Drawing(), Drawing()), DOCUMENTS, tmp_path / "o.jsonl")


def test_a_full_disk_is_reported_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*o.jsonl"):
        run(BackTranslation(Drawing(), Drawing()), DOCUMENTS, tmp_path / "file" / "o.jsonl")
    syncs = 0

    def refuses_the_third(file: Any) -> None:
        nonlocal syncs
        syncs += 1
        if syncs == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(backtranslation, "fsync_file", refuses_the_third)
    out, work = tmp_path / "o.jsonl", BackTranslation(Drawing(), Drawing("b"), batch_size=4)
    with pytest.raises(UserError, match="No space left on device.*resumes"):
        run(work, DOCUMENTS, out)
    counts, _ = run(work, DOCUMENTS, out)
    assert counts["documents"] == 60 and [line["original"] for line in lines(out)] == DOCUMENTS


def test_a_full_disk_on_closing_is_reported_too(tmp_path: Path) -> None:
    out, work = tmp_path / "o.jsonl", BackTranslation(Drawing(), Drawing("b"), batch_size=4)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
    try:
        with pytest.raises(UserError, match="cannot write .*o.jsonl.*resumes"):
            run(work, DOCUMENTS, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    run(work, DOCUMENTS, out)
    assert [line["original"] for line in lines(out)] == DOCUMENTS


# -- pieces ------------------------------------------------------------------------------------------------------------


def split(text: str, most: int, separators: tuple[str, ...] = ()) -> list[tuple[str, bool]]:
    return list(split_pieces(text, lambda piece: len(piece) <= most, separators))


def translated(text: str, most: int, separators: tuple[str, ...] = ()) -> list[str]:
    return [piece for piece, sent in split(text, most, separators) if sent]


_texts = st.text() | st.lists(
    st.sampled_from(
        ["A word. ", "Is it?", "\n", "\n\n", " \t\n \n", "。", "\u3000", "abcdefghij", "“Yes!” ", "|", " => "]
    )
).map("".join)


@given(_texts, st.integers(1, 40), st.lists(st.sampled_from(["\n", "|", " => ", "=>"]), unique=True))
def test_joined_pieces_are_the_text_and_each_fits(text: str, most: int, separators: list[str]) -> None:
    made = split(text, most, tuple(separators))
    assert "".join(piece for piece, _ in made) == text
    for piece, sent in made:
        if sent:
            assert 0 < len(piece) <= most and piece == piece.strip()
            assert not any(one in piece for one in separators) and not re.search(r"\n[^\S\n]*\n", piece)
        else:
            assert not piece.strip() or piece in separators
    # All of the text but white space and separators is translated.
    kept = "".join(piece for piece, sent in made if not sent)
    assert not kept.strip() or separators


def test_paragraphs_then_sentences_then_words_then_characters() -> None:
    text = "One two. Three!\n\n“Four five six?” Seven.\nEight nine\n \nTen\n"
    assert translated(text, 100) == ["One two. Three!", "“Four five six?” Seven.\nEight nine", "Ten"]
    assert translated(text, 25) == ["One two. Three!", "“Four five six?” Seven.", "Eight nine", "Ten"]
    assert translated(text, 18) == ["One two. Three!", "“Four five six?”", "Seven.\nEight nine", "Ten"]
    assert translated(text, 10) == ["One two.", "Three!", "“Four five", "six?”", "Seven.", "Eight nine", "Ten"]
    assert translated("abcdefgh ij", 4) == ["abcd", "efgh", "ij"]
    assert translated("一二三。四五六！七", 5) == ["一二三。", "四五六！七"]
    assert translated("a => b\nc", 100, (" => ",)) == ["a", "b\nc"]


@pytest.mark.parametrize("text", ["a" * 300_000, "a " * 150_000, " " * 300_000, "\n \n" * 100_000, ".\n" * 150_000])
def test_long_texts_are_split_fast(text: str) -> None:
    made = split(text, 500)
    assert "".join(piece for piece, _ in made) == text
