"""SmolLM3: Llama with some layers that have no position encoding."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.layer_types import FULL, LOCAL, read_windows, write_windows
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD, NORMS, read_sizes, write_sizes
from lit_gpt.hub.fields import Fields
from lit_gpt.hub.plan import part, tiled
from lit_gpt.hub.rotary import read_rotary, write_rotary
from lit_gpt.nn import NoPosition, SelfAttention, SwiGLU


class SmolLM3(Family):
    """Bakouch et al. 2025; layers without positions: Yang et al. 2025 (arXiv 2501.18795)."""

    architecture = "SmolLM3ForCausalLM"
    model_type = "smollm3"
    table = (*ENDS, *NORMS, *ATTENTION, *FEEDFORWARD)

    def read(self, fields: Fields) -> dict[str, Any]:
        """See `Family.read`."""
        net = read_sizes(fields, kv_heads=4, context=32768, tie=True)
        depth = net["depth"]
        fields.must("hidden_act", "silu")
        period = fields.integer("no_rope_layer_interval", 4)
        turned = fields.take("no_rope_layers", None) or [int((layer + 1) % period != 0) for layer in range(depth)]
        if not isinstance(turned, list) or len(turned) != depth:
            raise fields.refusal("no_rope_layers", turned, f"a list of {depth} times 1 (RoPE) or 0 (none)")
        window = fields.optional("sliding_window")
        window = window if fields.flag("use_sliding_window", False) else None
        usual = [LOCAL if window is not None and not one else FULL for one in turned]
        kinds = read_windows(fields, depth, window, usual)
        bias = fields.flag("attention_bias", False)
        attention = [part(SelfAttention, **net["attention"], bias=bias, window=w) for w in kinds]
        feedforward = part(
            SwiGLU, hidden=fields.integer("intermediate_size", 11008), bias=fields.flag("mlp_bias", False)
        )
        rope = read_rotary(fields, net["context"], base=2e6)
        position = tiled([rope if one else part(NoPosition) for one in turned])
        fields.finish(ignored=("max_window_layers",))
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
