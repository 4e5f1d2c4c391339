"""Every test of the data has a cache of its own; those of downloads a server on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from text_server import TextServer

from lit_gpt.data.sources import transfer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIT_GPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextServer]:
    """A publisher of texts, asked again at once where it fails."""
    monkeypatch.setattr(transfer, "FIRST_WAIT", 0.0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = TextServer()
    yield server
    server.close()
