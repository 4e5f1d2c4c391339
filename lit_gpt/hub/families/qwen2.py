"""Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and sliding windows in the upper layers."""

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.layer_types import (
    FULL,
    LOCAL,
    read_optional_window,
    read_windows,
    windowed_attention,
    write_windows,
)
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, NORMS, read_llama, write_llama
from lit_gpt.hub.hf_config import HFConfig


class Qwen2Family(Family):
    """Yang et al. 2024 (arXiv 2407.10671)."""

    architecture = "Qwen2ForCausalLM"
    model_type = "qwen2"
    table = (*ENDS, *NORMS, *ATTENTION, *FEEDFORWARD)

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_llama(config, kv_heads=32, context=32768)
        windows = read_upper_windows(config, net["depth"])
        return net | {"attention": windowed_attention(windows, **net["attention"], bias=True, out_bias=False)}

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        return write_llama(net) | write_upper_windows(net)


def read_upper_windows(config: HFConfig, depth: int) -> list[int | None]:
    """The window of each layer: from max_window_layers on, or as layer_types says; none without use_sliding_window."""
    window = read_optional_window(config, 4096)
    first = config.take("max_window_layers", 28)
    if window is not None and (isinstance(first, bool) or not isinstance(first, int)):
        raise config.refusal("max_window_layers", first, "a whole number")
    usual = [LOCAL if window is not None and layer >= first else FULL for layer in range(depth)]
    return read_windows(config, depth, window, usual)


def write_upper_windows(net: dict[str, Any]) -> dict[str, Any]:
    """The fields that `read_upper_windows` reads."""
    fields = write_windows(net)
    first = fields["layer_types"].index(LOCAL) if LOCAL in fields["layer_types"] else net["depth"]
    return fields | {"use_sliding_window": fields["sliding_window"] is not None, "max_window_layers": first}
