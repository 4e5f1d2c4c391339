"""Models by name: what is asked of the hub, and each way in which it can fail, in one line; no network."""

from pathlib import Path
from typing import Any
from unittest import mock

import huggingface_hub
import pytest
from huggingface_hub import errors
from huggingface_hub.utils import filter_repo_objects
from random_models import Case, make, save

from lit_gpt.__main__ import main
from lit_gpt.hub.download import is_hub_name

FILES = [
    "config.json", "generation_config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
    "merges.txt", "added_tokens.json", "chat_template.jinja", "additional_chat_templates/tool_use.jinja",
]  # fmt: skip
OTHERS = [
    "pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "modeling_phi3.py", "README.md",
    "original/consolidated.00.pth", "original/params.json", "onnx/model.onnx", "consolidated.safetensors",
    "consolidated-00001-of-00002.safetensors", "model-q4.gguf", "sub/model.safetensors", "training_args.bin",
    ".gitattributes", "sub/config.json", "models/model.safetensors",
]  # fmt: skip


def test_what_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(make(Case("llama", "multi-head")), tmp_path / "cache")
    asked: dict[str, Any] = {}

    def snapshot(name: str, **arguments: Any) -> str:
        asked.update(arguments, name=name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.chdir(tmp_path)
    assert main(["import", "some-one/Model-1.5B", "--revision", "v2"]) == 0
    assert (tmp_path / "runs" / "Model-1.5B" / "checkpoints" / "best.ckpt").exists()
    assert (asked["name"], asked["revision"]) == ("some-one/Model-1.5B", "v2")
    patterns = {name: asked[name] for name in ("allow_patterns", "ignore_patterns")}
    assert sorted(filter_repo_objects(FILES + OTHERS, **patterns)) == sorted(FILES)


class ReadTimeout(Exception):
    """As the library below has it: none of Python's own, and without a word."""


FAULTS: dict[str, tuple[BaseException, str]] = {
    "gated": (errors.GatedRepoError("gated", response=mock.MagicMock()), "log in with `hf auth login`"),
    "missing": (errors.RepositoryNotFoundError("404", response=mock.MagicMock()), "the hub has no model some/model"),
    "no such revision": (errors.RevisionNotFoundError("404", response=mock.MagicMock()), "at revision v9"),
    "server": (errors.HfHubHTTPError("503 Server Error\nsorry", response=mock.MagicMock()), "503 Server Error"),
    "not in the cache": (errors.LocalEntryNotFoundError("no connection"), "the hub cannot be reached (no connection)"),
    "offline": (errors.OfflineModeIsEnabled("HF_HUB_OFFLINE=1"), "the hub cannot be reached (HF_HUB_OFFLINE=1)"),
    "no network": (ConnectionError("Name or service not known"), "the hub cannot be reached (Name or service"),
    "slow": (ReadTimeout(), "the hub cannot be reached (ReadTimeout)"),
    "disk": (OSError(28, "No space left on device"), "No space left on device"),
    "name": (errors.HFValidationError("Repo id must use alphanumeric chars"), "Repo id must use alphanumeric"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_can_go_wrong(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, message = FAULTS[fault]

    def snapshot(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    words = ["--revision", "v9"] if fault == "no such revision" else []
    assert main(["import", "some/model", "--out", str(tmp_path / "x"), *words]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("lit-gpt: error: ") and printed.count("\n") == 1, printed
    assert message in printed, printed
    assert not list(tmp_path.iterdir())


def test_names() -> None:
    for name in ("gpt2", "Qwen/Qwen3-0.6B", "meta-llama/Llama-3.2-1B", "a/b_c.d"):
        assert is_hub_name(name), name
    for name in ("./gpt2", "/models/gpt2", "a/b/c", "../up", "", "a b", "~/x", "..", "a/..", "a/.b", "C:\\models"):
        assert not is_hub_name(name), name
