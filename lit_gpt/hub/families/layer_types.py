"""Which layers look back over a window only, as config.json says it layer by layer. No family itself."""

from __future__ import annotations

from typing import Any

from lit_gpt.hub.hf_config import HFConfig

LOCAL, FULL = "sliding_attention", "full_attention"


def read_windows(config: HFConfig, depth: int, window: int | None, default: list[str]) -> list[int | None]:
    """The window of each layer from ``layer_types``.

    Args:
        config: The whole config.json.
        depth: Layers.
        window: That of the layers which have one.
        default: What missing layer_types mean.

    Raises:
        UserError: A kind of layer that is not understood, or another number of layers.
    """
    kinds = config.take("layer_types", None) or default
    if not isinstance(kinds, list) or len(kinds) != depth or not set(kinds) <= {LOCAL, FULL}:
        raise config.refusal("layer_types", kinds, f"a list of {depth} times {LOCAL} or {FULL}")
    if window is None and LOCAL in kinds:
        raise config.refusal("sliding_window", window, f"a number, as layer_types names {LOCAL}")
    return [window if kind == LOCAL else None for kind in kinds]


def write_windows(net: dict[str, Any]) -> dict[str, Any]:
    """``layer_types`` and ``sliding_window`` of a net's layers."""
    windows = [one["window"] for one in net["attention"]]
    given = next((window for window in windows if window is not None), None)
    return {"layer_types": [FULL if window is None else LOCAL for window in windows], "sliding_window": given}
