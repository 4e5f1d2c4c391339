"""Preparing once: reused when nothing changed, made again when text or tokenizer did, one process at a time."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.data import BPE, Byte, Char, ExactDuplicates, FillInTheMiddle, Mixture, TextFiles, Tokenizer, Windows
from lit_gpt.data.corpus.prepare import cache_folder, prepare
from lit_gpt.data.corpus.prepared import Prepared
from lit_gpt.data.corpus.recipe import Fractions, Recipe, SplitBy
from lit_gpt.errors import UserError


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("the cat sat on the mat. " * 40)
    return file


def recipe(text: Path, tokenizer: Tokenizer | None = None, val: float = 0.1, **more: object) -> Recipe:
    return Recipe(TextFiles(str(text)), tokenizer or Byte(), Fractions(val, 0.0), **more)  # type: ignore[arg-type]


def written(prepared: Prepared) -> str:
    return "".join(prepared.tokenizer.decode(corpus.ids.tolist()) for corpus in prepared.corpora.values())


def test_prepared_once_then_found(text: Path) -> None:
    first, second = prepare(recipe(text)), prepare(recipe(text))
    assert not first.reused and second.reused
    assert first.folder == second.folder and first.folder.is_relative_to(cache_folder())
    assert written(second) == text.read_text()


@pytest.mark.parametrize("folder", [None, "corpus"])
def test_made_again_when_text_or_tokenizer_or_split_changed(text: Path, tmp_path: Path, folder: str | None) -> None:
    place = folder and tmp_path / folder
    prepare(recipe(text), place)
    assert not prepare(recipe(text, Char()), place).reused
    assert not prepare(recipe(text, Char(), val=0.2), place).reused
    text.write_text(text.read_text().replace("cat", "dog"))  # of the same size
    again = prepare(recipe(text, Char(), val=0.2), place)
    assert not again.reused and "dog" in written(again)
    assert prepare(recipe(text, Char(), val=0.2), place).reused


def test_a_touched_file_is_not_another_text(text: Path) -> None:
    prepare(recipe(text))
    os.utime(text, (1, 1))
    assert prepare(recipe(text)).reused


def test_a_trained_tokenizer_finds_the_corpus_it_was_trained_on(text: Path, tmp_path: Path) -> None:
    for place in (None, tmp_path / "corpus"):
        first = prepare(recipe(text, BPE(vocab_size=270)), place)
        again = prepare(recipe(text, Tokenizer.restore(first.tokenizer.state())), place)
        assert again.reused and again.folder == first.folder
    other = BPE(vocab_size=270)
    other.train(["something else"])
    assert not prepare(recipe(text, other)).reused


def test_bpe_learns_from_the_training_split_alone_and_char_from_all(tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("abab" * 100 + "zyzy" * 30)
    tokenizer = prepare(recipe(text, BPE(vocab_size=300), val=0.25)).tokenizer
    tokens = [tokenizer.token(id) for id in range(tokenizer.vocab_size)]
    assert "ab" in tokens and "zy" not in tokens
    assert prepare(recipe(text, Char(), val=0.25)).tokenizer.vocab_size == 4


def test_texts_of_their_own_are_splits_of_their_own(text: Path, tmp_path: Path) -> None:
    for name in ("val", "test", "news"):
        (tmp_path / name).write_text(f"the {name} text")
    prepared = prepare(
        recipe(
            text,
            val_source=TextFiles(str(tmp_path / "val")),
            test_source=TextFiles(str(tmp_path / "test")),
            extra_val={"news": TextFiles(str(tmp_path / "news"))},
        )
    )
    texts = {split: prepared.tokenizer.decode(corpus.ids.tolist()) for split, corpus in prepared.corpora.items()}
    assert texts == {
        "train": text.read_text(),
        "val": "the val text",
        "test": "the test text",
        "extra/news": "the news text",
    }
    (tmp_path / "news").write_text("other news")
    assert not prepare(
        recipe(
            text,
            val_source=TextFiles(str(tmp_path / "val")),
            test_source=TextFiles(str(tmp_path / "test")),
            extra_val={"news": TextFiles(str(tmp_path / "news"))},
        )
    ).reused


def test_a_folder_with_other_files_is_left_alone(text: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="holds other files and no corpus"):
        prepare(recipe(text), tmp_path / "mine")
    with pytest.raises(UserError, match="is a file"):
        prepare(recipe(text), text)
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


def test_failure_in_the_middle_leaves_nothing_and_keeps_the_old(text: Path, tmp_path: Path) -> None:
    old = prepare(recipe(text), tmp_path / "corpus")
    bad = tmp_path / "bad"
    bad.write_text("é")
    char = Char()
    char.train(["abc"])
    with pytest.raises(UserError, match="is not among"):
        prepare(recipe(text, char), tmp_path / "corpus")
    assert prepare(recipe(text), tmp_path / "corpus").reused
    assert written(old) == text.read_text()
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".writing")]


def test_damage_is_found_when_opened(text: Path, tmp_path: Path) -> None:
    prepare(recipe(text), tmp_path / "corpus")
    os.truncate(tmp_path / "corpus" / "train" / "ids.bin", 10)
    with pytest.raises(UserError, match="has 10 bytes instead of"):
        prepare(recipe(text), tmp_path / "corpus")
    shutil.rmtree(tmp_path / "corpus" / "train")  # as the message advises
    assert not prepare(recipe(text), tmp_path / "corpus").reused
    assert prepare(recipe(text), tmp_path / "corpus").reused
    (tmp_path / "corpus" / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer.json is not a saved.* remove \S+corpus and prepare again"):
        prepare(recipe(text), tmp_path / "corpus")
    (tmp_path / "corpus" / "tokenizer.json").unlink()
    assert not prepare(recipe(text), tmp_path / "corpus").reused
    manifest = tmp_path / "corpus" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": 0}))
    with pytest.raises(UserError, match="of version 0, this program reads"):
        prepare(recipe(text), tmp_path / "corpus")


def test_empty_splits_and_names_that_are_no_names_are_refused(text: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("abc")
    with pytest.raises(UserError, match="the validation split is empty"):
        prepare(recipe(short, val=0.5, split_by="document"))
    whole = Recipe(TextFiles(str(short)), Byte(), Fractions(0.5, 0.0), format=FillInTheMiddle())
    with pytest.raises(UserError, match="raise the fraction, cut the text into more documents, or give a source"):
        prepare(whole)
    with pytest.raises(UserError, match="val_fraction 0 leaves no validation text"):
        recipe(text, val=0.0)
    with pytest.raises(UserError, match="'a/b'"):
        recipe(text, extra_val={"a/b": TextFiles(str(text))})
    with pytest.raises(UserError, match="named 'test', as a split is"):
        recipe(text, extra_val={"test": TextFiles(str(text))})


def test_documents_that_come_again_stay_in_one_split(tmp_path: Path) -> None:
    for name, count in (("small", 10), ("large", 200)):
        (tmp_path / name).write_text("\n".join(f"{name} text of number {number}" for number in range(count)))
    sources = {name: lambda name=name: TextFiles(str(tmp_path / name), "\n") for name in ("small", "large")}
    mixture = Mixture(sources, weights={"small": 0.5, "large": 0.5})
    with pytest.raises(UserError, match="split_by position would put .* take split_by hash"):
        Recipe(mixture, Byte(eos="|"), Fractions(0.3, 0.0), split_by="position")
    prepared = prepare(Recipe(mixture, Byte(eos="|"), Fractions(0.3, 0.0)))
    texts = [
        {prepared.tokenizer.decode(corpus.document(d).tolist()) for d in range(corpus.documents)}
        for corpus in prepared.corpora.values()
    ]
    assert len(texts[0] | texts[1]) == 210 and not texts[0] & texts[1]


def test_shares_that_a_filter_undoes_are_not_said_to_hold(tmp_path: Path) -> None:
    for name, count in (("small", 10), ("large", 200)):
        (tmp_path / name).write_text("\n".join(f"{name} text of number {number}" for number in range(count)))
    sources = {name: lambda name=name: TextFiles(str(tmp_path / name), "\n") for name in ("small", "large")}
    mixture = Mixture(sources, weights={"small": 0.5, "large": 0.5})
    plain = prepare(Recipe(mixture, Byte(), Fractions(0.3, 0.0)))
    once = prepare(Recipe(mixture, Byte(), Fractions(0.3, 0.0), filters=[ExactDuplicates()]))
    assert sum(corpus.documents for corpus in once.corpora.values()) == 210
    assert "one against duplicates leaves out what is read again" in once.manifest["notes"][-1]
    assert not any("duplicates" in note for note in plain.manifest["notes"])


@given(
    st.lists(st.text(max_size=40), min_size=1, max_size=12),
    st.sampled_from(["position", "document", "hash"]),
    st.sampled_from([Byte, Char, lambda: BPE(vocab_size=300)]),
)
@settings(max_examples=40, deadline=None)
def test_what_was_read_comes_back_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], by: SplitBy, new: Callable[[], Tokenizer]
) -> None:
    """Random Unicode with all line ends, marks and controls; the windows of each split joined, in order."""
    folder = tmp_path_factory.mktemp("text")
    for number, text in enumerate(texts):
        (folder / f"{number:02}.txt").write_bytes(text.encode())
    rest = "\ufeffmore\r\n\0 of it. 春眠不覺曉 🙂" * 9
    (folder / "99.txt").write_bytes(rest.encode())
    paths = sorted(str(path) for path in folder.iterdir() if path.stat().st_size)
    whole = [text.removeprefix("\ufeff") for text in [*texts, rest]]  # the mark at the start of a file is none of it
    shares = Fractions(0.3, 0.0) if by == "position" else Fractions(0.0, 0.0)
    own = None if by == "position" else TextFiles(paths)
    prepared = prepare(Recipe(TextFiles(paths), new(), shares, split_by=by, val_source=own))
    read = {}
    for split, corpus in prepared.corpora.items():
        windows = Windows(corpus, 7)
        ids = corpus.ids[:1].tolist()
        for number in range(len(windows)):
            ids += [id for id in windows[number].targets.tolist() if id >= 0]
        read[split] = prepared.tokenizer.decode(ids)
    if by == "position":
        assert read["train"] + read["val"] == "".join(whole)
    else:
        assert read["train"] == read["val"] == "".join(whole)


def _prepare_in_process(text: Path, folder: Path, results: "multiprocessing.Queue[bool]") -> None:
    results.put(prepare(recipe(text, Char()), folder).reused)


def test_of_several_processes_one_prepares(text: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [
        context.Process(target=_prepare_in_process, args=(text, tmp_path / "corpus", results)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert found == [False, True, True, True]


AS_NOBODY = """
import os, sys
from lit_gpt.data import Byte, TextFiles
from lit_gpt.data.corpus.prepare import prepare
from lit_gpt.data.corpus.recipe import Recipe
from lit_gpt.data.corpus.recipe import Fractions
from lit_gpt.errors import UserError
if os.getuid() == 0:  # root may write everywhere
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    prepare(Recipe(TextFiles(sys.argv[1]), Byte(), Fractions(0.5, 0.0)), sys.argv[2])
except UserError as error:
    print(error)
"""


def test_no_permission_is_one_line_and_nothing_is_written() -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        folder = Path(name)
        (folder / "text.txt").write_text("some text, some text")
        (folder / "closed").mkdir()
        for one, mode in ((folder, 0o755), (folder / "text.txt", 0o644), (folder / "closed", 0o555)):
            one.chmod(mode)
        for place in (folder / "closed" / "corpus", folder / "closed" / "deeper" / "corpus"):
            command = [sys.executable, "-c", AS_NOBODY, str(folder / "text.txt"), str(place)]
            run = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert run.returncode == 0, run.stderr
            assert run.stdout.count("\n") == 1 and "LIT_GPT_CACHE" in run.stdout and "closed" in run.stdout
        assert os.listdir(folder / "closed") == []


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_GPT_CACHE", "/a")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("LIT_GPT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/b/lit_gpt")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "lit_gpt"
