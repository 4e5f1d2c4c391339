"""Phi-3 and Phi-4: Llama with fused matrices, a window, partial rotary positions and LongRoPE."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.llama import ENDS, NORMS, read_sizes, write_sizes
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.rotary import longrope_gain, read_rotary, write_rotary
from lit_gpt.hub.weights import Joined, both, fused
from lit_gpt.nn import SelfAttention, SwiGLU


class Phi3Family(Family):
    """Abdin et al. 2024 (arXiv 2404.14219)."""

    architecture = "Phi3ForCausalLM"
    model_type = "phi3"
    table = (
        *ENDS,
        *NORMS,
        *fused(
            Joined,
            [f"blocks.{{l}}.attention.{name}" for name in ("query", "key", "value")],
            "model.layers.{l}.self_attn.qkv_proj",
        ),
        *both("blocks.{l}.attention.out", "model.layers.{l}.self_attn.o_proj"),
        *fused(
            Joined, [f"blocks.{{l}}.feedforward.{name}" for name in ("gate", "up")], "model.layers.{l}.mlp.gate_up_proj"
        ),
        *both("blocks.{l}.feedforward.down", "model.layers.{l}.mlp.down_proj"),
    )

    def read(self, config: HFConfig) -> dict[str, Any]:
        """See `Family.read`."""
        net = read_sizes(config, kv_heads=None, eps=1e-5, context=4096)
        config.must("hidden_act", "silu")
        for name in ("attention_bias", "mlp_bias", "lm_head_bias"):
            config.must(name, False)
        for name in ("full_attn_mod", "interpolate_factor"):
            config.must(name, 1)
        attention = component(SelfAttention, **net["attention"], window=config.optional("sliding_window"))
        feedforward = component(SwiGLU, hidden=config.integer("intermediate_size"))
        # Two older names for LongRoPE.
        position = read_rotary(
            config, net["context"], partial=True, original=4096, renamed={"su": "longrope", "yarn": "longrope"}
        )
        config.finish()
        return net | {"attention": attention, "feedforward": feedforward, "position": position}

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        position = net["position"][0]
        written = write_sizes(net) | write_rotary(position)
        del written["head_dim"]  # transformers' own is always width / heads
        scaling = position["scaling"]
        if scaling and scaling["class"] == "LongRoPE":
            # The Phi-3 of transformers 4 takes these three fields or none: a factor of attention is left out where it
            # is what both versions make of the lengths.
            usual = longrope_gain(net["context"] / scaling["original_context"], scaling["original_context"])
            exact = {"type": "longrope", **{name: scaling[name] for name in ("short_factor", "long_factor")}}
            gain = scaling["attention_factor"]
            written["rope_scaling"] = exact | ({} if gain == usual else {"attention_factor": gain})
        return written | {
            "sliding_window": net["attention"][0]["window"],
            "partial_rotary_factor": position["partial_rotary_factor"],
            "original_max_position_embeddings": scaling["original_context"] if scaling else net["context"],
        }
