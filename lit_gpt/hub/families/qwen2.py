"""Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and windows in the upper layers."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.layer_types import FULL, LOCAL, read_windows, write_windows
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, NORMS, read_sizes, write_sizes
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component, tiled
from lit_gpt.hub.rotary import read_rotary, write_rotary
from lit_gpt.nn import SelfAttention, SwiGLU


class Qwen2Family(Family):
    """Yang et al. 2024 (arXiv 2407.10671)."""

    architecture = "Qwen2ForCausalLM"
    model_type = "qwen2"
    table = (*ENDS, *NORMS, *ATTENTION, *FEEDFORWARD)

    def read(self, config: HFConfig) -> dict[str, Any]:
        """See `Family.read`."""
        net = read_sizes(config, kv_heads=32, context=32768)
        config.must("hidden_act", "silu")
        windows = read_upper_windows(config, net["depth"])
        attention = [component(SelfAttention, **net["attention"], bias=True, out_bias=False, window=w) for w in windows]
        feedforward = component(SwiGLU, hidden=config.integer("intermediate_size"))
        position = read_rotary(config, net["context"])
        config.finish()
        return net | {"attention": tiled(attention), "feedforward": feedforward, "position": position}

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        return write_sizes(net) | write_upper_windows(net) | write_rotary(net["position"][0])


def read_upper_windows(config: HFConfig, depth: int) -> list[int | None]:
    """The window of each layer: from max_window_layers on, or as layer_types says; none unless they are switched on."""
    window = config.optional("sliding_window", 4096)
    window = window if config.flag("use_sliding_window", False) else None
    first = config.take("max_window_layers", 28)
    if window is not None and (isinstance(first, bool) or not isinstance(first, int)):
        raise config.refusal("max_window_layers", first, "a whole number")
    usual = [LOCAL if window is not None and layer >= first else FULL for layer in range(depth)]
    return read_windows(config, depth, window, usual)


def write_upper_windows(net: dict[str, Any]) -> dict[str, Any]:
    """The fields that `read_upper_windows` looks at."""
    written = write_windows(net)
    first = written["layer_types"].index(LOCAL) if LOCAL in written["layer_types"] else net["depth"]
    return written | {"use_sliding_window": written["sliding_window"] is not None, "max_window_layers": first}
