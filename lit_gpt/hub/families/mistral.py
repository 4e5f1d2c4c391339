"""Mistral: Llama with sliding window attention in all layers."""

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, NORMS, read_llama, write_llama
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.nn import SelfAttention


class MistralFamily(Family):
    """Jiang et al. 2023 (arXiv 2310.06825)."""

    architecture = "MistralForCausalLM"
    model_type = "mistral"
    table = (*ENDS, *NORMS, *ATTENTION, *FEEDFORWARD)

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_llama(config, kv_heads=8, context=4096 * 32)
        window = config.optional("sliding_window", 4096)
        return net | {"attention": component(SelfAttention, **net["attention"], window=window)}

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        return write_llama(net) | {"sliding_window": net["attention"][0]["window"]}
