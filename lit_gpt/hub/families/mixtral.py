"""Mixtral: Mistral with mixture-of-experts feed-forward layers."""

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.llama import ATTENTION, ENDS, NORMS, read_backbone, write_llama
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.rotary import read_rotary
from lit_gpt.hub.weights import Experts, Same
from lit_gpt.nn import MoE, SelfAttention

EXPERTS = "model.layers.{l}.block_sparse_moe.experts.{e}"


class MixtralFamily(Family):
    """Jiang et al. 2024 (arXiv 2401.04088)."""

    architecture = "MixtralForCausalLM"
    model_type = "mixtral"
    table = (
        *ENDS,
        *NORMS,
        *ATTENTION,
        Same("blocks.{l}.feedforward.router.weight", "model.layers.{l}.block_sparse_moe.gate.weight"),
        Experts("blocks.{l}.feedforward.gate.weight", f"{EXPERTS}.w1.weight"),
        Experts("blocks.{l}.feedforward.up.weight", f"{EXPERTS}.w3.weight"),
        Experts("blocks.{l}.feedforward.down.weight", f"{EXPERTS}.w2.weight"),
    )

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_backbone(config, kv_heads=8, eps=1e-5, context=4096 * 32)
        config.must("hidden_act", "silu")
        config.must("router_jitter_noise", 0.0)
        feedforward = component(
            MoE,
            hidden=config.integer("intermediate_size"),
            experts=config.integer("num_local_experts", 8),
            top_k=config.integer("num_experts_per_tok", 2),
            aux_loss_coef=config.number("router_aux_loss_coef", 0.001),
            z_loss_coef=0.0,
            pooled=True,
        )
        return net | {
            "attention": component(SelfAttention, **net["attention"], window=config.optional("sliding_window")),
            "feedforward": feedforward,
            "position": read_rotary(config, net["context"], base=1e6),
        }

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        experts = net["feedforward"][0]
        return write_llama(net) | {
            "sliding_window": net["attention"][0]["window"],
            "num_local_experts": experts["experts"],
            "num_experts_per_tok": experts["top_k"],
            "router_jitter_noise": 0.0,
        }
