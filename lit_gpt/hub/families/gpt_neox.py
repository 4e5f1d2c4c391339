"""GPT-NeoX and Pythia: attention and feed-forward side by side, a quarter of each head turned, fused matrices."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.gpt2 import read_activation, write_activation
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.rotary import read_rotary, write_context, write_scaled
from lit_gpt.hub.weights import PerHead, Same, both, fused
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
        *fused(
            PerHead,
            [f"blocks.{{l}}.attention.{name}" for name in ("query", "key", "value")],
            f"{LAYER}.attention.query_key_value",
        ),
        *both("blocks.{l}.attention.out", f"{LAYER}.attention.dense"),
        *both("blocks.{l}.feedforward.up", f"{LAYER}.mlp.dense_h_to_4h"),
        *both("blocks.{l}.feedforward.down", f"{LAYER}.mlp.dense_4h_to_h"),
    )

    def read(self, config: HFConfig) -> dict[str, Any]:
        """See `Family.read`."""
        context = config.integer("max_position_embeddings", 2048)
        parallel = config.flag("use_parallel_residual", True)
        position = read_rotary(
            config,
            context,
            base=config.positive("rotary_emb_base", 10_000),
            partial_rotary_factor=config.positive("rotary_pct", 0.25),
            partial=True,
        )
        net = {
            "vocab_size": config.integer("vocab_size"),
            "width": config.integer("hidden_size"),
            "depth": config.integer("num_hidden_layers"),
            "heads": config.integer("num_attention_heads"),
            "context": context,
            "attention": component(SelfAttention, bias=config.flag("attention_bias", True)),
            "feedforward": component(
                MLP,
                hidden=config.integer("intermediate_size"),
                bias=True,
                activation=read_activation(config, "hidden_act", "gelu"),
            ),
            "norm": component(LayerNorm, eps=config.positive("layer_norm_eps", 1e-5), bias=True),
            "position": position,
            "block": component(Parallel) if parallel else component(PreNorm),
            "tie_embeddings": config.flag("tie_word_embeddings", False),
        }
        config.finish()
        return net

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        position = net["position"][0]
        return {
            "vocab_size": net["vocab_size"],
            "hidden_size": net["width"],
            "num_hidden_layers": net["depth"],
            "num_attention_heads": net["heads"],
            "max_position_embeddings": write_context(net),
            "intermediate_size": net["feedforward"][0]["hidden"],
            "hidden_act": write_activation(net["feedforward"][0]["activation"]),
            "layer_norm_eps": net["norm"]["eps"],
            "attention_bias": net["attention"][0]["bias"],
            "use_parallel_residual": net["block"][0]["class"] == "Parallel",
            "tie_word_embeddings": net["tie_embeddings"],
            "rotary_emb_base": position["base"],
            "rotary_pct": position["partial_rotary_factor"],
            **write_scaled(position["scaling"]),
        }
