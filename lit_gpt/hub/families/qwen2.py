"""Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and windows in the upper layers."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.layer_types import FULL, LOCAL, read_windows, write_windows
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, NORMS, read_sizes, write_sizes
from lit_gpt.hub.fields import Fields
from lit_gpt.hub.plan import part, tiled
from lit_gpt.hub.rotary import read_rotary, write_rotary
from lit_gpt.nn import SelfAttention, SwiGLU


class Qwen2(Family):
    """Yang et al. 2024 (arXiv 2407.10671)."""

    architecture = "Qwen2ForCausalLM"
    model_type = "qwen2"
    table = (*ENDS, *NORMS, *ATTENTION, *FEEDFORWARD)

    def read(self, fields: Fields) -> dict[str, Any]:
        """See `Family.read`."""
        net = read_sizes(fields, kv_heads=32, context=32768)
        fields.must("hidden_act", "silu")
        windows = read_upper_windows(fields, net["depth"])
        attention = [part(SelfAttention, **net["attention"], bias=True, out_bias=False, window=w) for w in windows]
        feedforward = part(SwiGLU, hidden=fields.integer("intermediate_size"))
        position = read_rotary(fields, net["context"])
        fields.finish()
        return net | {"attention": tiled(attention), "feedforward": feedforward, "position": position}

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        return write_sizes(net) | write_upper_windows(net) | write_rotary(net["position"][0])


def read_upper_windows(fields: Fields, depth: int) -> list[int | None]:
    """The window of each layer: from max_window_layers on, or as layer_types says; none unless they are switched on."""
    window = fields.optional("sliding_window", 4096)
    window = window if fields.flag("use_sliding_window", False) else None
    first = fields.take("max_window_layers", 28)
    if window is not None and (isinstance(first, bool) or not isinstance(first, int)):
        raise fields.refusal("max_window_layers", first, "a whole number")
    usual = [LOCAL if window is not None and layer >= first else FULL for layer in range(depth)]
    return read_windows(fields, depth, window, usual)


def write_upper_windows(net: dict[str, Any]) -> dict[str, Any]:
    """The fields that `read_upper_windows` looks at."""
    written = write_windows(net)
    first = written["layer_types"].index(LOCAL) if LOCAL in written["layer_types"] else net["depth"]
    return written | {"use_sliding_window": written["sliding_window"] is not None, "max_window_layers": first}
