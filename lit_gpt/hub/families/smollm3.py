"""SmolLM3: Llama with some layers that have no position encoding."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.layer_types import FULL, LOCAL, read_windows, write_windows
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, NORMS, read_sizes, write_sizes
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import component, tiled
from lit_gpt.hub.rotary import read_rotary, write_rotary
from lit_gpt.nn import NoPosition, SelfAttention, SwiGLU


class SmolLM3Family(Family):
    """Bakouch et al. 2025; layers without positions: Yang et al. 2025 (arXiv 2501.18795)."""

    architecture = "SmolLM3ForCausalLM"
    model_type = "smollm3"
    table = (*ENDS, *NORMS, *ATTENTION, *FEEDFORWARD)

    def read(self, config: HFConfig) -> dict[str, Any]:
        """See `Family.read`."""
        net = read_sizes(config, kv_heads=4, context=32768, tie_embeddings=True)
        depth = net["depth"]
        config.must("hidden_act", "silu")
        period = config.integer("no_rope_layer_interval", 4)
        turned = config.take("no_rope_layers", None) or [int((layer + 1) % period != 0) for layer in range(depth)]
        if not isinstance(turned, list) or len(turned) != depth:
            raise config.refusal("no_rope_layers", turned, f"a list of {depth} times 1 (RoPE) or 0 (none)")
        window = config.optional("sliding_window")
        window = window if config.flag("use_sliding_window", False) else None
        usual = [LOCAL if window is not None and not one else FULL for one in turned]
        kinds = read_windows(config, depth, window, usual)
        bias = config.flag("attention_bias", False)
        attention = [component(SelfAttention, **net["attention"], bias=bias, window=w) for w in kinds]
        feedforward = component(
            SwiGLU, hidden=config.integer("intermediate_size", 11008), bias=config.flag("mlp_bias", False)
        )
        rope = read_rotary(config, net["context"], base=2e6)
        position = tiled([rope if one else component(NoPosition) for one in turned])
        config.finish(ignored=("max_window_layers",))
        return net | {"attention": tiled(attention), "feedforward": feedforward, "position": position}

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        """See `Family.write`."""
        rope = next((one for one in net["position"] if one["class"] == "RoPE"), net["position"][0])
        written = write_sizes(net) | write_windows(net)
        del written["head_dim"]  # transformers' own is always width / heads
        return written | {
            "use_sliding_window": written["sliding_window"] is not None,
            "no_rope_layers": [int(one["class"] == "RoPE") for one in net["position"]],
            "attention_bias": net["attention"][0]["bias"],
            "mlp_bias": net["feedforward"][0]["bias"],
            **write_rotary(rope),
        }
