"""ruff and mypy find nothing, and no file holds two subjects."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST = 400


def run(*words: str) -> None:
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", ["lit_gpt", "tests", "configs", "benchmarks", "notebooks"])
def test_ruff_finds_nothing(folder: str) -> None:
    if (ROOT / folder).is_dir():
        run("ruff", "check", "--quiet", folder)


def test_mypy_finds_nothing() -> None:
    run("mypy")


def test_no_file_is_longer_than_one_subject_needs() -> None:
    files = [file for folder in ("lit_gpt", "tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 20
    sizes = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    assert {name: size for name, size in sizes.items() if size > LONGEST} == {}
