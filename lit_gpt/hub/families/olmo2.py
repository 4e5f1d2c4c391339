"""OLMo 2: RMSNorm after each branch and none before it; QK-norm over all heads."""

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, read_llama, write_llama
from lit_gpt.hub.families.qwen3 import QK_NORMS
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.weights import Same
from lit_gpt.nn import ResPostNorm, SelfAttention


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

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_llama(config, eps=1e-5)
        bias = config.flag("attention_bias", False)
        attention = component(SelfAttention, **net["attention"], bias=bias, qk_norm=net["norm"], qk_norm_over="heads")
        return net | {"attention": attention, "block": component(ResPostNorm)}

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        fields = write_llama(net)
        scaling = fields["rope_scaling"]
        if scaling and scaling["rope_type"] in ("linear", "dynamic"):
            # The OLMo 2 of transformers 4 knows these two alone, and by their older name alone.
            fields["rope_scaling"] = {"type": scaling["rope_type"], "factor": scaling["factor"]}
        return fields | {"attention_bias": net["attention"][0]["bias"]}
