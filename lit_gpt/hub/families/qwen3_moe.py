"""Qwen3-MoE: Qwen3 with mixtures of experts in some or all layers."""

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.layer_types import read_optional_window
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, NORMS, read_llama, write_llama
from lit_gpt.hub.families.qwen3 import QK_NORMS
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component, tiled
from lit_gpt.hub.weights import Experts, Same
from lit_gpt.nn import MoE, SelfAttention

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
    ignored = ("max_window_layers",)  # all layers have the window

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_llama(config, kv_heads=4, context=32768, hidden=6144)
        window, bias = read_optional_window(config, 4096), config.flag("attention_bias", False)
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
        step = config.integer("decoder_sparse_step", 1)
        dense = config.take("mlp_only_layers", None) or []
        if not isinstance(dense, list):
            raise config.refusal("mlp_only_layers", dense, "a list of layers")
        sparse = [layer not in dense and (layer + 1) % step == 0 for layer in range(net["depth"])]
        feedforward = tiled([experts if one else net["feedforward"] for one in sparse])
        return net | {"attention": attention, "feedforward": feedforward}

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        experts = next((layer for layer in net["feedforward"] if layer["class"] == "MoE"), net["feedforward"][0])
        dense = next((layer for layer in net["feedforward"] if layer["class"] != "MoE"), experts)
        window = net["attention"][0]["window"]
        return write_llama(net) | {
            "intermediate_size": dense["hidden"],
            "moe_intermediate_size": experts["hidden"],
            "num_experts": experts["experts"],
            "num_experts_per_tok": experts["top_k"],
            "norm_topk_prob": experts["normalize_weights"],
            "decoder_sparse_step": 1,
            "mlp_only_layers": [index for index, layer in enumerate(net["feedforward"]) if layer["class"] != "MoE"],
            "attention_bias": net["attention"][0]["bias"],
            "sliding_window": window,
            "use_sliding_window": window is not None,
        }
