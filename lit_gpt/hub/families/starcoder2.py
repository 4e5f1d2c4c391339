"""StarCoder2: LayerNorm and MLP with biases, grouped heads, rotary positions, a window."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.gpt2 import read_activation, write_activation
from lit_gpt.hub.families.llama import ATTENTION, read_sizes, write_sizes
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.rotary import read_rotary, write_rotary
from lit_gpt.hub.weights import Same, both
from lit_gpt.nn import MLP, LayerNorm, SelfAttention


class StarCoder2Family(Family):
    """Lozhkov et al. 2024 (arXiv 2402.19173)."""

    architecture = "Starcoder2ForCausalLM"
    model_type = "starcoder2"
    table = (
        Same("embedding.weight", "model.embed_tokens.weight"),
        *both("norm", "model.norm"),
        Same("head.weight", "lm_head.weight"),
        *both("blocks.{l}.attention_norm", "model.layers.{l}.input_layernorm"),
        *both("blocks.{l}.feedforward_norm", "model.layers.{l}.post_attention_layernorm"),
        *ATTENTION,
        *both("blocks.{l}.feedforward.up", "model.layers.{l}.mlp.c_fc"),
        *both("blocks.{l}.feedforward.down", "model.layers.{l}.mlp.c_proj"),
    )

    def read(self, config: HFConfig) -> dict[str, Any]:
        """See `Family.read`."""
        net = read_sizes(config, kv_heads=2, context=4096, tie_embeddings=True)
        bias = config.flag("use_bias", True)
        attention = component(SelfAttention, **net["attention"], bias=bias, window=config.optional("sliding_window"))
        activation = read_activation(config, "hidden_act", "gelu_pytorch_tanh")
        feedforward = component(MLP, hidden=config.integer("intermediate_size"), bias=bias, activation=activation)
        norm = component(LayerNorm, eps=config.positive("norm_epsilon", 1e-5), bias=True)
        position = read_rotary(config, net["context"])
        config.must("mlp_type", "default")
        config.must("norm_type", "layer_norm")
        config.must("scale_attn_weights", True)
        config.must("activation_function", "gelu_pytorch_tanh", "gelu_new")
        config.finish(ignored=("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32"))
        return net | {"attention": attention, "feedforward": feedforward, "position": position, "norm": norm}

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        written = write_sizes(net)
        del written["rms_norm_eps"], written["head_dim"]
        return written | {
            "norm_epsilon": net["norm"]["eps"],
            "use_bias": net["attention"][0]["bias"],
            "hidden_act": write_activation(net["feedforward"][0]["activation"], "gelu_pytorch_tanh"),
            "sliding_window": net["attention"][0]["window"],
            **write_rotary(net["position"][0]),
        }
