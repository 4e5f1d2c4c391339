"""SmolLM3: Llama with NoPE layers, which have no position encoding."""

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
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, NORMS, read_llama, write_backbone
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component, tiled
from lit_gpt.hub.rotary import write_rotary
from lit_gpt.nn import NoPosition


class SmolLM3Family(Family):
    """Bakouch et al. 2025; layers without positions: Yang et al. 2025 (arXiv 2501.18795)."""

    architecture = "SmolLM3ForCausalLM"
    model_type = "smollm3"
    table = (*ENDS, *NORMS, *ATTENTION, *FEEDFORWARD)
    ignored = ("max_window_layers",)

    def parse(self, config: HFConfig) -> dict[str, Any]:
        mlp_bias = config.flag("mlp_bias", False)
        net = read_llama(config, base=2e6, hidden=11008, mlp_bias=mlp_bias, kv_heads=4, context=32768, tie=True)
        depth, period = net["depth"], config.integer("no_rope_layer_interval", 4)
        rotary = config.take("no_rope_layers", None) or [int((layer + 1) % period != 0) for layer in range(depth)]
        if not isinstance(rotary, list) or len(rotary) != depth:
            raise config.refusal("no_rope_layers", rotary, f"a list of {depth} times 1 (RoPE) or 0 (none)")
        window = read_optional_window(config)
        usual = [LOCAL if window is not None and not one else FULL for one in rotary]
        windows, bias = read_windows(config, depth, window, usual), config.flag("attention_bias", False)
        return net | {
            "attention": windowed_attention(windows, **net["attention"], bias=bias),
            "position": tiled([net["position"] if one else component(NoPosition) for one in rotary]),
        }

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        rope = next((layer for layer in net["position"] if layer["class"] == "RoPE"), net["position"][0])
        fields = write_backbone(net) | write_windows(net) | write_rotary(rope)
        del fields["head_dim"]  # in transformers always width / heads
        return fields | {
            "use_sliding_window": fields["sliding_window"] is not None,
            "no_rope_layers": [int(layer["class"] == "RoPE") for layer in net["position"]],
            "attention_bias": net["attention"][0]["bias"],
            "mlp_bias": net["feedforward"][0]["bias"],
        }
