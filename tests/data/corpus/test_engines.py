"""Who tokenizes and how often it was stopped changes no byte; what is stopped is never taken for finished."""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lit_gpt.data import BPE, Char, TextFiles, Tokenizer
from lit_gpt.data.chunks import Chunk
from lit_gpt.data.corpus import encode as encode_module
from lit_gpt.data.corpus.encoder import Encoder, Shard
from lit_gpt.data.corpus.engines import Engine, InProcess, Processes
from lit_gpt.data.corpus.prepare import prepare
from lit_gpt.data.corpus.prepared import open_prepared
from lit_gpt.data.corpus.recipe import Fractions, Recipe
from lit_gpt.data.folders import cache_folder
from lit_gpt.data.formats.format import PlainText
from lit_gpt.errors import UserError


def digest(folder: Path) -> str:
    """Of all files of a folder, names included."""
    whole = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(f"{file.relative_to(folder)} {file.stat().st_size} ".encode() + file.read_bytes())
    return whole.hexdigest()


def made_text(folder: Path, documents: int) -> Path:
    """A folder of documents of many lengths."""
    chance = random.Random(documents)
    words = ["Haus", "naïve", "été", "春眠不覺曉，", "def f(x):", "🙂", "the", "of", "1234", "\r\n", "  "]
    folder.mkdir()
    for number in range(documents):
        size = chance.choice([3, 40, 2000])
        (folder / f"{number:04}.txt").write_bytes(" ".join(chance.choices(words, k=size)).encode())
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = BPE(vocab_size=400)
    tokenizer.train(["Haus naïve été 春眠不覺曉， def f(x): the of 1234"] * 3)
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(file)
    return file


def recipe(text: Path, tokenizer: Path, **more: object) -> Recipe:
    shares = Fractions(0.2, 0.2)
    return Recipe(TextFiles(str(text)), Tokenizer.load(tokenizer), shares, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("split_by", ["position", "document", "hash"])
@pytest.mark.parametrize("shard", [50, 20_000])
def test_shards_of_any_size_give_the_same_corpus(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, shard: int, split_by: str
) -> None:
    text = made_text(tmp_path / "text", 40)
    wanted = prepare(recipe(text, trained, split_by=split_by), tmp_path / "wanted")
    monkeypatch.setattr(encode_module, "SHARD", shard)
    prepare(recipe(text, trained, split_by=split_by), tmp_path / "made")
    assert digest(tmp_path / "made") == digest(wanted.folder)


def test_any_number_of_processes_gives_the_same_corpus(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = made_text(tmp_path / "text", 60)
    monkeypatch.setattr(encode_module, "SHARD", 10_000)
    engines: list[Engine] = [InProcess(), Processes(1), Processes(2), Processes(4)]
    for number, engine in enumerate(engines):
        prepare(recipe(text, trained), tmp_path / str(number), engine)
    assert len({digest(tmp_path / str(number)) for number in range(len(engines))}) == 1


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_corpus_and_tells_of_mistakes(
    tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import ray

    from lit_gpt.data.corpus.ray_engine import Ray

    text = made_text(tmp_path / "text", 60)
    wanted = prepare(recipe(text, trained), tmp_path / "wanted")
    monkeypatch.setattr(encode_module, "SHARD", 10_000)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        prepare(recipe(text, trained), tmp_path / "made", Ray(2))
        assert digest(tmp_path / "made") == digest(wanted.folder)
        assert "INFO" not in capfd.readouterr().err
        few = Char()
        few.train(["abc"])
        with pytest.raises(UserError, match=r"0000.txt: character '.*' .* is not among"):
            prepare(Recipe(TextFiles(str(text)), few, Fractions(0.2, 0.0)), tmp_path / "refused", Ray(1))
        encoder = Encoder(Tokenizer.load(trained), PlainText())
        shard = Shard([Chunk("the", split="train")], 3, tmp_path / "shards" / "a.shard")
        shard.path.parent.mkdir()
        elsewhere = shard._replace(path=tmp_path / "shards" / "gone" / "b.shard")
        with pytest.raises(FileNotFoundError, match="gone"):  # as this process would say it: not in Ray's words
            Ray(1).run(encoder, iter([shard, elsewhere]), lambda characters: None)
    finally:
        ray.shutdown()


STOPPED = """
import sys
from pathlib import Path
from lit_gpt.data import TextFiles, Tokenizer
from lit_gpt.data.corpus import encode
from lit_gpt.data.corpus.engines import InProcess, Processes
from lit_gpt.data.corpus.prepare import prepare
from lit_gpt.data.corpus.recipe import Recipe
from lit_gpt.data.corpus.recipe import Fractions
text, tokenizer, folder, workers = sys.argv[1:]
encode.SHARD = 4000
engine = Processes(int(workers)) if int(workers) else InProcess()
print("ready", flush=True)
prepare(Recipe(TextFiles(text), Tokenizer.load(tokenizer), Fractions(0.1, 0.05)), folder, engine)
"""


def run(text: Path, tokenizer: Path, folder: Path, workers: int, kill_after: float | None) -> bool:
    """Prepares in a process of its own, which is killed after some seconds; whether it came to its end."""
    command = [sys.executable, "-c", STOPPED, str(text), str(tokenizer), str(folder), str(workers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    if kill_after is not None:
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
    process.stdout.close()
    return process.wait(timeout=120) == 0


def stop_and_go_on(tmp_path: Path, tokenizer: Path, times: int) -> None:
    text, chance = made_text(tmp_path / "text", 300), random.Random(times)
    started = time.monotonic()
    assert run(text, tokenizer, tmp_path / "wanted", 0, None)
    long, wanted = time.monotonic() - started, digest(tmp_path / "wanted")
    stopped = 0
    for number in range(times):
        folder, workers = tmp_path / "made", number % 3
        while not run(text, tokenizer, folder, workers, chance.uniform(0, long * (1 if workers else 0.6))):
            stopped += 1
            if folder.exists():  # what is there is whole
                open_prepared(folder).verify()
        assert run(text, tokenizer, folder, workers, None) and digest(folder) == wanted
        shutil.rmtree(folder)
        assert sorted(os.listdir(tmp_path)) == [".made.lock", ".wanted.lock", "cache", "text", "wanted"]
        shutil.rmtree(cache_folder(), ignore_errors=True)
    print(f"\nstopped by SIGKILL {stopped} times, {times} of {times} ended as the undisturbed one")
    assert stopped >= times


def test_killed_and_run_again_it_ends_as_if_never_stopped(tmp_path: Path, trained: Path) -> None:
    stop_and_go_on(tmp_path, trained, 1)


@pytest.mark.slow
def test_killed_at_30_moments_it_ends_as_if_never_stopped(tmp_path: Path, trained: Path) -> None:
    stop_and_go_on(tmp_path, trained, 30)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, trained: Path) -> None:
    text = made_text(tmp_path / "text", 300)
    command = [sys.executable, "-c", STOPPED, str(text), str(trained), str(tmp_path / "made"), "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def started() -> list[int]:
        lists = [(task / "children").read_text().split() for task in Path(f"/proc/{process.pid}/task").iterdir()]
        return [int(child) for children in lists for child in children]

    until = time.monotonic() + 60
    while len(started()) < 3 and process.poll() is None and time.monotonic() < until:  # two, and what looks after them
        time.sleep(0.01)
    children = started()
    process.kill()
    process.wait()
    until = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < until:
        time.sleep(0.1)
    assert len(children) >= 2 and not [child for child in children if Path(f"/proc/{child}").exists()]


class Counted(InProcess):
    """Stops after some shards, as a full disk does."""

    def __init__(self, most: int) -> None:
        self.most, self.done = most, 0

    def run(self, encoder, shards, done):  # type: ignore[no-untyped-def]
        def some():  # type: ignore[no-untyped-def]
            for shard in shards:
                if self.done == self.most:
                    raise OSError(28, "No space left on device")
                self.done += 1
                yield shard

        super().run(encoder, some(), done)


@pytest.fixture
def wanted(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is to be made of `text`; beside it lies `made`, for which the disk was full after three shards."""
    text = made_text(tmp_path / "text", 60)
    whole = prepare(recipe(text, trained), tmp_path / "wanted")
    monkeypatch.setattr(encode_module, "SHARD", 5000)
    with pytest.raises(UserError, match=r"cannot write .*made: .*bytes are free\)"):
        prepare(recipe(text, trained), tmp_path / "made", Counted(3))
    assert not (tmp_path / "made").exists()
    return whole.folder


def test_after_a_full_disk_it_goes_on_where_it_was(
    tmp_path: Path, trained: Path, wanted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, rest = tmp_path / "text", Counted(10**6)
    prepare(recipe(text, trained), tmp_path / "made", rest)
    assert "going on with what was prepared" in capsys.readouterr().err
    assert digest(tmp_path / "made") == digest(wanted)
    whole = Counted(10**6)
    prepare(recipe(text, trained), tmp_path / "whole", whole)
    assert rest.done == whole.done - 3
    with pytest.raises(UserError, match="cannot write .*bytes are free"):
        prepare(recipe(text, trained, split_by="hash"), tmp_path / "made", Counted(3))
    os.remove(text / "0000.txt")  # another text: nothing of the old is taken
    again = Counted(10**6)
    prepare(recipe(text, trained, split_by="hash"), tmp_path / "made", again)
    prepare(recipe(text, trained, split_by="hash"), tmp_path / "fresh")
    assert digest(tmp_path / "made") == digest(tmp_path / "fresh")


def test_a_shard_that_rots_while_it_waits_is_found_and_made_anew(tmp_path: Path, trained: Path, wanted: Path) -> None:
    text = tmp_path / "text"
    shard = sorted((tmp_path / ".made.preparing").glob("shards-*/*.shard"))[1]
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1  # among the ids, where every value is a possible one
    shard.write_bytes(content)
    with pytest.raises(UserError, match="00000001.shard was damaged after it was written .*run the same again"):
        prepare(recipe(text, trained), tmp_path / "made", InProcess())
    assert not (tmp_path / "made").exists()
    rest = Counted(1)  # and so none but the damaged one
    prepare(recipe(text, trained), tmp_path / "made", rest)
    assert digest(tmp_path / "made") == digest(wanted)


LIMITED = """
import resource, sys
from lit_gpt.data import Byte, TextFiles
from lit_gpt.data.corpus.engines import InProcess, Processes
from lit_gpt.data.corpus.prepare import prepare
from lit_gpt.data.corpus.recipe import Recipe
from lit_gpt.data.corpus.recipe import Fractions
engine = {"in process": InProcess(), "processes": Processes(1)}[sys.argv[3]]
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    prepare(Recipe(TextFiles(sys.argv[1]), Byte(), Fractions(0.5, 0.0)), sys.argv[2], engine)
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("engine", ["in process", "processes"])
def test_a_shard_that_the_disk_does_not_take_is_one_line(tmp_path: Path, engine: str) -> None:
    """By the machine's own limit: what a library makes of a failing write is part of what is tested."""
    (tmp_path / "text.txt").write_text("some text " * 5000)
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "text.txt"), str(tmp_path / "made"), engine]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0 and run.stdout.count("\n") == 1, run.stdout + run.stderr
    assert re.match(r"cannot write \S+/made: .*ulimit -f", run.stdout)


OWN = """
import os, signal, sys
from lit_gpt.data import BPE, TextFiles
from lit_gpt.data.corpus.engines import Processes
from lit_gpt.data.corpus.prepare import prepare
from lit_gpt.data.corpus.recipe import Recipe
from lit_gpt.data.corpus.recipe import Fractions
class Own(BPE):
    def encode_arrays(self, texts):
        if sys.argv[2] == "kill" and os.environ.get("RAYON_NUM_THREADS") == "1":
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory is short
        return super().encode_arrays(texts)
tokenizer = Own(vocab_size=300)
tokenizer.train(["abc"])
try:
    recipe = Recipe(TextFiles(sys.argv[1]), tokenizer, Fractions(0.5, 0.0))
    print(len(prepare(recipe, sys.argv[3], Processes(1)).corpora))
except ValueError as error:
    print(error)
"""


def test_a_script_s_class_reaches_workers_and_an_end_is_reported(tmp_path: Path) -> None:
    text = made_text(tmp_path / "text", 20)
    (tmp_path / "own.py").write_text(OWN)
    for what, said in (("kill", "ended from outside (out of memory?)"), ("live", "2")):
        command = [sys.executable, str(tmp_path / "own.py"), str(text), what, str(tmp_path / "made")]
        run = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0 and said in run.stdout, run.stdout + run.stderr
    with pytest.raises(UserError, match="0 workers cannot encode"):
        Processes(0)
