"""Mistral: Llama with a window over all layers."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, NORMS, read_sizes, write_sizes
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.rotary import read_rotary, write_rotary
from lit_gpt.nn import SelfAttention, SwiGLU


class MistralFamily(Family):
    """Jiang et al. 2023 (arXiv 2310.06825)."""

    architecture = "MistralForCausalLM"
    model_type = "mistral"
    table = (*ENDS, *NORMS, *ATTENTION, *FEEDFORWARD)

    def read(self, config: HFConfig) -> dict[str, Any]:
        """See `Family.read`."""
        net = read_sizes(config, kv_heads=8, context=4096 * 32)
        config.must("hidden_act", "silu")
        attention = component(SelfAttention, **net["attention"], window=config.optional("sliding_window", 4096))
        feedforward = component(SwiGLU, hidden=config.integer("intermediate_size"))
        position = read_rotary(config, net["context"])
        config.finish()
        return net | {"attention": attention, "feedforward": feedforward, "position": position}

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        return write_sizes(net) | {"sliding_window": net["attention"][0]["window"], **write_rotary(net["position"][0])}
