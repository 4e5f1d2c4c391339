"""BLOOM: ALiBi, a LayerNorm after the embedding, query-key-value fused head by head."""

from typing import Any

from lit_gpt.hub.families.family import Family, write_sizes
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.weights import QKV, PerHead, Same, both, fused
from lit_gpt.nn import GELU, MLP, ALiBi, LayerNorm, PreNorm, SelfAttention

LAYER = "transformer.h.{l}"
SIZES = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "depth": "n_layer",
    "heads": "n_head",
    "context": "seq_length",
}


class BloomFamily(Family):
    """BigScience 2022 (arXiv 2211.05100)."""

    architecture = "BloomForCausalLM"
    model_type = "bloom"
    prefix = "transformer."
    table = (
        Same("embedding.weight", "transformer.word_embeddings.weight"),
        *both("embedding_norm", "transformer.word_embeddings_layernorm"),
        *both("norm", "transformer.ln_f"),
        Same("head.weight", "lm_head.weight"),
        *both("blocks.{l}.attention_norm", f"{LAYER}.input_layernorm"),
        *both("blocks.{l}.feedforward_norm", f"{LAYER}.post_attention_layernorm"),
        *fused(PerHead, QKV, f"{LAYER}.self_attention.query_key_value"),
        *both("blocks.{l}.attention.out", f"{LAYER}.self_attention.dense"),
        *both("blocks.{l}.feedforward.up", f"{LAYER}.mlp.dense_h_to_4h"),
        *both("blocks.{l}.feedforward.down", f"{LAYER}.mlp.dense_4h_to_h"),
    )
    # How the numbers are computed, on how many devices, not which numbers.
    ignored = (
        "slow_but_exact", "attention_softmax_in_fp32", "masked_softmax_fusion", "bias_dropout_fusion",
        "skip_bias_add", "skip_bias_add_qkv", "offset_alibi",
    )  # fmt: skip

    def parse(self, config: HFConfig) -> dict[str, Any]:
        width = config.either("n_embed", "hidden_size", default=64)
        config.must("apply_residual_connection_post_layernorm", False)
        config.must("n_inner", None, 4 * width)
        return {
            "vocab_size": config.integer("vocab_size", 250_880),
            "width": width,
            "depth": config.either("n_layer", "num_hidden_layers", default=2),
            "heads": config.either("n_head", "num_attention_heads", default=8),
            "context": config.integer("seq_length", 2048),  # ALiBi has no longest length
            "attention": component(SelfAttention, bias=True),
            "feedforward": component(MLP, hidden=4 * width, bias=True, activation=component(GELU, approximate="tanh")),
            "norm": component(LayerNorm, eps=config.positive("layer_norm_epsilon", 1e-5), bias=True),
            "position": component(ALiBi),
            "block": component(PreNorm),
            "embedding_norm": True,
            "tie_embeddings": config.flag("tie_word_embeddings", True),
        }

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        return write_sizes(net, SIZES) | {
            "layer_norm_epsilon": net["norm"]["eps"],
            "apply_residual_connection_post_layernorm": False,
            "attention_dropout": 0.0,
            "hidden_dropout": 0.0,
        }
