"""GPT-NeoX and Pythia: parallel attention and feed-forward, partial rotary embeddings, fused query-key-value."""

from typing import Any

from lit_gpt.hub.families.family import Family, read_sizes, write_sizes
from lit_gpt.hub.families.gpt2 import read_activation, write_activation
from lit_gpt.hub.families.llama import SIZES
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.rotary import read_rotary, write_context, write_scaled
from lit_gpt.hub.weights import QKV, PerHead, Same, both, fused
from lit_gpt.nn import MLP, LayerNorm, Parallel, PreNorm, SelfAttention

LAYER = "gpt_neox.layers.{l}"


class GPTNeoXFamily(Family):
    """Black et al. 2022 (arXiv 2204.06745), Biderman et al. 2023 (arXiv 2304.01373)."""

    architecture = "GPTNeoXForCausalLM"
    model_type = "gpt_neox"
    prefix = "gpt_neox."
    unused = (r".*rotary_emb\.inv_freq", r".*attention\.bias", r".*attention\.masked_bias")
    table = (
        Same("embedding.weight", "gpt_neox.embed_in.weight"),
        *both("norm", "gpt_neox.final_layer_norm"),
        Same("head.weight", "embed_out.weight"),
        *both("blocks.{l}.attention_norm", f"{LAYER}.input_layernorm"),
        *both("blocks.{l}.feedforward_norm", f"{LAYER}.post_attention_layernorm"),
        *fused(PerHead, QKV, f"{LAYER}.attention.query_key_value"),
        *both("blocks.{l}.attention.out", f"{LAYER}.attention.dense"),
        *both("blocks.{l}.feedforward.up", f"{LAYER}.mlp.dense_h_to_4h"),
        *both("blocks.{l}.feedforward.down", f"{LAYER}.mlp.dense_4h_to_h"),
    )

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_sizes(config, SIZES, tie=False, context=2048)
        hidden, activation = config.integer("intermediate_size"), read_activation(config, "hidden_act", "gelu")
        return net | {
            "attention": component(SelfAttention, bias=config.flag("attention_bias", True)),
            "feedforward": component(MLP, hidden=hidden, bias=True, activation=activation),
            "norm": component(LayerNorm, eps=config.positive("layer_norm_eps", 1e-5), bias=True),
            "position": read_rotary(
                config,
                net["context"],
                base=config.positive("rotary_emb_base", 10_000),
                partial_rotary_factor=config.positive("rotary_pct", 0.25),
                partial=True,
            ),
            "block": component(Parallel if config.flag("use_parallel_residual", True) else PreNorm),
        }

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        position, feedforward = net["position"][0], net["feedforward"][0]
        return write_sizes(net, SIZES) | {
            "max_position_embeddings": write_context(net),
            "intermediate_size": feedforward["hidden"],
            "hidden_act": write_activation(feedforward["activation"]),
            "layer_norm_eps": net["norm"]["eps"],
            "attention_bias": net["attention"][0]["bias"],
            "use_parallel_residual": net["block"][0]["class"] == "Parallel",
            "rotary_emb_base": position["base"],
            "rotary_pct": position["partial_rotary_factor"],
            **write_scaled(position["scaling"]),
        }
