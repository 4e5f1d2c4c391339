"""Gemma 3 text models: QK-norm, five sliding-window layers to one global layer, each kind with its own RoPE."""

from typing import Any

from lit_gpt.hub.families.family import Family
from lit_gpt.hub.families.gemma2 import NORMS, read_gemma, write_gemma
from lit_gpt.hub.families.layer_types import FULL, LOCAL, read_windows, windowed_attention
from lit_gpt.hub.families.llama import ATTENTION, ENDS, FEEDFORWARD
from lit_gpt.hub.families.qwen3 import QK_NORMS
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import ComponentConfig, tiled
from lit_gpt.hub.rotary import read_one, write_scaled

GLOBAL_BASE, LOCAL_BASE = 1e6, 1e4


class Gemma3Family(Family):
    """Gemma team 2025 (arXiv 2503.19786)."""

    architecture = "Gemma3ForCausalLM"
    model_type = "gemma3_text"
    table = (*ENDS, *NORMS, *ATTENTION, *QK_NORMS, *FEEDFORWARD)

    def parse(self, config: HFConfig) -> dict[str, Any]:
        net = read_gemma(config, context=131_072)
        config.must("attn_logit_softcapping", None)
        period = config.integer("sliding_window_pattern", 6)
        usual = [LOCAL if (layer + 1) % period else FULL for layer in range(net["depth"])]
        windows = read_windows(config, net["depth"], config.optional("sliding_window", 4096), usual)
        near, far = _read_positions(config, net["context"])
        return net | {
            "logit_softcap": config.bound("final_logit_softcapping", None),
            "attention": windowed_attention(windows, **net["attention"], qk_norm=net["norm"]),
            "position": tiled([far if window is None else near for window in windows]),
        }

    def write(self, net: dict[str, Any]) -> dict[str, Any]:
        layers = list(zip(net["attention"], net["position"], strict=True))
        near = next((position for attention, position in layers if attention["window"] is not None), None)
        far = next((position for attention, position in layers if attention["window"] is None), None)
        return write_gemma(net) | {
            "final_logit_softcapping": net["logit_softcap"],
            "attn_logit_softcapping": None,
            # In transformers 4 the sliding-window layers have no scaling; one that is lost here shows when read again.
            "rope_local_base_freq": LOCAL_BASE if near is None else near["base"],
            "rope_theta": GLOBAL_BASE if far is None else far["base"],
            **write_scaled(None if far is None else far["scaling"]),
        }


def _read_positions(config: HFConfig, context: int) -> tuple[ComponentConfig, ComponentConfig]:
    """RoPE of the sliding-window layers and of the global ones: older configs scale the latter alone."""
    names = ("rope_local_base_freq", "rope_theta")
    near, outside = ({"rope_theta": config.take(name, None)} if config.has(name) else {} for name in names)
    bases = [config.positive(name, base) for name, base in zip(names, (LOCAL_BASE, GLOBAL_BASE), strict=True)]
    outside["original_max_position_embeddings"] = config.optional("original_max_position_embeddings")
    both = config.take("rope_parameters", None) or {}
    scaling = config.take("rope_scaling", None)
    if not isinstance(scaling, dict | None):
        raise config.refusal("rope_scaling", scaling, "an object")
    if not isinstance(both, dict) or set(both) - {LOCAL, FULL}:
        raise config.refusal("rope_parameters", both, f"an object for {LOCAL} and one for {FULL}")
    far = {**(both.get(FULL) or {}), **(scaling or {})}
    return (
        read_one(both.get(LOCAL), config.where, context, bases[0], near),
        read_one(far, config.where, context, bases[1], outside),
    )
