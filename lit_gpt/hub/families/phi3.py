"""Phi-3 and Phi-4: Llama with fused projections, sliding window, partial rotary embeddings and LongRoPE."""

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.llama import ENDS, LAYER, NORMS, read_backbone, read_swiglu, write_llama
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.rotary import longrope_gain, read_rotary
from lit_gpt.hub.weights import QKV, Joined, both, fused
from lit_gpt.nn import SelfAttention


class Phi3Family(Family):
    """Abdin et al. 2024 (arXiv 2404.14219)."""

    architecture = "Phi3ForCausalLM"
    model_type = "phi3"
    table = (
        *ENDS,
        *NORMS,
        *fused(Joined, QKV, f"{LAYER}.self_attn.qkv_proj"),
        *both("blocks.{l}.attention.out", f"{LAYER}.self_attn.o_proj"),
        *fused(Joined, ["blocks.{l}.feedforward.gate", "blocks.{l}.feedforward.up"], f"{LAYER}.mlp.gate_up_proj"),
        *both("blocks.{l}.feedforward.down", f"{LAYER}.mlp.down_proj"),
    )

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_backbone(config, eps=1e-5, context=4096)
        for name in ("attention_bias", "mlp_bias", "lm_head_bias"):
            config.must(name, False)
        for name in ("full_attn_mod", "interpolate_factor"):
            config.must(name, 1)
        older = {"su": "longrope", "yarn": "longrope"}  # two older names of LongRoPE
        return net | {
            "attention": component(SelfAttention, **net["attention"], window=config.optional("sliding_window")),
            "feedforward": read_swiglu(config),
            "position": read_rotary(config, net["context"], partial=True, original=4096, renamed=older),
        }

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        position = net["position"][0]
        fields = write_llama(net)
        del fields["head_dim"]  # in transformers always width / heads
        scaling = position["scaling"]
        if scaling and scaling["class"] == "LongRoPE":
            # The Phi-3 of transformers 4 takes exactly these three fields: the attention factor is written only where
            # it is not the one that both versions derive from the lengths.
            usual = longrope_gain(net["context"] / scaling["original_context"], scaling["original_context"])
            exact = {"type": "longrope", **{name: scaling[name] for name in ("short_factor", "long_factor")}}
            gain = scaling["attention_factor"]
            fields["rope_scaling"] = exact | ({} if gain == usual else {"attention_factor": gain})
        return fields | {
            "sliding_window": net["attention"][0]["window"],
            "partial_rotary_factor": position["partial_rotary_factor"],
            "original_max_position_embeddings": scaling["original_context"] if scaling else net["context"],
        }
