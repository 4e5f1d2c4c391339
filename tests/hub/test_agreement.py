"""Two files of a folder that say the same thing: equal ones are no matter, others are refused or told in a line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from random_models import Case, make, save
from safetensors.torch import load_file, save_file

from lit_gpt import checkpoint
from lit_gpt.__main__ import main
from lit_gpt.errors import UserError
from lit_gpt.hub.folder import INDEX, SINGLE, Tensors

NORM = "model.norm.weight"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(make(Case("llama", "multi-head")), tmp_path_factory.mktemp("good") / "model")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "model"))


def write(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values))


def change(file: Path, **values: Any) -> None:
    write(file, (json.loads(file.read_text()) if file.exists() else {}) | values)


def shard(folder: Path) -> None:
    """Two shards and their index beside model.safetensors, with the same weights."""
    loaded = load_file(folder / SINGLE)
    where = {name: SHARDS[place % 2] for place, name in enumerate(sorted(loaded))}
    for file in SHARDS:
        save_file({name: loaded[name] for name in where if where[name] == file}, folder / file)
    write(folder / INDEX, {"weight_map": where})


def train_on(folder: Path) -> None:
    """model.safetensors gets newer weights."""
    loaded = {name: tensor.clone() for name, tensor in load_file(folder / SINGLE).items()}
    loaded[NORM] += 1
    save_file(loaded, folder / SINGLE)


def take_in(folder: Path, out: Path) -> int:
    return main(["import", str(folder), "--out", str(out)])


def test_a_stale_index_beside_newer_weights_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(folder)
    train_on(folder)
    assert take_in(folder, tmp_path / "x") == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and not (tmp_path / "x").exists()
    where = json.loads((folder / INDEX).read_text())["weight_map"][NORM]
    assert f"holds {NORM} twice, and the two differ: in {where} and in {SINGLE}; remove the file that is" in printed
    assert main(["inspect", str(folder)]) == 2
    (folder / INDEX).unlink()  # as the line says
    assert take_in(folder, tmp_path / "x") == 0
    assert torch.equal(checkpoint.load(tmp_path / "x")[0].norm.weight, load_file(folder / SINGLE)[NORM])


def test_the_same_weights_twice_are_no_matter(folder: Path, tmp_path: Path) -> None:
    shard(folder)
    assert take_in(folder, tmp_path / "x") == 0


def test_another_type_or_a_nan_makes_no_surprise(folder: Path) -> None:
    shard(folder)
    loaded = {name: tensor.clone() for name, tensor in load_file(folder / SINGLE).items()}
    save_file(loaded | {NORM: loaded[NORM].half()}, folder / SINGLE)
    with pytest.raises(UserError, match=f"holds {NORM} twice"):
        Tensors(folder)
    loaded[NORM][0] = float("nan")
    save_file(loaded, folder / SINGLE)
    shard(folder)
    Tensors(folder)


def test_an_index_whose_shards_are_gone_is_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(folder)
    train_on(folder)
    for file in SHARDS:
        (folder / file).unlink()
    assert take_in(folder, tmp_path / "x") == 0
    assert f"{INDEX} is not used: its shards are gone, and {SINGLE} is there" in capsys.readouterr().err
    assert torch.equal(checkpoint.load(tmp_path / "x")[0].norm.weight, load_file(folder / SINGLE)[NORM])


def test_one_shard_of_two_is_refused_beside_the_whole(folder: Path) -> None:
    shard(folder)
    (folder / SHARDS[1]).unlink()
    with pytest.raises(UserError, match=f"lacks {SHARDS[1]}, .* or remove {INDEX} if {SINGLE} is meant"):
        Tensors(folder)


def test_a_tensor_in_two_shards_is_refused_where_they_differ(folder: Path) -> None:
    shard(folder)
    (folder / SINGLE).unlink()
    where = json.loads((folder / INDEX).read_text())["weight_map"]
    other = next(file for file in SHARDS if file != where[NORM])
    save_file(load_file(folder / other) | {NORM: torch.zeros(64)}, folder / other)
    with pytest.raises(UserError, match=f"holds {NORM} twice, and the two differ: in {SHARDS[0]} and in {SHARDS[1]}"):
        Tensors(folder)


def test_an_adapter_beside_a_model_is_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "x"})
    assert take_in(folder, tmp_path / "x") == 2
    assert "holds an adapter (adapter_config.json) beside a model" in capsys.readouterr().err
    (folder / "config.json").unlink()
    assert take_in(folder, tmp_path / "x") == 2
    assert "holds an adapter (adapter_config.json) and no model; merge it into its base" in capsys.readouterr().err


def two_templates(folder: Path) -> None:
    change(folder / "tokenizer_config.json", chat_template="{{ messages[0].content }}")
    (folder / "chat_template.jinja").write_text("{{ messages[-1].content }}")


def other_vocabulary(folder: Path) -> None:
    ids = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    write(folder / "vocab.json", ids | {"a": ids["b"], "b": ids["a"]})


def other_ends(folder: Path) -> None:
    change(folder / "config.json", eos_token_id=7)
    change(folder / "generation_config.json", eos_token_id=[5, 256])


def other_roles(folder: Path) -> None:
    write(folder / "special_tokens_map.json", {"eos_token": {"content": "!"}})


DIFFERENT: dict[str, tuple[Callable[[Path], Any], str]] = {
    "templates": (two_templates, "chat_template.jinja is not the chat_template of tokenizer_config.json; chat"),
    "vocabularies": (other_vocabulary, "vocab.json gives 2 tokens another id than tokenizer.json, such as 'a'; t"),
    "ends": (other_ends, "texts end at [5, 256] by generation_config.json and at [7] by config.json; gen"),
    "special tokens": (other_roles, "eos_token is '<|end|>' in tokenizer_config.json and '!' in special_tokens_"),
    "pickles": (
        lambda folder: (folder / "pytorch_model.bin").write_bytes(b"?"),
        "pytorch_model.bin not read; the weights are those of *.safetensors",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_does_not_count_is_told(
    name: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, line = DIFFERENT[name]
    spoil(folder)
    assert take_in(folder, tmp_path / "x") == 0
    printed = capsys.readouterr().err
    assert f"{folder}: {line}" in printed, printed
    assert printed.count(f"{folder}: ") == 1


def test_what_agrees_is_not_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder / "tokenizer_config.json", chat_template="{{ messages[0].content }}")
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}\n")
    write(folder / "vocab.json", json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    write(folder / "special_tokens_map.json", {"eos_token": "<|end|>"})
    change(folder / "config.json", eos_token_id=256)
    change(folder / "generation_config.json", eos_token_id=[5, 256])
    assert take_in(folder, tmp_path / "x") == 0
    assert f"{folder}: " not in capsys.readouterr().err


def test_pieces_of_sentencepiece_are_compared(folder: Path, tmp_path: Path, text_file: Path) -> None:
    import sentencepiece

    from lit_gpt.hub.agreement import notes

    sentencepiece.SentencePieceTrainer.train(
        input=str(text_file), model_prefix=str(folder / "tokenizer"), vocab_size=60, model_type="bpe", minloglevel=2
    )
    (line,) = notes(folder, {})
    assert "tokenizer.model gives 60 tokens another id than tokenizer.json, such as" in line
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"] = {model.id_to_piece(id): id for id in range(60)}
    content["added_tokens"][0]["id"] = 60
    write(folder / "tokenizer.json", content)
    assert notes(folder, {}) == []
