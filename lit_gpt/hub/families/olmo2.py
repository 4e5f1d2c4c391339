"""OLMo 2: norms after each branch, none before; a norm over all heads' queries and keys."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, read_sizes, write_sizes
from lit_gpt.hub.families.qwen3 import QK_NORMS
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.rotary import read_rotary, write_rotary
from lit_gpt.hub.weights import Same
from lit_gpt.nn import ResPostNorm, SelfAttention, SwiGLU


class Olmo2Family(Family):
    """OLMo team 2025 (arXiv 2501.00656)."""

    architecture = "Olmo2ForCausalLM"
    model_type = "olmo2"
    table = (
        *ENDS,
        Same("blocks.{l}.attention_norm.weight", "model.layers.{l}.post_attention_layernorm.weight"),
        Same("blocks.{l}.feedforward_norm.weight", "model.layers.{l}.post_feedforward_layernorm.weight"),
        *ATTENTION,
        *QK_NORMS,
        *FEEDFORWARD,
    )

    def read(self, config: HFConfig) -> dict[str, Any]:
        """See `Family.read`."""
        net = read_sizes(config, kv_heads=None, eps=1e-5)
        config.must("hidden_act", "silu")
        bias = config.flag("attention_bias", False)
        attention = component(SelfAttention, **net["attention"], bias=bias, qk_norm=net["norm"], qk_norm_over="heads")
        feedforward = component(SwiGLU, hidden=config.integer("intermediate_size"))
        position = read_rotary(config, net["context"])
        config.finish()
        return net | {
            "attention": attention,
            "feedforward": feedforward,
            "position": position,
            "block": component(ResPostNorm),
        }

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        written = write_sizes(net) | write_rotary(net["position"][0])
        scaling = written["rope_scaling"]
        if scaling and scaling["rope_type"] in ("linear", "dynamic"):
            # The OLMo 2 of transformers 4 knows these two alone, and by their older name alone.
            written["rope_scaling"] = {"type": scaling["rope_type"], "factor": scaling["factor"]}
        return written | {"attention_bias": net["attention"][0]["bias"]}
