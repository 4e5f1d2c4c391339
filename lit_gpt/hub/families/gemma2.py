"""Gemma 2: norms around both branches, scores and logits bounded, every other layer with a window."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.layer_types import FULL, LOCAL, read_windows, write_windows
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, read_sizes, write_sizes
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component, tiled
from lit_gpt.hub.rotary import read_rotary, write_rotary
from lit_gpt.hub.weights import Same
from lit_gpt.nn import GeGLU, RMSNorm, Sandwich, SelfAttention

NORMS = (
    Same("blocks.{l}.attention_norm.weight", "model.layers.{l}.input_layernorm.weight"),
    Same("blocks.{l}.attention_post_norm.weight", "model.layers.{l}.post_attention_layernorm.weight"),
    Same("blocks.{l}.feedforward_norm.weight", "model.layers.{l}.pre_feedforward_layernorm.weight"),
    Same("blocks.{l}.feedforward_post_norm.weight", "model.layers.{l}.post_feedforward_layernorm.weight"),
)
TANH = "gelu_pytorch_tanh"


class Gemma2Family(Family):
    """Gemma team 2024 (arXiv 2408.00118)."""

    architecture = "Gemma2ForCausalLM"
    model_type = "gemma2"
    table = (*ENDS, *NORMS, *ATTENTION, *FEEDFORWARD)

    def read(self, config: HFConfig) -> dict[str, Any]:
        """See `Family.read`."""
        net = read_gemma(config, context=8192)
        softcap = config.bound("attn_logit_softcapping", 50.0)
        usual = [FULL if layer % 2 else LOCAL for layer in range(net["depth"])]
        window = config.optional("sliding_window", 4096)
        if not config.has("sliding_window"):  # else transformers does not look at this older name
            config.must("sliding_window_size", window)
        windows = read_windows(config, net["depth"], window, usual)
        attention = [
            component(SelfAttention, **net["attention"], attn_softcap=softcap, window=window) for window in windows
        ]
        net |= {"logit_softcap": config.bound("final_logit_softcapping", 30.0)}
        net |= {"attention": tiled(attention), "position": read_rotary(config, net["context"])}
        config.finish(ignored=("sliding_window_size",))
        return net

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        return write_gemma(net) | {
            "attn_logit_softcapping": net["attention"][0]["attn_softcap"],
            "final_logit_softcapping": net["logit_softcap"],
            **write_rotary(net["position"][0]),
        }


def read_gemma(config: HFConfig, context: int) -> dict[str, Any]:
    """What Gemma 2 and 3 share; ``attention`` holds those arguments only that all layers have in common."""
    net = read_sizes(config, kv_heads=4, context=context, head_size=256, tie_embeddings=True)
    for name in ("hidden_activation", "hidden_act"):  # two names for the same
        config.must(name, TANH)
    config.must("use_bidirectional_attention", None, False)
    scale = config.positive("query_pre_attn_scalar", 256) ** -0.5
    norm = component(RMSNorm, eps=net["norm"]["init_args"]["eps"], center=1.0)
    return net | {
        "norm": norm,
        "block": component(Sandwich),
        "embedding_scale": net["width"] ** 0.5,
        "feedforward": component(GeGLU, hidden=config.integer("intermediate_size"), approximate="tanh"),
        "attention": net["attention"] | {"scale": scale, "bias": config.flag("attention_bias", False)},
    }


def write_gemma(net: dict[str, Any]) -> dict[str, Any]:
    """The fields that `read_gemma` looks at, and the windows."""
    attention = net["attention"][0]
    # The field holds a whole number in all that were published; it is the scale's inverse square.
    scalar = attention["scale"] and attention["scale"] ** -2
    if scalar and round(scalar) ** -0.5 == attention["scale"]:
        scalar = round(scalar)
    written = write_sizes(net) | write_windows(net)
    del written["hidden_act"]
    return written | {
        "hidden_activation": TANH,
        "query_pre_attn_scalar": scalar,
        "attention_bias": attention["bias"],
    }
