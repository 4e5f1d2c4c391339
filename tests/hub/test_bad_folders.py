"""Folders that cannot be imported: one line that says what, where and what would do, exit code 2, nothing half-written;
and nothing that lies in a folder is ever run."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from random_models import Case, make, save
from safetensors.torch import load_file, save_file

from lit_gpt.__main__ import main


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(make(Case("llama", "multi-head")), tmp_path_factory.mktemp("good") / "model")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


def change(folder: Path, **fields: Any) -> None:
    """Sets fields of config.json; None takes one away."""
    file = folder / "config.json"
    values = json.loads(file.read_text()) | fields
    file.write_text(json.dumps({key: value for key, value in values.items() if value is not None}))


def tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Writes model.safetensors anew."""
    file = folder / "model.safetensors"
    loaded = {name: tensor.clone() for name, tensor in load_file(file).items()}
    change(loaded)
    save_file(loaded, file)


def shards(folder: Path) -> None:
    """Two shards, of which one is missing."""
    loaded = load_file(folder / "model.safetensors")
    names = sorted(loaded)
    files = {name: f"model-0000{1 + (place % 2)}-of-00002.safetensors" for place, name in enumerate(names)}
    save_file(
        {name: loaded[name] for name in names if files[name].startswith("model-00001")},
        folder / "model-00001-of-00002.safetensors",
    )
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    (folder / "model.safetensors").unlink()


def pickled(folder: Path) -> None:
    """Weights as a pickle alone."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def truncated(folder: Path) -> None:
    """The last bytes of the weights are missing."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def small_vocabulary(folder: Path) -> None:
    """A net of fewer rows than the tokenizer has ids."""
    change(folder, vocab_size=200)

    def cut(loaded: dict[str, torch.Tensor]) -> None:
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            loaded[name] = loaded[name][:200].clone()

    tensors(folder, cut)


def outside(folder: Path) -> None:
    """An index that names a file elsewhere."""
    shutil.copy(folder / "model.safetensors", folder.parent / "other.safetensors")
    names = dict.fromkeys(load_file(folder / "model.safetensors"), "../other.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing shard": (shards, "lacks model-00002-of-00002.safetensors, which model.safetensors.index.json names"),
    "shape": (
        lambda folder: tensors(folder, lambda t: t.update({"model.norm.weight": torch.zeros(7)})),
        "model.norm.weight is (7,) in the file, but config.json makes it (64,)",
    ),
    "missing tensor": (
        lambda folder: tensors(folder, lambda t: t.pop("model.layers.1.mlp.up_proj.weight")),
        "lacks the tensor model.layers.1.mlp.up_proj.weight",
    ),
    "unknown tensor": (
        lambda folder: tensors(folder, lambda t: t.update({"model.layers.0.adapter": torch.zeros(2)})),
        "has the tensor model.layers.0.adapter, which LlamaForCausalLM does not know",
    ),
    "integers": (
        lambda folder: tensors(folder, lambda t: t.update({"model.norm.weight": torch.zeros(64, dtype=torch.int8)})),
        "model.norm.weight is I8; only F64, F32, F16, BF16 can be read",
    ),
    "unknown architecture": (
        lambda folder: change(folder, architectures=["FalconForCausalLM"]),
        "architecture FalconForCausalLM is not supported; supported are LlamaForCausalLM,",
    ),
    "no architecture": (lambda folder: change(folder, architectures=None), "names no architecture"),
    "pickle only": (pickled, "holds its weights as pytorch_model.bin only, a format whose files can run code"),
    "truncated": (truncated, "model.safetensors is damaged or cut short"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds no model.safetensors"),
    "tokenizer too large": (small_vocabulary, "its tokenizer has 257 ids, but the net's embedding only 200 rows"),
    "unknown field": (
        lambda folder: change(folder, attention_multiplier=0.5),
        "fields that are not understood; the net might compute something else: attention_multiplier (0.5)",
    ),
    "value": (lambda folder: change(folder, hidden_act="relu"), "hidden_act is 'relu', which cannot be represented"),
    "no number": (
        lambda folder: change(folder, hidden_size="64"),
        "hidden_size must be a whole number above 0, got '64'",
    ),
    "missing field": (lambda folder: change(folder, hidden_size=None), "lacks hidden_size"),
    "scaling": (
        lambda folder: change(folder, rope_parameters={"rope_type": "magic", "rope_theta": 1e4}),
        "rope_type is 'magic', which cannot be represented here; only default, linear,",
    ),
    "field of a scaling": (
        lambda folder: change(folder, rope_parameters={"rope_type": "linear", "factor": 2.0, "slope": 3}),
        "rotary positions has fields that are not understood",
    ),
    "numbers that do not go together": (
        lambda folder: change(folder, num_key_value_heads=3),
        "kv_heads 3 does not divide heads 4",
    ),
    "quantized": (lambda folder: change(folder, quantization_config={"bits": 4}), "its weights are quantized"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer"),
    "config is no JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        "config.json cannot be read",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "shards elsewhere": (outside, "names files outside its folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_told_in_one_line(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, message = BAD[name]
    spoil(folder)
    assert main(["import", str(folder), "--out", str(tmp_path / "runs" / "x")]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("lit-gpt: error: ") and printed.count("\n") == 1, printed
    assert message in printed
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").iterdir())


def test_an_occupied_place_is_left_as_it_is(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert main(["import", str(folder), "--out", str(out)]) == 2
    assert "exists already; nothing was written" in capsys.readouterr().err
    assert [file.name for file in out.iterdir()] == ["mine.txt"]


def test_a_missing_folder_is_no_hub_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", str(tmp_path / "nothing" / "here"), "--out", str(tmp_path / "x")]) == 2
    assert "there is no folder" in capsys.readouterr().err


class Mark:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_nothing_of_a_folder_is_run(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = f"from pathlib import Path\nPath({str(mark)!r}).touch()\n"
    for file in ("modeling_evil.py", "tokenization_evil.py", "__init__.py", "config.py"):
        (folder / file).write_text(code)
    classes = {"AutoConfig": "modeling_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"}
    change(folder, auto_map=classes)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["auto_map"] = {"AutoTokenizer": ["tokenization_evil.Slow", "tokenization_evil.Fast"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    for file in ("pytorch_model.bin", "training_args.bin", "tokenizer.pkl"):
        (folder / file).write_bytes(pickle.dumps(Mark(mark)))
    assert main(["import", str(folder), "--out", str(tmp_path / "x")]) == 0
    assert main(["export", str(tmp_path / "x"), "--out", str(tmp_path / "back")]) == 0
    assert not mark.exists()
    for file in (tmp_path / "back").glob("*.json"):
        assert "auto_map" not in file.read_text(), file.name
