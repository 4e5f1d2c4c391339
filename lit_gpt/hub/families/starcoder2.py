"""StarCoder2: LayerNorm and MLP with biases, grouped-query attention, RoPE, sliding window."""

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.gpt2 import read_activation, write_activation
from lit_gpt.hub.families.llama import ATTENTION, LAYER, read_backbone, write_llama
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component
from lit_gpt.hub.rotary import read_rotary
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
        *both("blocks.{l}.attention_norm", f"{LAYER}.input_layernorm"),
        *both("blocks.{l}.feedforward_norm", f"{LAYER}.post_attention_layernorm"),
        *ATTENTION,
        *both("blocks.{l}.feedforward.up", f"{LAYER}.mlp.c_fc"),
        *both("blocks.{l}.feedforward.down", f"{LAYER}.mlp.c_proj"),
    )
    ignored = ("attention_softmax_in_fp32", "scale_attention_softmax_in_fp32")

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_backbone(config, kv_heads=2, context=4096, tie=True)
        bias, window = config.flag("use_bias", True), config.optional("sliding_window")
        activation = read_activation(config, "hidden_act", "gelu_pytorch_tanh")
        config.must("mlp_type", "default")
        config.must("norm_type", "layer_norm")
        config.must("scale_attn_weights", True)
        config.must("activation_function", "gelu_pytorch_tanh", "gelu_new")
        hidden = config.integer("intermediate_size")
        return net | {
            "attention": component(SelfAttention, **net["attention"], bias=bias, window=window),
            "feedforward": component(MLP, hidden=hidden, bias=bias, activation=activation),
            "position": read_rotary(config, net["context"]),
            "norm": component(LayerNorm, eps=config.positive("norm_epsilon", 1e-5), bias=True),
        }

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        fields = write_llama(net)
        del fields["rms_norm_eps"], fields["head_dim"]
        return fields | {
            "norm_epsilon": net["norm"]["eps"],
            "use_bias": net["attention"][0]["bias"],
            "hidden_act": write_activation(net["feedforward"][0]["activation"], "gelu_pytorch_tanh"),
            "sliding_window": net["attention"][0]["window"],
        }
