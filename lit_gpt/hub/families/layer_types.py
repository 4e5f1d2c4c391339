"""Sliding windows by layer in config.json: layer_types, sliding_window and use_sliding_window. Not a family."""

from typing import Any

from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import ComponentConfig, component, tiled
from lit_gpt.nn import SelfAttention

LOCAL, FULL = "sliding_attention", "full_attention"


def read_windows(config: HFConfig, depth: int, window: int | None, default: list[str]) -> list[int | None]:
    """The window of each layer from ``layer_types``.

    Args:
        config: The whole config.json.
        depth: Number of layers.
        window: Window of the layers that have one.
        default: Default of layer_types.

    Raises:
        UserError: An unknown layer type, or another number of layers.
    """
    kinds = config.take("layer_types", None) or default
    if not isinstance(kinds, list) or len(kinds) != depth or not set(kinds) <= {LOCAL, FULL}:
        raise config.refusal("layer_types", kinds, f"a list of {depth} times {LOCAL} or {FULL}")
    if window is None and LOCAL in kinds:
        raise config.refusal("sliding_window", window, f"a number, as layer_types names {LOCAL}")
    return [window if kind == LOCAL else None for kind in kinds]


def read_optional_window(config: HFConfig, default: int | None = None) -> int | None:
    """``sliding_window`` where ``use_sliding_window`` is true, else None."""
    window = config.optional("sliding_window", default)
    return window if config.flag("use_sliding_window", False) else None


def windowed_attention(windows: list[int | None], **arguments: Any) -> ComponentConfig | list[ComponentConfig]:
    """SelfAttention of each layer, equal but for the window."""
    return tiled([component(SelfAttention, **arguments, window=window) for window in windows])


def write_windows(net: dict[str, Any]) -> dict[str, Any]:
    """``layer_types`` and ``sliding_window`` of a net's layers."""
    windows = [attention["window"] for attention in net["attention"]]
    window = next((window for window in windows if window is not None), None)
    return {"layer_types": [FULL if window is None else LOCAL for window in windows], "sliding_window": window}
