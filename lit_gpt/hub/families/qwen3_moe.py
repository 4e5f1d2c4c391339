"""Qwen3-MoE: Qwen3 with mixtures of experts in some or all layers."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, NORMS, read_sizes, write_sizes
from lit_gpt.hub.families.qwen3 import QK_NORMS
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component, tiled
from lit_gpt.hub.rotary import read_rotary, write_rotary
from lit_gpt.hub.weights import Experts, Same
from lit_gpt.nn import MoE, SelfAttention, SwiGLU

EXPERTS = "model.layers.{l}.mlp.experts.{e}"
SPARSE = (
    Same("blocks.{l}.feedforward.router.weight", "model.layers.{l}.mlp.gate.weight"),
    Experts("blocks.{l}.feedforward.gate.weight", f"{EXPERTS}.gate_proj.weight"),
    Experts("blocks.{l}.feedforward.up.weight", f"{EXPERTS}.up_proj.weight"),
    Experts("blocks.{l}.feedforward.down.weight", f"{EXPERTS}.down_proj.weight"),
)


class Qwen3MoEFamily(Family):
    """Yang et al. 2025 (arXiv 2505.09388)."""

    architecture = "Qwen3MoeForCausalLM"
    model_type = "qwen3_moe"
    table = (*ENDS, *NORMS, *ATTENTION, *QK_NORMS, *SPARSE, *FEEDFORWARD)

    def read(self, config: HFConfig) -> dict[str, Any]:
        """See `Family.read`."""
        net = read_sizes(config, kv_heads=4, context=32768)
        config.must("hidden_act", "silu")
        window = config.optional("sliding_window", 4096)
        window = window if config.flag("use_sliding_window", False) else None
        config.take("max_window_layers", None)  # all layers have the window
        bias = config.flag("attention_bias", False)
        attention = component(SelfAttention, **net["attention"], bias=bias, qk_norm=net["norm"], window=window)
        experts = component(
            MoE,
            hidden=config.integer("moe_intermediate_size", 768),
            experts=config.either("num_experts", "num_local_experts", default=128),
            top_k=config.integer("num_experts_per_tok", 8),
            normalize_weights=config.flag("norm_topk_prob", False),
            aux_loss_coef=config.number("router_aux_loss_coef", 0.001),
            z_loss_coef=0.0,
            pooled=True,
        )
        dense = component(SwiGLU, hidden=config.integer("intermediate_size", 6144))
        step = config.integer("decoder_sparse_step", 1)
        only_dense = config.take("mlp_only_layers", None) or []
        if not isinstance(only_dense, list):
            raise config.refusal("mlp_only_layers", only_dense, "a list of layers")
        sparse = [layer not in only_dense and (layer + 1) % step == 0 for layer in range(net["depth"])]
        position = read_rotary(config, net["context"])
        config.finish()
        feedforward = tiled([experts if one else dense for one in sparse])
        return net | {"attention": attention, "feedforward": feedforward, "position": position}

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        experts = next((one for one in net["feedforward"] if one["class"] == "MoE"), net["feedforward"][0])
        dense = next((one for one in net["feedforward"] if one["class"] != "MoE"), None)
        window = net["attention"][0]["window"]
        return write_sizes(net) | {
            "intermediate_size": dense["hidden"] if dense else experts["hidden"],
            "moe_intermediate_size": experts["hidden"],
            "num_experts": experts["experts"],
            "num_experts_per_tok": experts["top_k"],
            "norm_topk_prob": experts["normalize_weights"],
            "decoder_sparse_step": 1,
            "mlp_only_layers": [layer for layer, one in enumerate(net["feedforward"]) if one["class"] != "MoE"],
            "attention_bias": net["attention"][0]["bias"],
            "sliding_window": window,
            "use_sliding_window": window is not None,
            **write_rotary(net["position"][0]),
        }
