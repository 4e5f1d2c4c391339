"""Qwen3: a norm over each head's queries and keys, heads of a size of their own."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, NORMS, read_sizes, write_sizes
from lit_gpt.hub.families.qwen2 import read_upper_windows, write_upper_windows
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component, tiled
from lit_gpt.hub.rotary import read_rotary, write_rotary
from lit_gpt.hub.weights import Same
from lit_gpt.nn import SelfAttention, SwiGLU

QK_NORMS = (
    Same("blocks.{l}.attention.query_norm.weight", "model.layers.{l}.self_attn.q_norm.weight"),
    Same("blocks.{l}.attention.key_norm.weight", "model.layers.{l}.self_attn.k_norm.weight"),
)


class Qwen3Family(Family):
    """Yang et al. 2025 (arXiv 2505.09388)."""

    architecture = "Qwen3ForCausalLM"
    model_type = "qwen3"
    table = (*ENDS, *NORMS, *ATTENTION, *QK_NORMS, *FEEDFORWARD)

    def read(self, config: HFConfig) -> dict[str, Any]:
        """See `Family.read`."""
        net = read_sizes(config, kv_heads=32, context=32768, head_size=128)
        config.must("hidden_act", "silu")
        windows = read_upper_windows(config, net["depth"])
        bias = config.flag("attention_bias", False)
        attention = [
            component(SelfAttention, **net["attention"], bias=bias, qk_norm=net["norm"], window=window)
            for window in windows
        ]
        feedforward = component(SwiGLU, hidden=config.integer("intermediate_size"))
        position = read_rotary(config, net["context"])
        config.finish()
        return net | {"attention": tiled(attention), "feedforward": feedforward, "position": position}

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        return (
            write_sizes(net)
            | write_upper_windows(net)
            | {"attention_bias": net["attention"][0]["bias"], **write_rotary(net["position"][0])}
        )
