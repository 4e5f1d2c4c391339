"""MPT: ALiBi, no biases anywhere."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.weights import Joined, Same
from lit_gpt.nn import GELU, MLP, ALiBi, LayerNorm, PreNorm, SelfAttention

LAYER = "transformer.blocks.{l}"


class MPTFamily(Family):
    """MosaicML 2023, Introducing MPT-7B."""

    architecture = "MptForCausalLM"
    model_type = "mpt"
    prefix = "transformer."
    table = (
        Same("embedding.weight", "transformer.wte.weight"),
        Same("norm.weight", "transformer.norm_f.weight"),
        Same("head.weight", "lm_head.weight"),
        Same("blocks.{l}.attention_norm.weight", f"{LAYER}.norm_1.weight"),
        Same("blocks.{l}.feedforward_norm.weight", f"{LAYER}.norm_2.weight"),
        Joined(
            [f"blocks.{{l}}.attention.{name}.weight" for name in ("query", "key", "value")], f"{LAYER}.attn.Wqkv.weight"
        ),
        Same("blocks.{l}.attention.out.weight", f"{LAYER}.attn.out_proj.weight"),
        Same("blocks.{l}.feedforward.up.weight", f"{LAYER}.ffn.up_proj.weight"),
        Same("blocks.{l}.feedforward.down.weight", f"{LAYER}.ffn.down_proj.weight"),
    )

    def read(self, config: HFConfig) -> dict[str, Any]:
        """See `Family.read`."""
        width, depth, heads = (
            config.integer(name, usual) for name, usual in (("d_model", 2048), ("n_layers", 24), ("n_heads", 16))
        )
        config.must("expansion_ratio", 4)
        config.must("no_bias", True)
        config.must("embedding_fraction", 1.0, 1)
        config.must("logit_scale", None)
        config.must("norm_type", "low_precision_layernorm", "layernorm")
        scale = None
        if config.has("attn_config"):
            inner = config.inner("attn_config")
            scale = inner.take("softmax_scale", None)
            inner.must("alibi_bias_max", 8)  # transformers takes 8 whatever stands there
            inner.must("alibi", True)
            for name, usual in (("clip_qkv", None), ("prefix_lm", False), ("qk_ln", False)):
                inner.must(name, usual)
            inner.must("attn_type", "multihead_attention")
            inner.must("attn_uses_sequence_id", False)
            inner.finish(ignored=("attn_impl",))
        net = {
            "vocab_size": config.integer("vocab_size", 50_368),
            "width": width,
            "depth": depth,
            "heads": heads,
            "context": config.integer("max_seq_len", 2048),
            "attention": component(SelfAttention, scale=scale),
            "feedforward": component(MLP, hidden=4 * width, activation=component(GELU, approximate="none")),
            "norm": component(LayerNorm, eps=config.positive("layer_norm_epsilon", 1e-5)),
            "position": component(ALiBi),
            "block": component(PreNorm),
            "tie_embeddings": config.flag("tie_word_embeddings", True),
        }
        # learned_pos_emb has no effect beside ALiBi; the others say where and how first weights are drawn.
        config.finish(ignored=("learned_pos_emb", "init_device", "init_config", "verbose", "emb_pdrop"))
        return net

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        return {
            "vocab_size": net["vocab_size"],
            "d_model": net["width"],
            "n_layers": net["depth"],
            "n_heads": net["heads"],
            "max_seq_len": net["context"],
            "expansion_ratio": 4,
            "no_bias": True,
            "layer_norm_epsilon": net["norm"]["eps"],
            "tie_word_embeddings": net["tie_embeddings"],
            "attn_config": {
                "alibi": True,
                "softmax_scale": net["attention"][0]["scale"],
            },
        }
