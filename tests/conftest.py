"""What all tests share: one thread each, fixed seeds, a cache of their own, a small text."""

import os

# Before torch is imported: as many workers as cores run beside each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# What is asked of a property is that it holds, not how soon: beside another test an example may take a second.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

WORDS = "the cat sat on a mat and saw the moon rise over some far hills while rain fell in the old town".split()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker per core that this process may use; more than eight would mostly import torch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 8)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Corpora and other caches of the tests lie in a temporary folder, never in the user's."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    yield folder
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """Every test draws the same numbers, whatever ran before it."""
    import numpy
    import torch

    random.seed(0)
    numpy.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small text of words and lines, some 20 kB, the same in every session."""
    draw = random.Random(7)
    lines = [" ".join(draw.choices(WORDS, k=draw.randint(3, 12))) + "." for _ in range(500)]
    file = tmp_path_factory.mktemp("text") / "words.txt"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file
