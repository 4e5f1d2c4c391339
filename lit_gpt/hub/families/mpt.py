"""MPT: ALiBi, no biases."""

from typing import Any

from lit_gpt.hub.families.family import Family, read_sizes, write_sizes
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.weights import QKV, Joined, Same
from lit_gpt.nn import GELU, MLP, ALiBi, LayerNorm, PreNorm, SelfAttention

LAYER = "transformer.blocks.{l}"
SIZES = {
    "vocab_size": "vocab_size",
    "width": "d_model",
    "depth": "n_layers",
    "heads": "n_heads",
    "context": "max_seq_len",
}


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
        Joined([f"{name}.weight" for name in QKV], f"{LAYER}.attn.Wqkv.weight"),
        Same("blocks.{l}.attention.out.weight", f"{LAYER}.attn.out_proj.weight"),
        Same("blocks.{l}.feedforward.up.weight", f"{LAYER}.ffn.up_proj.weight"),
        Same("blocks.{l}.feedforward.down.weight", f"{LAYER}.ffn.down_proj.weight"),
    )
    # learned_pos_emb has no effect beside ALiBi; the others say where and how first weights are drawn.
    ignored = ("learned_pos_emb", "init_device", "init_config", "verbose", "emb_pdrop")

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_sizes(config, SIZES, tie=True, vocab_size=50_368, width=2048, depth=24, heads=16, context=2048)
        config.must("expansion_ratio", 4)
        config.must("no_bias", True)
        config.must("embedding_fraction", 1.0, 1)
        config.must("logit_scale", None)
        config.must("norm_type", "low_precision_layernorm", "layernorm")
        scale = None
        if config.has("attn_config"):
            inner = config.inner("attn_config")
            scale = inner.take("softmax_scale", None)
            inner.must("alibi_bias_max", 8)  # transformers takes 8 whatever it says
            inner.must("alibi", True)
            for name, usual in (("clip_qkv", None), ("prefix_lm", False), ("qk_ln", False)):
                inner.must(name, usual)
            inner.must("attn_type", "multihead_attention")
            inner.must("attn_uses_sequence_id", False)
            inner.finish(ignored=("attn_impl",))
        return net | {
            "attention": component(SelfAttention, scale=scale),
            "feedforward": component(MLP, hidden=4 * net["width"], activation=component(GELU, approximate="none")),
            "norm": component(LayerNorm, eps=config.positive("layer_norm_epsilon", 1e-5)),
            "position": component(ALiBi),
            "block": component(PreNorm),
        }

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        return write_sizes(net, SIZES) | {
            "expansion_ratio": 4,
            "no_bias": True,
            "layer_norm_epsilon": net["norm"]["eps"],
            "attn_config": {"alibi": True, "softmax_scale": net["attention"][0]["scale"]},
        }
