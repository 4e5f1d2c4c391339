"""Llama 2 and 3, and all that is built like them (SmolLM, TinyLlama, Yi, DeepSeek's distilled ones)."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.rotary import read_rotary, write_context, write_rotary
from lit_gpt.hub.weights import Same, both
from lit_gpt.nn import PreNorm, RMSNorm, SelfAttention, SwiGLU

LAYER = "model.layers.{l}"
ATTENTION = (
    *both("blocks.{l}.attention.query", f"{LAYER}.self_attn.q_proj"),
    *both("blocks.{l}.attention.key", f"{LAYER}.self_attn.k_proj"),
    *both("blocks.{l}.attention.value", f"{LAYER}.self_attn.v_proj"),
    *both("blocks.{l}.attention.out", f"{LAYER}.self_attn.o_proj"),
)
FEEDFORWARD = (
    *both("blocks.{l}.feedforward.gate", f"{LAYER}.mlp.gate_proj"),
    *both("blocks.{l}.feedforward.up", f"{LAYER}.mlp.up_proj"),
    *both("blocks.{l}.feedforward.down", f"{LAYER}.mlp.down_proj"),
)
NORMS = (
    Same("blocks.{l}.attention_norm.weight", f"{LAYER}.input_layernorm.weight"),
    Same("blocks.{l}.feedforward_norm.weight", f"{LAYER}.post_attention_layernorm.weight"),
)
ENDS = (
    Same("embedding.weight", "model.embed_tokens.weight"),
    Same("norm.weight", "model.norm.weight"),
    Same("head.weight", "lm_head.weight"),
)


class LlamaFamily(Family):
    """Touvron et al. 2023 (arXiv 2302.13971, 2307.09288), Grattafiori et al. 2024 (arXiv 2407.21783)."""

    architecture = "LlamaForCausalLM"
    model_type = "llama"
    table = (*ENDS, *NORMS, *ATTENTION, *FEEDFORWARD)

    def read(self, config: HFConfig) -> dict[str, Any]:
        """See `Family.read`."""
        net = read_sizes(config, kv_heads=None)
        heads = net["attention"]
        config.must("hidden_act", "silu")
        attention = component(SelfAttention, **heads, bias=config.flag("attention_bias", False))
        feedforward = component(SwiGLU, hidden=config.integer("intermediate_size"), bias=config.flag("mlp_bias", False))
        position = read_rotary(config, net["context"])
        config.finish(ignored=("max_sequence_length",))  # of Llama 1, beside max_position_embeddings
        return stretched(net | {"attention": attention, "feedforward": feedforward, "position": position})

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        return write_sizes(net) | {
            "attention_bias": net["attention"][0]["bias"],
            "mlp_bias": net["feedforward"][0]["bias"],
            **write_rotary(net["position"][0]),
        }


def read_sizes(
    config: HFConfig,
    kv_heads: int | None,
    eps: float = 1e-6,
    context: int = 2048,
    head_size: int | None = None,
    tie_embeddings: bool = False,
) -> dict[str, Any]:
    """The numbers, norms and wiring that Llama's many relatives share; ``attention`` holds kv_heads and head_size only.

    Args:
        config: The whole config.json.
        kv_heads: What a missing num_key_value_heads means; None for as many as heads.
        eps: What a missing rms_norm_eps means.
        context: What a missing max_position_embeddings means.
        head_size: What a missing head_dim means; None for width / heads.
        tie_embeddings: What a missing tie_word_embeddings means.
    """
    width, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    kv = config.optional("num_key_value_heads", kv_heads)
    own = config.optional("head_dim", head_size)
    return {
        "vocab_size": config.integer("vocab_size"),
        "width": width,
        "depth": config.integer("num_hidden_layers"),
        "heads": heads,
        "context": config.integer("max_position_embeddings", context),
        "norm": component(RMSNorm, eps=config.positive("rms_norm_eps", eps)),
        "block": component(PreNorm),
        "tie_embeddings": config.flag("tie_word_embeddings", tie_embeddings),
        "attention": {"kv_heads": kv or heads, "head_size": own or width // heads},
    }


def stretched(net: dict[str, Any]) -> dict[str, Any]:
    """The context that dynamic scaling reaches: its max_position_embeddings is the length from which it scales."""
    scaling = (
        (net["position"]["init_args"]["scaling"] or {"class_path": ""}) if isinstance(net["position"], dict) else {}
    )
    if scaling.get("class_path", "").endswith("DynamicNTK"):
        given = scaling["init_args"]
        return net | {"context": round(given["factor"] * given["original_context"])}
    return net


def write_sizes(net: dict[str, Any]) -> dict[str, Any]:
    """The fields that `read_sizes` looks at, the activation and the hidden size."""
    attention = net["attention"][0]
    return {
        "vocab_size": net["vocab_size"],
        "hidden_size": net["width"],
        "num_hidden_layers": net["depth"],
        "num_attention_heads": net["heads"],
        "num_key_value_heads": attention["kv_heads"],
        "head_dim": attention["head_size"],
        "max_position_embeddings": write_context(net),
        "rms_norm_eps": net["norm"]["eps"],
        "tie_word_embeddings": net["tie_embeddings"],
        "hidden_act": "silu",
        "intermediate_size": net["feedforward"][0]["hidden"],
        "attention_dropout": 0.0,
    }
