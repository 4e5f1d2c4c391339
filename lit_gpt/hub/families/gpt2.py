"""GPT-2: learned positions, LayerNorm with biases, one fused matrix for queries, keys and values, stored transposed."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import ComponentConfig, component, tiled
from lit_gpt.hub.weights import Joined, Same, Transposed, both
from lit_gpt.nn import GELU, MLP, LayerNorm, Learned, PreNorm, ReLU, SelfAttention

LAYER = "transformer.h.{l}"
QKV = [f"blocks.{{l}}.attention.{name}" for name in ("query", "key", "value")]
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

    def read(self, config: HFConfig) -> dict[str, Any]:
        """See `Family.read`."""
        width, depth, heads = (config.integer(name) for name in ("n_embd", "n_layer", "n_head"))
        context = config.integer("n_positions", 1024)
        config.must("n_ctx", context)  # an older name for the same
        config.must("reorder_and_upcast_attn", False, True)  # the same numbers, in another order
        usual = (width // heads) ** -0.5 if config.flag("scale_attn_weights", True) else 1.0
        by_layer = config.flag("scale_attn_by_inverse_layer_idx", False)
        scales = [usual / (layer + 1) if by_layer else usual for layer in range(depth)]
        hidden = config.optional("n_inner") or 4 * width
        net = {
            "vocab_size": config.integer("vocab_size"),
            "width": width,
            "depth": depth,
            "heads": heads,
            "context": context,
            "attention": tiled([component(SelfAttention, bias=True, scale=scale) for scale in scales]),
            "feedforward": component(
                MLP, hidden=hidden, bias=True, activation=read_activation(config, "activation_function")
            ),
            "norm": component(LayerNorm, eps=config.positive("layer_norm_epsilon", 1e-5), bias=True),
            "position": component(Learned),
            "block": component(PreNorm),
            "tie_embeddings": config.flag("tie_word_embeddings", True),
        }
        config.finish()
        return net

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        attention, feedforward = net["attention"], net["feedforward"][0]
        usual = (net["width"] // net["heads"]) ** -0.5
        first = attention[0]["scale"]
        return {
            "vocab_size": net["vocab_size"],
            "n_embd": net["width"],
            "n_layer": net["depth"],
            "n_head": net["heads"],
            "n_positions": net["context"],
            "n_inner": feedforward["hidden"],
            "activation_function": write_activation(feedforward["activation"]),
            "layer_norm_epsilon": net["norm"]["eps"],
            "scale_attn_weights": first == usual,
            "scale_attn_by_inverse_layer_idx": len({one["scale"] for one in attention}) > 1,
            "tie_word_embeddings": net["tie_embeddings"],
            "attn_pdrop": 0.0,
            "embd_pdrop": 0.0,
            "resid_pdrop": 0.0,
        }


def read_activation(config: HFConfig, name: str, default: str = "gelu_new") -> ComponentConfig:
    """The non-linearity of an MLP.

    Raises:
        UserError: It is none of ours.
    """
    value = config.must(name, default, *ACTIVATIONS, "relu")
    return component(ReLU) if value == "relu" else component(GELU, approximate=ACTIVATIONS[value])


def write_activation(activation: dict[str, Any] | None, tanh: str = "gelu_new") -> str:
    """The name of an MLP's non-linearity in config.json.

    Where there is none, as of SwiGLU, it is one that can be read again: the net then differs in what stands in the way.

    Args:
        activation: As in `lit_gpt.hub.net_config.layers`.
        tanh: Which of its names the approximation has in a family.
    """
    if activation is None or activation["class"] not in ("GELU", "ReLU"):
        return tanh
    return "relu" if activation["class"] == "ReLU" else {"tanh": tanh, "none": "gelu"}[activation["approximate"]]
