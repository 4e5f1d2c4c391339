"""Our GPT in Llama's components against transformers' Llama with random weights."""

from functools import partial
from typing import Any

import pytest
import torch
from comparison import check_greedy_text, check_in_float32, check_in_float64, copy, randomize
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers_float64 import Float64

from lit_gpt.model import GPT
from lit_gpt.nn import RMSNorm, RoPE, SelfAttention, SwiGLU

SIZES = {
    "multi-head": {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 172},
    "grouped-query": {
        "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2,
        "intermediate_size": 100, "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
        "rms_norm_eps": 1e-5,
    },
    "multi-query, tied": {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1,
        "intermediate_size": 96, "tie_word_embeddings": True,
    },
    "own head size, eager attention": {
        "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 32,
        "intermediate_size": 64, "attn_implementation": "eager",
    },
}  # fmt: skip
PARTS = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "feedforward_norm": "post_attention_layernorm",
    "feedforward.gate": "mlp.gate_proj",
    "feedforward.up": "mlp.up_proj",
    "feedforward.down": "mlp.down_proj",
}


def table(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by our names: a renaming, for both keep q, k, v apart and rotate half-split heads."""
    ours = {"embedding.weight": theirs["model.embed_tokens.weight"], "norm.weight": theirs["model.norm.weight"]}
    if "lm_head.weight" in theirs:
        ours["head.weight"] = theirs["lm_head.weight"]
    for layer in range(sum(name.endswith("q_proj.weight") for name in theirs)):
        for name, their_name in PARTS.items():
            ours[f"blocks.{layer}.{name}.weight"] = theirs[f"model.layers.{layer}.{their_name}.weight"]
    return ours


def pair(
    sizes: dict[str, Any], dtype: torch.dtype = torch.float32, scale: float = 1.0, seed: int = 0
) -> tuple[LlamaForCausalLM, GPT]:
    """Their model and ours with the same random weights."""
    config = LlamaConfig(
        bos_token_id=None, eos_token_id=None, **{"vocab_size": 97, "max_position_embeddings": 128} | sizes
    )
    theirs = LlamaForCausalLM(config)
    if dtype == torch.float64:
        # in place of .to(): a table that was computed in float32 would keep its error
        theirs.model.rotary_emb = type(theirs.model.rotary_emb)(config)
    theirs.to(dtype).eval()
    randomize(theirs, scale, seed)
    net = GPT(
        config.vocab_size,
        width=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        context=config.max_position_embeddings,
        attention=partial(SelfAttention, kv_heads=config.num_key_value_heads, head_size=config.head_dim),
        feedforward=partial(SwiGLU, hidden=config.intermediate_size),
        norm=partial(RMSNorm, eps=config.rms_norm_eps),
        position=partial(RoPE, base=config.rope_parameters["rope_theta"]),
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


def test_without_the_patch_float64_is_not_theirs() -> None:
    """Why the patch is there; when this fails, transformers computes in float64 by itself and the patch can go."""
    with pytest.raises(AssertionError):
        check_in_float64(table, *pair(SIZES["multi-head"], torch.float64))


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_greedy_text(sizes: dict[str, Any]) -> None:
    check_greedy_text(lambda seed: pair(sizes, scale=3.0, seed=seed))
