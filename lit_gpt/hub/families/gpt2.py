"""GPT-2: learned positions, LayerNorm with biases, fused query-key-value projection, transposed (Conv1D) weights."""

from typing import Any

from lit_gpt.hub.families.family import Family, read_sizes, write_sizes
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import ComponentConfig, component, tiled
from lit_gpt.hub.weights import QKV, Joined, Same, Transposed, both
from lit_gpt.nn import GELU, MLP, LayerNorm, Learned, PreNorm, ReLU, SelfAttention

LAYER = "transformer.h.{l}"
SIZES = {"vocab_size": "vocab_size", "width": "n_embd", "depth": "n_layer", "heads": "n_head", "context": "n_positions"}
ACTIVATIONS = {"gelu_new": "tanh", "gelu_pytorch_tanh": "tanh", "gelu": "none"}


class GPT2Family(Family):
    """Radford et al. 2019, Language models are unsupervised multitask learners."""

    architecture = "GPT2LMHeadModel"
    model_type = "gpt2"
    prefix = "transformer."
    unused = (r".*attn\.bias", r".*attn\.masked_bias")  # causal masks, of older versions
    table = (
        Same("embedding.weight", "transformer.wte.weight"),
        Same("positions.0.table.weight", "transformer.wpe.weight"),
        *both("norm", "transformer.ln_f"),
        Same("head.weight", "lm_head.weight"),
        *both("blocks.{l}.attention_norm", f"{LAYER}.ln_1"),
        *both("blocks.{l}.feedforward_norm", f"{LAYER}.ln_2"),
        Joined([f"{name}.weight" for name in QKV], f"{LAYER}.attn.c_attn.weight", dim=1),
        Joined([f"{name}.bias" for name in QKV], f"{LAYER}.attn.c_attn.bias"),
        Transposed("blocks.{l}.attention.out.weight", f"{LAYER}.attn.c_proj.weight"),
        Same("blocks.{l}.attention.out.bias", f"{LAYER}.attn.c_proj.bias"),
        Transposed("blocks.{l}.feedforward.up.weight", f"{LAYER}.mlp.c_fc.weight"),
        Same("blocks.{l}.feedforward.up.bias", f"{LAYER}.mlp.c_fc.bias"),
        Transposed("blocks.{l}.feedforward.down.weight", f"{LAYER}.mlp.c_proj.weight"),
        Same("blocks.{l}.feedforward.down.bias", f"{LAYER}.mlp.c_proj.bias"),
    )

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_sizes(config, SIZES, tie=True, context=1024)
        config.must("n_ctx", net["context"])  # an older name for the same
        config.must("reorder_and_upcast_attn", False, True)  # the same numbers, in another order
        usual = (net["width"] // net["heads"]) ** -0.5 if config.flag("scale_attn_weights", True) else 1.0
        by_layer = config.flag("scale_attn_by_inverse_layer_idx", False)
        scales = [usual / (layer + 1) if by_layer else usual for layer in range(net["depth"])]
        hidden = config.optional("n_inner") or 4 * net["width"]
        activation = read_activation(config, "activation_function")
        return net | {
            "attention": tiled([component(SelfAttention, bias=True, scale=scale) for scale in scales]),
            "feedforward": component(MLP, hidden=hidden, bias=True, activation=activation),
            "norm": component(LayerNorm, eps=config.positive("layer_norm_epsilon", 1e-5), bias=True),
            "position": component(Learned),
            "block": component(PreNorm),
        }

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        scales, feedforward = [layer["scale"] for layer in net["attention"]], net["feedforward"][0]
        return write_sizes(net, SIZES) | {
            "n_inner": feedforward["hidden"],
            "activation_function": write_activation(feedforward["activation"]),
            "layer_norm_epsilon": net["norm"]["eps"],
            "scale_attn_weights": scales[0] == (net["width"] // net["heads"]) ** -0.5,
            "scale_attn_by_inverse_layer_idx": len(set(scales)) > 1,
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        }


def read_activation(config: HFConfig, name: str, default: str = "gelu_new") -> ComponentConfig:
    """The activation of an MLP.

    Raises:
        UserError: It is neither GELU nor ReLU.
    """
    value = config.must(name, default, *ACTIVATIONS, "relu")
    return component(ReLU) if value == "relu" else component(GELU, approximate=ACTIVATIONS[value])


def write_activation(activation: dict[str, Any] | None, tanh: str = "gelu_new") -> str:
    """The name of an MLP's activation in config.json.

    For an activation without a name, as of SwiGLU, it is a known one: reading it again then shows the difference.

    Args:
        activation: As in `net_config.layers`.
        tanh: The family's name of GELU's tanh approximation.
    """
    if activation is None or activation["class"] not in ("GELU", "ReLU"):
        return tanh
    return "relu" if activation["class"] == "ReLU" else {"tanh": tanh, "none": "gelu"}[activation["approximate"]]
