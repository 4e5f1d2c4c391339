"""Our GPT in GPT-2's components against transformers' GPT-2 with random weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from comparison import check_greedy_text, check_in_float32, check_in_float64, copy, randomize
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel
from transformers_float64 import Float64

from lit_gpt.model import GPT
from lit_gpt.nn import GELU, MLP, LayerNorm, Learned, ReLU, SelfAttention

SIZES = {
    "usual": {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 211},
    "one head, one layer, small eps": {"n_embd": 32, "n_layer": 1, "n_head": 1, "layer_norm_epsilon": 1e-8},
    "odd heads, own hidden width": {"n_embd": 45, "n_layer": 2, "n_head": 9, "n_inner": 70},
    "exact gelu": {"n_embd": 64, "n_layer": 2, "n_head": 4, "activation_function": "gelu"},
    "relu, untied": {
        "n_embd": 64, "n_layer": 2, "n_head": 4, "activation_function": "relu", "tie_word_embeddings": False,
    },
}  # fmt: skip
ACTIVATIONS = {"gelu_new": partial(GELU, approximate="tanh"), "gelu": GELU, "relu": ReLU}


def table(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by our names. Their matrices are (in, out), ours (out, in); their q, k and v are one matrix."""
    ours = {
        "embedding.weight": theirs["transformer.wte.weight"],
        "positions.0.table.weight": theirs["transformer.wpe.weight"],
        "norm.weight": theirs["transformer.ln_f.weight"],
        "norm.bias": theirs["transformer.ln_f.bias"],
    }
    if "lm_head.weight" in theirs:
        ours["head.weight"] = theirs["lm_head.weight"]
    for layer in range(sum(name.endswith("attn.c_attn.weight") for name in theirs)):
        block = f"transformer.h.{layer}."
        for kind in ("weight", "bias"):
            split = theirs[f"{block}attn.c_attn.{kind}"].chunk(3, dim=-1)
            parts = {
                "attention_norm": theirs[f"{block}ln_1.{kind}"],
                "attention.query": split[0].t(),
                "attention.key": split[1].t(),
                "attention.value": split[2].t(),
                "attention.out": theirs[f"{block}attn.c_proj.{kind}"].t(),
                "feedforward_norm": theirs[f"{block}ln_2.{kind}"],
                "feedforward.up": theirs[f"{block}mlp.c_fc.{kind}"].t(),
                "feedforward.down": theirs[f"{block}mlp.c_proj.{kind}"].t(),
            }
            ours |= {f"blocks.{layer}.{name}.{kind}": tensor for name, tensor in parts.items()}
    return ours


def pair(
    sizes: dict[str, Any], dtype: torch.dtype = torch.float32, scale: float = 1.0, seed: int = 0
) -> tuple[GPT2LMHeadModel, GPT]:
    """Their model and ours with the same random weights."""
    config = GPT2Config(bos_token_id=None, eos_token_id=None, **{"vocab_size": 97, "n_positions": 128} | sizes)
    theirs = GPT2LMHeadModel(config).to(dtype).eval()
    randomize(theirs, scale, seed)
    net = GPT(
        config.vocab_size,
        width=config.n_embd,
        depth=config.n_layer,
        heads=config.n_head,
        context=config.n_positions,
        attention=partial(SelfAttention, bias=True),
        feedforward=partial(MLP, hidden=config.n_inner, bias=True, activation=ACTIVATIONS[config.activation_function]),
        norm=partial(LayerNorm, eps=config.layer_norm_epsilon, bias=True),
        position=Learned,
        tie_embeddings=config.tie_word_embeddings,
    )
    net.to(dtype)
    copy(table, theirs, net)
    return theirs, net


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_float32(sizes: dict[str, Any]) -> None:
    with Float64():
        exact, _ = pair(sizes, torch.float64)
    check_in_float32(table, *pair(sizes), exact)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_float64(sizes: dict[str, Any]) -> None:
    with Float64():
        check_in_float64(table, *pair(sizes, torch.float64))


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_greedy_text(sizes: dict[str, Any]) -> None:
    check_greedy_text(lambda seed: pair(sizes, scale=3.0, seed=seed))


def exact_gelu(net: GPT) -> None:
    net.blocks[1].feedforward.activation = GELU()


def missing_bias(net: GPT) -> None:
    net.blocks[2].attention.out.bias.data.zero_()


def swapped_weight(net: GPT) -> None:
    query = net.blocks[0].attention.query.weight.data
    query[0, :2] = query[0, :2].flip(0)


@pytest.mark.parametrize("mistake", [exact_gelu, missing_bias, swapped_weight])
def test_float32_bounds_see_small_mistakes(mistake: Callable[[GPT], None]) -> None:
    """The exact GELU for the tanh one, a missing bias, two numbers swapped."""
    with Float64():
        exact, _ = pair(SIZES["usual"], torch.float64)
    theirs, net = pair(SIZES["usual"])
    mistake(net)
    with pytest.raises(AssertionError, match="ours: logits misses"):
        check_in_float32(table, theirs, net, exact)
