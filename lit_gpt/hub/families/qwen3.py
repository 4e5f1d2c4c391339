"""Qwen3: Llama with QK-norm on each head and an independent head size."""

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.layer_types import windowed_attention
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, NORMS, read_llama, write_llama
from lit_gpt.hub.families.qwen2 import read_upper_windows, write_upper_windows
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.weights import Same

QK_NORMS = (
    Same("blocks.{l}.attention.query_norm.weight", "model.layers.{l}.self_attn.q_norm.weight"),
    Same("blocks.{l}.attention.key_norm.weight", "model.layers.{l}.self_attn.k_norm.weight"),
)


class Qwen3Family(Family):
    """Yang et al. 2025 (arXiv 2505.09388)."""

    architecture = "Qwen3ForCausalLM"
    model_type = "qwen3"
    table = (*ENDS, *NORMS, *ATTENTION, *QK_NORMS, *FEEDFORWARD)

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_llama(config, kv_heads=32, context=32768, head_size=128)
        windows, bias = read_upper_windows(config, net["depth"]), config.flag("attention_bias", False)
        return net | {"attention": windowed_attention(windows, **net["attention"], bias=bias, qk_norm=net["norm"])}

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        return write_llama(net) | write_upper_windows(net) | {"attention_bias": net["attention"][0]["bias"]}
