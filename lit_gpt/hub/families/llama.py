"""Llama 2 and 3 and models built like them (SmolLM, TinyLlama, Yi, DeepSeek's distilled ones)."""

from typing import Any

from lit_gpt.hub.families.family import Family, read_sizes, write_sizes
from lit_gpt.hub.hf_config import REQUIRED, HFConfig
from lit_gpt.hub.net_config import ComponentConfig, component
from lit_gpt.hub.rotary import THETA, read_rotary, write_context, write_rotary
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
SIZES = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "context": "max_position_embeddings",
}


class LlamaFamily(Family):
    """Touvron et al. 2023 (arXiv 2302.13971, 2307.09288), Grattafiori et al. 2024 (arXiv 2407.21783)."""

    architecture = "LlamaForCausalLM"
    model_type = "llama"
    table = (*ENDS, *NORMS, *ATTENTION, *FEEDFORWARD)
    ignored = ("max_sequence_length",)  # of Llama 1, beside max_position_embeddings

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_llama(config, mlp_bias=config.flag("mlp_bias", False))
        net["attention"] = component(SelfAttention, **net["attention"], bias=config.flag("attention_bias", False))
        scaling = net["position"]["init_args"]["scaling"]
        if scaling and scaling["class_path"].endswith("DynamicNTK"):
            # max_position_embeddings is the length from which dynamic scaling starts.
            net["context"] = round(scaling["init_args"]["factor"] * scaling["init_args"]["original_context"])
        return net

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        biases = {"attention_bias": net["attention"][0]["bias"], "mlp_bias": net["feedforward"][0]["bias"]}
        return write_llama(net) | biases


def read_backbone(
    config: HFConfig,
    kv_heads: int | None = None,
    eps: float = 1e-6,
    context: int = 2048,
    head_size: int | None = None,
    tie: bool = False,
) -> dict[str, Any]:
    """The sizes, norms and blocks that Llama's relatives share; ``attention`` holds kv_heads and head_size only.

    Args:
        config: The whole config.json.
        kv_heads: Default of num_key_value_heads; None for as many as heads.
        eps: Default of rms_norm_eps.
        context: Default of max_position_embeddings.
        head_size: Default of head_dim; None for width / heads.
        tie: Default of tie_word_embeddings.
    """
    net = read_sizes(config, SIZES, tie, context=context)
    kv = config.optional("num_key_value_heads", kv_heads) or net["heads"]
    size = config.optional("head_dim", head_size) or net["width"] // net["heads"]
    norm = component(RMSNorm, eps=config.positive("rms_norm_eps", eps))
    return net | {"norm": norm, "block": component(PreNorm), "attention": {"kv_heads": kv, "head_size": size}}


def read_llama(
    config: HFConfig, base: float = THETA, hidden: Any = REQUIRED, mlp_bias: bool = False, **defaults: Any
) -> dict[str, Any]:
    """`read_backbone` with SwiGLU and RoPE.

    Args:
        config: The whole config.json.
        base: Default of rope_theta.
        hidden: Default of intermediate_size.
        mlp_bias: Whether the feed-forward layers have biases.
        defaults: Of `read_backbone`.
    """
    net = read_backbone(config, **defaults)
    feedforward = read_swiglu(config, hidden, mlp_bias)
    return net | {"feedforward": feedforward, "position": read_rotary(config, net["context"], base=base)}


def read_swiglu(config: HFConfig, hidden: Any = REQUIRED, bias: bool = False) -> ComponentConfig:
    """SwiGLU of intermediate_size."""
    config.must("hidden_act", "silu")
    return component(SwiGLU, hidden=config.integer("intermediate_size", hidden), bias=bias)


def write_backbone(net: dict[str, Any]) -> dict[str, Any]:
    """The fields that `read_backbone` and `read_swiglu` read."""
    attention = net["attention"][0]
    return write_sizes(net, SIZES) | {
        "num_key_value_heads": attention["kv_heads"],
        "head_dim": attention["head_size"],
        "max_position_embeddings": write_context(net),
        "rms_norm_eps": net["norm"]["eps"],
        "hidden_act": "silu",
        "intermediate_size": net["feedforward"][0]["hidden"],
        "attention_dropout": 0.0,
    }


def write_llama(net: dict[str, Any]) -> dict[str, Any]:
    """The fields that `read_llama` reads."""
    return write_backbone(net) | write_rotary(net["position"][0])
