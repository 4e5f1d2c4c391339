"""What `lit-gpt prepare` costs over a bare loop of the tokenizers library, and what it holds in memory.

    python benchmarks/prepare.py FOLDER --sizes 0.5 2 --turns 1

FOLDER holds text files; they are repeated (as links) to each size in GB. A BPE of 8192 ids is trained on them first, so
that both sides encode alone: the bare loop calls `encode_batch_fast` on stretches of 16,384 characters and counts ids,
with all cores; `prepare` is the whole command in a process of its own, from an empty cache, its two readings of the
text, its files, checksums and fsyncs included. A machine that is shared drifts by a tenth and more within minutes, so
the two go in turns: each minute all processes of `prepare` are stopped (SIGSTOP), the bare loop encodes 0.03 GB, and
they go on; the clock of `prepare` stands meanwhile.

Memory is of the command and all its processes together: resident is the sum of the peaks that the kernel keeps for each
(shared pages counted in each, and as if all peaks came at once, so at most this), proportional the largest sum with
shared pages shared out, looked at every ten seconds. Looking costs time that only `prepare` would pay: 20 times a
second it took a tenth of this machine.
"""

import argparse
import contextlib
import functools
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

BARE = """
import json, sys, time
from pathlib import Path
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_str(json.loads(Path(sys.argv[1]).read_text())["learned"]["json"])
files, waiting, tokens, started = sorted(Path(sys.argv[2]).iterdir()), [], 0, time.monotonic()
for file in files:
    text = file.read_text(encoding="utf-8")
    waiting += [text[at : at + 16384] for at in range(0, len(text), 16384)]
    if len(waiting) >= 64 or file == files[-1]:
        tokens += sum(len(one.ids) for one in tokenizer.encode_batch_fast(waiting, add_special_tokens=False))
        waiting = []
print(tokens, time.monotonic() - started)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.5, 2.0], help="GB")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--bare", type=float, default=0.03, help="GB that the bare loop encodes each time")
    parser.add_argument("--every", type=float, default=60.0, help="seconds of prepare between two bare loops")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as name:
        place = Path(name)
        os.environ["LIT_GPT_CACHE"] = str(place / "cache")
        tokenizer = train(asked.folder, place)
        for size in asked.sizes:
            text = repeated(asked.folder, place / f"{size}", int(size * 1e9))
            some = repeated(asked.folder, place / f"{size} bare", int(min(size, asked.bare) * 1e9))
            turns = []
            for _ in range(asked.turns):
                encode = functools.partial(bare, tokenizer, some)
                first = encode()
                ours, between = prepared(tokenizer, text, place, asked.every, encode)
                theirs = [first, *between, encode()]
                turns.append((statistics.harmonic_mean(theirs), ours))
                print(f"bare, in turn: {' '.join(f'{rate:,.0f}' for rate in theirs)}", flush=True)
            ratios = [ours["rate"] / theirs for theirs, ours in turns]
            print(
                f"{size} GB: bare {statistics.median(b for b, _ in turns):,.0f} tokens/s,"
                f" prepare {statistics.median(o['rate'] for _, o in turns):,.0f},"
                f" ratio {' '.join(f'{ratio:.3f}' for ratio in ratios)};"
                f" resident {max(o['resident'] for _, o in turns):.0f} MB,"
                f" proportional {max(o['proportional'] for _, o in turns):.0f} MB",
                flush=True,
            )


def train(folder: Path, place: Path) -> Path:
    from lit_gpt.data import BPE, TextFiles

    tokenizer = BPE(vocab_size=8192)
    tokenizer.train(str(text) for text in TextFiles(str(folder)))
    tokenizer.save(place / "tokenizer.json")
    return place / "tokenizer.json"


def repeated(folder: Path, target: Path, size: int) -> Path:
    files = sorted(path.resolve() for path in folder.iterdir() if path.suffix == ".txt")
    target.mkdir()
    taken = number = 0
    while taken < size:
        file = files[number % len(files)]
        (target / f"{number:06}.txt").symlink_to(file)
        taken, number = taken + file.stat().st_size, number + 1
    return target


def bare(tokenizer: Path, text: Path) -> float:
    out = subprocess.run([sys.executable, "-c", BARE, tokenizer, text], capture_output=True, text=True, check=True)
    tokens, seconds = out.stdout.split()
    return int(tokens) / float(seconds)


def prepared(
    tokenizer: Path, text: Path, place: Path, every: float, meanwhile: Callable[[], float]
) -> tuple[dict[str, float], list[float]]:
    """Rate and memory of `prepare`, and what `meanwhile` said each time that it stood."""
    for old in (place / "cache", place / "corpus"):
        shutil.rmtree(old, ignore_errors=True)
    words = ["--data.source", "TextFiles", "--data.source.paths", str(text), "--data.tokenizer", "Saved"]
    words += ["--data.tokenizer.path", str(tokenizer), "--data.folder", str(place / "corpus")]
    words += ["--data.val_fraction", "0.01"]
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "lit_gpt", "prepare", *words], stdout=subprocess.DEVNULL)
    memory = Memory(process.pid)
    stood, said = 0.0, []
    while True:
        try:
            code = process.wait(every)
            break
        except subprocess.TimeoutExpired:
            halted = time.monotonic()
            signal_all(process.pid, signal.SIGSTOP)
            said.append(meanwhile())
            signal_all(process.pid, signal.SIGCONT)
            stood += time.monotonic() - halted
    seconds = time.monotonic() - started - stood
    memory.stop()
    assert code == 0
    manifests = [json.loads(file.read_text()) for file in (place / "corpus").glob("*/manifest.json")]
    tokens = sum(manifest["tokens"] for manifest in manifests)
    return {"rate": tokens / seconds, "resident": memory.resident, "proportional": memory.proportional}, said


class Memory:
    """The largest memory of a process and those that it started, in MB: see above."""

    def __init__(self, pid: int) -> None:
        self.pid, self.resident, self.proportional, self._ended = pid, 0.0, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        peaks: dict[int, float] = {}
        for look in itertools.count():
            if self._ended.wait(0.5):
                break
            family = family_of(self.pid)
            peaks |= {pid: max(peaks.get(pid, 0.0), kilobytes("status", pid, "VmHWM")) for pid in family}
            self.resident = sum(peaks.values()) / 1e3
            if look % 20 == 10:
                shares = sum(kilobytes("smaps_rollup", pid, "Pss") for pid in family)
                self.proportional = max(self.proportional, shares / 1e3)


def signal_all(pid: int, kind: signal.Signals) -> None:
    """Sends a signal to a process and all that it started."""
    for one in family_of(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, kind)


def family_of(pid: int) -> list[int]:
    """A process and all that it started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += (thread / "children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(one for child in sorted(set(children)) for one in family_of(int(child)))]


def kilobytes(file: str, pid: int, name: str) -> float:
    """A figure of /proc about a process; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0.0)


if __name__ == "__main__":
    main()
