"""Every family, every odd option: what is imported equals transformers' model, and the way back loses nothing."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from random_models import Case, cases, computing_in, make, save
from rounding import assert_only_rounded, choices_are_beyond_rounding
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from lit_gpt import checkpoint
from lit_gpt.commands import export, import_
from lit_gpt.generate.engine import generate

every = pytest.mark.parametrize("case", cases())


def taken_in(folder: Path, out: Path) -> torch.nn.Module:
    """The net of a folder, through the command and back from its checkpoint."""
    assert import_.main([str(folder), "--out", str(out)]) == 0
    return checkpoint.load(out)[0]


def attention_of(model: torch.nn.Module) -> str:
    """Which of its kernels a transformers model uses."""
    return str(model.config._attn_implementation)


def exact_logits(case: Case, theirs: torch.nn.Module) -> torch.Tensor:
    """What transformers' model says in float64 throughout with these weights, of whatever type."""
    model = make(case, torch.float64)
    for parameter, given in zip(model.parameters(), theirs.parameters(), strict=True):
        parameter.data.copy_(given)
    with computing_in(torch.float64), getattr(case.module, "lifted", nullcontext)():
        logits: torch.Tensor = model(case.ids()).logits
    assert logits.dtype == torch.float64
    return logits


@every
@torch.no_grad()
def test_logits_are_equal_in_float32(case: Case, tmp_path: Path) -> None:
    theirs = make(case)
    net = taken_in(save(theirs, tmp_path / "theirs"), tmp_path / "ours")
    ids = case.ids()
    expected = exact_logits(case, theirs)
    assert 0.3 < expected.std() < 100, "logits too even, or too far apart, to compare"
    for who, logits in (("theirs", theirs(ids).logits), ("ours", net(ids))):
        assert_only_rounded(logits, expected, net.sizes.depth, net.sizes.width, what=f"{who}: logits")


@every
@torch.no_grad()
def test_logits_are_equal_in_float64(case: Case, tmp_path: Path) -> None:
    theirs = make(case, torch.float64)
    net = taken_in(save(theirs, tmp_path / "theirs"), tmp_path / "ours").double()
    ids = case.ids()
    expected = exact_logits(case, theirs)
    torch.testing.assert_close(net(ids), expected, rtol=0, atol=1e-10)


@every
@torch.no_grad()
def test_greedy_text_is_the_same(case: Case, tmp_path: Path) -> None:
    prompt = case.ids()[:1, :12]
    for seed in range(10):  # a text that goes round in circles proves little
        theirs = make(case, scale=3.0, seed=seed)
        found = theirs.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=64, do_sample=False, eos_token_id=None,
            pad_token_id=0, output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        written = found.sequences[0, 12:].tolist()
        told = choices_are_beyond_rounding(torch.cat(found.logits), 2, theirs.config.hidden_size)
        if told and len(set(written)) > 5:
            break
    assert told and len(written) == 64 and len(set(written)) > 5
    net = taken_in(save(theirs, tmp_path / "theirs"), tmp_path / "ours")
    assert [id for (id,) in generate(net, prompt.tolist(), max_new_tokens=64)] == written


@every
@torch.no_grad()
def test_the_way_back_loses_nothing(case: Case, tmp_path: Path) -> None:
    theirs = make(case)
    folder = save(theirs, tmp_path / "theirs")
    net = taken_in(folder, tmp_path / "ours")
    assert export.main([str(tmp_path / "ours"), "--out", str(tmp_path / "back")]) == 0
    original = load_file(folder / "model.safetensors")
    returned = load_file(tmp_path / "back" / "model.safetensors")
    assert original.keys() == returned.keys()
    for name, tensor in original.items():
        assert torch.equal(tensor, returned[name]), name
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["architectures"] == [case.module.ARCHITECTURE]
    again = taken_in(tmp_path / "back", tmp_path / "again")
    for name, weight in net.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    ids = case.ids()
    assert torch.equal(net(ids), again(ids))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "back", attn_implementation=attention_of(theirs))
    if hasattr(theirs.config, "num_experts_per_tok"):
        loaded.set_experts_implementation("eager")
    assert_only_rounded(loaded(ids).logits, theirs(ids).logits, net.sizes.depth, net.sizes.width)


@pytest.mark.parametrize("case", [one for one in cases() if one.values[0].family in ("mixtral", "qwen3_moe")])
def test_the_routers_loss_is_the_same(case: Case, tmp_path: Path) -> None:
    theirs = make(case)
    net = taken_in(save(theirs, tmp_path / "theirs"), tmp_path / "ours")
    ids = case.ids()
    expected = theirs(ids, output_router_logits=True).aux_loss * theirs.config.router_aux_loss_coef
    found = net(ids, reduce=lambda hidden, weight, softcap, aux: aux)
    assert_only_rounded(found, expected, net.sizes.depth, net.sizes.width)
