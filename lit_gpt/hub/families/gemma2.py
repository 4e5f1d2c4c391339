"""Gemma 2: norms before and after each branch (sandwich), soft-capped logits, a sliding window in every other layer."""

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.layer_types import FULL, LOCAL, read_windows, windowed_attention, write_windows
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, read_backbone, write_backbone
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.rotary import read_rotary, write_rotary
from lit_gpt.hub.weights import Same
from lit_gpt.nn import GeGLU, RMSNorm, Sandwich

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
    ignored = ("sliding_window_size",)

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_gemma(config, context=8192)
        softcap = config.bound("attn_logit_softcapping", 50.0)
        usual = [FULL if layer % 2 else LOCAL for layer in range(net["depth"])]
        window = config.optional("sliding_window", 4096)
        if not config.has("sliding_window"):  # else transformers does not look at this older name
            config.must("sliding_window_size", window)
        windows = read_windows(config, net["depth"], window, usual)
        return net | {
            "logit_softcap": config.bound("final_logit_softcapping", 30.0),
            "attention": windowed_attention(windows, **net["attention"], attn_softcap=softcap),
            "position": read_rotary(config, net["context"]),
        }

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        return write_gemma(net) | {
            "attn_logit_softcapping": net["attention"][0]["attn_softcap"],
            "final_logit_softcapping": net["logit_softcap"],
            **write_rotary(net["position"][0]),
        }


def read_gemma(config: HFConfig, context: int) -> dict[str, Any]:
    """What Gemma 2 and 3 share; ``attention`` holds the arguments that all layers have in common."""
    net = read_backbone(config, kv_heads=4, context=context, head_size=256, tie=True)
    for name in ("hidden_activation", "hidden_act"):  # two names for the same
        config.must(name, TANH)
    config.must("use_bidirectional_attention", None, False)
    scale = config.positive("query_pre_attn_scalar", 256) ** -0.5
    return net | {
        "norm": component(RMSNorm, eps=net["norm"]["init_args"]["eps"], center=1.0),
        "block": component(Sandwich),
        "embedding_scale": net["width"] ** 0.5,
        "feedforward": component(GeGLU, hidden=config.integer("intermediate_size"), approximate="tanh"),
        "attention": net["attention"] | {"scale": scale, "bias": config.flag("attention_bias", False)},
    }


def write_gemma(net: dict[str, Any]) -> dict[str, Any]:
    """The fields that `read_gemma` reads, and the windows."""
    attention = net["attention"][0]
    # The inverse square of the scale, which all published models have as a whole number.
    scalar = attention["scale"] and attention["scale"] ** -2
    if scalar and round(scalar) ** -0.5 == attention["scale"]:
        scalar = round(scalar)
    fields = write_backbone(net) | write_windows(net)
    del fields["hidden_act"]
    return fields | {
        "hidden_activation": TANH,
        "query_pre_attn_scalar": scalar,
        "attention_bias": attention["bias"],
    }
