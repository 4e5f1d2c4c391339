"""Folders as older versions wrote them: names without prefix, masks, a head beside a tied embedding, types, shards."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from random_models import Case, cases, make, save
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from lit_gpt import checkpoint
from lit_gpt.__main__ import main
from lit_gpt.generate.engine import generate
from lit_gpt.hub.importer import read_model
from lit_gpt.hub.net_config import differences, layers

FILE = "model.safetensors"


def saved(family: str, name: str, folder: Path) -> Path:
    return save(make(Case(family, name)), folder / "theirs")


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """The tensors of a folder under other names, or with others beside them."""
    loaded = {name: tensor.clone() for name, tensor in load_file(folder / FILE).items()}
    save_file(change(loaded), folder / FILE, metadata={"format": "pt"})


def taken_in(folder: Path) -> nn.Module:
    out = folder.parent / "ours"
    assert main(["import", str(folder), "--out", str(out)]) == 0
    return checkpoint.load(out)[0]


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(weight, other.state_dict()[name]) for name, weight in one.state_dict().items())


@pytest.mark.parametrize("case", cases())
def test_a_config_of_differences_means_the_same(case: Case, tmp_path: Path) -> None:
    """transformers leaves out what is at a default."""
    config = case.config()
    head = {"architectures": [case.module.ARCHITECTURE], "model_type": config.model_type}
    read = []
    for values in (config.to_dict(), config.to_diff_dict()):
        (tmp_path / "config.json").write_text(json.dumps(values | head))
        read.append(layers(read_model(tmp_path).arguments))
    assert differences(*read) == []


def masks(loaded: dict[str, Tensor], ahead: str, depth: int) -> dict[str, Tensor]:
    """Causal masks and the number that stood for minus infinity."""
    mask = torch.tril(torch.ones(1, 1, 8, 8, dtype=torch.uint8))
    named = [ahead.format(layer) for layer in range(depth)]
    return {f"{one}.bias": mask.clone() for one in named} | {f"{one}.masked_bias": torch.tensor(-1e4) for one in named}


def bare(prefix: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda loaded: {name.removeprefix(prefix): tensor for name, tensor in loaded.items()}


@pytest.mark.parametrize(
    ("family", "name", "change"),
    [
        ("gpt2", "as published", lambda t: bare("transformer.")(t) | masks(t, "h.{}.attn", 2)),
        ("gpt2", "as published", lambda t: t | masks(t, "transformer.h.{}.attn", 2)),
        ("bloom", "power of two heads", bare("transformer.")),
        (
            "gpt_neox",
            "a quarter turned, side by side",
            lambda t: (
                t
                | masks(t, "gpt_neox.layers.{}.attention", 2)
                | {f"gpt_neox.layers.{i}.attention.rotary_emb.inv_freq": torch.ones(2) for i in range(2)}
            ),
        ),
        (
            "llama",
            "multi-head",
            lambda t: t | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(8) for i in range(3)},
        ),
    ],
    ids=["GPT-2 bare", "GPT-2 with masks", "BLOOM bare", "GPT-NeoX with masks", "Llama with frequencies"],
)
def test_older_names(
    family: str, name: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], tmp_path: Path
) -> None:
    folder = saved(family, name, tmp_path / "plain")
    plain = taken_in(folder)
    older = saved(family, name, tmp_path / "older")
    rewrite(older, change)
    assert load_file(older / FILE).keys() != load_file(folder / FILE).keys()
    assert equal(taken_in(older), plain)


TIED = [("gpt2", "as published", "transformer.wte"), ("gemma2", "tight bounds", "model.embed_tokens")]


@pytest.mark.parametrize(("family", "name", "embedding"), TIED)
def test_a_head_beside_a_tied_embedding_that_is_its_copy(
    family: str, name: str, embedding: str, tmp_path: Path
) -> None:
    plain = taken_in(saved(family, name, tmp_path / "plain"))
    folder = saved(family, name, tmp_path / "copied")
    rewrite(folder, lambda t: t | {"lm_head.weight": t[f"{embedding}.weight"].clone()})
    assert equal(taken_in(folder), plain)


@pytest.mark.parametrize(("family", "name", "embedding"), TIED)
def test_a_head_of_its_own_beside_a_tied_embedding_is_refused(
    family: str, name: str, embedding: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved(family, name, tmp_path)
    rewrite(folder, lambda t: t | {"lm_head.weight": t[f"{embedding}.weight"] + 1})
    capsys.readouterr()
    assert main(["import", str(folder), "--out", str(tmp_path / "ours")]) == 2
    printed = capsys.readouterr().err
    assert "lm_head.weight" in printed and "tie_word_embeddings" in printed and printed.count("\n") == 1
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_stay(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = saved("llama", "multi-head", tmp_path)
    rewrite(folder, lambda t: {name: tensor.to(dtype) for name, tensor in t.items()})
    net = taken_in(folder)
    assert {weight.dtype for weight in net.parameters()} == {dtype}
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    assert torch.equal(net.head.weight, theirs.lm_head.weight)


@pytest.mark.parametrize(
    ("first", "second", "widest"),
    [
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.bfloat16, torch.float16, torch.float32),  # neither holds the other
        (torch.float16, torch.float64, torch.float64),
        (torch.bfloat16, torch.float64, torch.float64),
    ],
)
def test_of_mixed_types_the_one_that_holds_all(
    first: torch.dtype, second: torch.dtype, widest: torch.dtype, tmp_path: Path
) -> None:
    folder = saved("llama", "multi-head", tmp_path)
    rewrite(folder, lambda t: {n: x.to(second if "norm" in n else first) for n, x in t.items()})
    net = taken_in(folder)
    stored = load_file(folder / FILE)
    assert {weight.dtype for weight in net.parameters()} == {widest}
    assert torch.equal(net.norm.weight, stored["model.norm.weight"].to(widest))
    assert torch.equal(net.head.weight, stored["lm_head.weight"].to(widest))


def in_shards(folder: Path, empty: bool = False) -> dict[str, str]:
    """Two files and their index, a third without any tensor if that is asked for; gives the index."""
    loaded = load_file(folder / FILE)
    (folder / FILE).unlink()
    files = {name: f"model-0000{1 + place % 2}-of-00002.safetensors" for place, name in enumerate(sorted(loaded))}
    for file in sorted(set(files.values())):
        save_file({name: loaded[name] for name in loaded if files[name] == file}, folder / file)
    if empty:
        save_file({}, folder / "model-00003-of-00003.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return files


@pytest.mark.parametrize("empty", [False, True])
def test_two_shards(empty: bool, tmp_path: Path) -> None:
    plain = taken_in(saved("llama", "multi-head", tmp_path / "plain"))
    folder = saved("llama", "multi-head", tmp_path / "shards")
    in_shards(folder, empty)
    assert equal(taken_in(folder), plain)


def test_an_index_that_names_what_its_files_lack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved("llama", "multi-head", tmp_path)
    files = in_shards(folder)
    index = {"weight_map": files | {"model.layers.9.extra": min(files.values())}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    capsys.readouterr()
    assert main(["import", str(folder), "--out", str(tmp_path / "ours")]) == 2
    printed = capsys.readouterr().err
    assert re.search(r"model\.layers\.9\.extra.*model\.safetensors\.index\.json", printed), printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize("index", ["[]", '{"weight_map": []}', '{"weight_map": {"a": 3}}', "{}"])
def test_an_index_that_is_none(index: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved("llama", "multi-head", tmp_path)
    (folder / "model.safetensors.index.json").write_text(index)
    capsys.readouterr()
    assert main(["import", str(folder), "--out", str(tmp_path / "ours")]) == 2
    printed = capsys.readouterr().err
    assert "model.safetensors.index.json" in printed and printed.count("\n") == 1, printed


@torch.no_grad()
def test_rows_that_pad_the_vocabulary_are_never_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """300 rows, 257 ids: the others get by far the greatest logits."""
    folder = saved("llama", "multi-head", tmp_path)

    def loud(t: dict[str, Tensor]) -> dict[str, Tensor]:
        head = t["lm_head.weight"]
        head[:257] *= 1e-3
        return t

    rewrite(folder, loud)
    net = taken_in(folder)
    prompt = [[65, 66, 67]]
    assert any(id >= 257 for (id,) in generate(net, prompt, max_new_tokens=8))
    capsys.readouterr()
    ours = str(tmp_path / "ours")
    assert main(["generate", ours, "--prompt", "abc", "--max_new_tokens", "8", "--temperature", "0"]) == 0
