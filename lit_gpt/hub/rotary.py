"""RoPE and its scaling in config.json: rope_theta, rope_scaling (transformers 4) and rope_parameters (5).

Both are read; what is written means the same to both.
"""

import math
from typing import Any

from lit_gpt.errors import UserError
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.net_config import ComponentConfig, component
from lit_gpt.nn import DynamicNTK, LinearScaling, Llama3Scaling, LongRoPE, RoPE, YaRN

THETA = 10_000.0


def read_rotary(
    config: HFConfig,
    context: int,
    base: float = THETA,
    partial_rotary_factor: float = 1.0,
    partial: bool = False,
    original: int | None = None,
    renamed: dict[str, str] | None = None,
) -> ComponentConfig:
    """RoPE from all fields of a config.json that describe it.

    Args:
        config: The whole config.json.
        context: Its max_position_embeddings.
        base: Default of rope_theta.
        partial_rotary_factor: Default of partial_rotary_factor.
        partial: Whether the family supports partial rotary embeddings.
        original: Default of original_max_position_embeddings; None for max_position_embeddings.
        renamed: Older names of rope types.

    Raises:
        UserError: An unknown kind of scaling or field of one, or two fields contradict each other.
    """
    said = {name: config.take(name, None) for name in OUTER if config.has(name)}
    base = config.positive("rope_theta", base)
    partial_rotary_factor = config.positive("partial_rotary_factor", partial_rotary_factor) if partial else 1.0
    original = config.optional("original_max_position_embeddings", original)
    older, newer = config.take("rope_scaling", None), config.take("rope_parameters", None)
    given = older or newer
    if not given:
        return component(RoPE, base=base, partial_rotary_factor=partial_rotary_factor)
    if isinstance(older, dict) and isinstance(newer, dict) and older and newer:
        _agree(config.where, "rope_parameters", newer, "rope_scaling", said | older)
    kind = _kind(given) if isinstance(given, dict) else None
    given = {**given, "rope_type": (renamed or {}).get(kind, kind)} if isinstance(kind, str) else given
    if isinstance(given, dict):
        scaled = kind in ("llama3", "yarn", "longrope")  # the others do not use the original length
        outer = {name: value for name, value in said.items() if scaled or name != OUTER[-1]}
        _agree(config.where, "rope_scaling" if older else "rope_parameters", given, "the config itself", outer, False)
    return _read(_object(given, config.where), context, base, partial_rotary_factor, partial, original)


OUTER = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")  # beside the object or in it


def _kind(given: dict[str, Any]) -> Any:
    return given.get("rope_type", given.get("type", "default"))


def _agree(
    where: str, name: str, one: dict[str, Any], other_name: str, other: dict[str, Any], whole: bool = True
) -> None:
    """Check that two places agree: versions of transformers differ in which of them counts.

    Args:
        where: The file.
        name: Name of the first place.
        one: Its fields.
        other_name: Name of the second place.
        other: Its fields.
        whole: Whether a field that only one of them has is a contradiction, too.

    Raises:
        UserError: They contradict each other.
    """
    sides = [
        {key: value for key, value in side.items() if value is not None and key not in ("type", "rope_type")}
        | ({"rope_type": _kind(side)} if whole else {})
        for side in (one, other)
    ]
    keys = sides[0].keys() | sides[1].keys() if whole else sides[0].keys() & sides[1].keys()
    for key in sorted(keys):
        a, b = (side.get(key) for side in sides)
        if a != b:
            raise UserError(
                f"{where} contradicts itself: {key} is {a!r} in {name} and {b!r} in {other_name}; keep the right one"
            )


def read_one(given: Any, where: str, context: int, base: float, outer: dict[str, Any]) -> ComponentConfig:
    """RoPE from one object of rope parameters, of which some configs hold one for each layer type.

    Args:
        given: The object, or null.
        where: The file.
        context: Its max_position_embeddings.
        base: Default of rope_theta.
        outer: Fields outside of the object that repeat it; null for none.

    Raises:
        UserError: As `read_rotary`.
    """
    rope = _object(given or {}, where)
    _agree(where, "rope_parameters", given or {}, "the config itself", outer, False)
    return _read(rope, context, base, 1.0, False, outer.get(OUTER[-1]))


def _object(given: Any, where: str) -> HFConfig:
    if not isinstance(given, dict):
        raise UserError(f"{where}: rope_scaling must be an object, got {given!r}")
    return HFConfig(given, f"{where}, rotary positions")


def _read(
    rope: HFConfig, context: int, base: float, partial_rotary_factor: float, partial: bool, original: Any
) -> ComponentConfig:
    base = rope.positive("rope_theta", base)
    partial_rotary_factor = rope.positive("partial_rotary_factor", partial_rotary_factor)
    if partial_rotary_factor != 1 and not partial:
        raise rope.refusal("partial_rotary_factor", partial_rotary_factor, "1")
    kind = rope.take("rope_type", rope.take("type", "default"))
    if original is None:
        original = rope.optional("original_max_position_embeddings") or context
    scaling: ComponentConfig | None = None
    if kind == "linear":
        scaling = component(LinearScaling, factor=rope.number("factor"))
    elif kind == "dynamic":
        # transformers counts from max_position_embeddings, whatever original_max_position_embeddings says
        scaling = component(DynamicNTK, factor=rope.number("factor"), original_context=context)
    elif kind == "llama3":
        numbers = {name: rope.number(name) for name in ("factor", "low_freq_factor", "high_freq_factor")}
        scaling = component(Llama3Scaling, **numbers, original_context=original)
    elif kind == "yarn":
        given = {name: rope.maybe(name) for name in ("factor", "attention_factor", "mscale", "mscale_all_dim")}
        given["factor"] = given["factor"] or context / original
        if not (given["mscale"] and given["mscale_all_dim"]):  # transformers uses them only where it has both
            given["mscale"] = given["mscale_all_dim"] = None
        given |= {name: rope.maybe(name) or default for name, default in (("beta_fast", 32.0), ("beta_slow", 1.0))}
        scaling = component(YaRN, **given, original_context=original, truncate=rope.flag("truncate", True))
    elif kind == "longrope":
        factors = {name: rope.numbers(name) for name in ("short_factor", "long_factor")}
        factor = rope.maybe("factor") or context / original
        gain = rope.maybe("attention_factor")
        if not gain and original == 1:
            raise rope.refusal("original_max_position_embeddings", original, "a length above 1")
        gain = gain or longrope_gain(factor, original)
        scaling = component(LongRoPE, **factors, original_context=original, attention_factor=gain)
    elif kind != "default":
        raise rope.refusal("rope_type", kind, "default, linear, dynamic, llama3, yarn or longrope")
    rope.take("original_max_position_embeddings", None)
    rope.finish(ignored=("type", "finetuned"))
    return component(RoPE, base=base, partial_rotary_factor=partial_rotary_factor, scaling=scaling)


_KINDS = {
    "LinearScaling": "linear",
    "DynamicNTK": "dynamic",
    "Llama3Scaling": "llama3",
    "YaRN": "yarn",
    "LongRoPE": "longrope",
}


def longrope_gain(factor: float, original: int) -> float:
    """Default attention factor of LongRoPE.

    Args:
        factor: Context divided by the original context.
        original: The original context.
    """
    return math.sqrt(1 + math.log(max(factor, 1.0)) / math.log(original))


def write_scaling(scaling: dict[str, Any] | None) -> dict[str, Any] | None:
    """The rope_scaling object of a RoPE scaling."""
    if scaling is None:
        return None
    omitted = ("class", "original_context") if scaling["class"] == "DynamicNTK" else ("class",)
    found = {name: value for name, value in scaling.items() if name not in omitted and value is not None}
    if "original_context" in found:
        found["original_max_position_embeddings"] = found.pop("original_context")
    return {"rope_type": _KINDS.get(scaling["class"], scaling["class"]), **found}


def write_rotary(position: dict[str, Any]) -> dict[str, Any]:
    """rope_theta and rope_scaling, which every version of transformers reads."""
    return {"rope_theta": position["base"] or THETA, **write_scaled(position["scaling"])}


def write_scaled(scaling: dict[str, Any] | None) -> dict[str, Any]:
    """rope_scaling, and LongRoPE's original length beside it, where transformers 4 reads it."""
    beside = {}
    if scaling is not None and scaling["class"] == "LongRoPE":
        beside["original_max_position_embeddings"] = scaling["original_context"]
    return {"rope_scaling": write_scaling(scaling), **beside}


def write_context(net: dict[str, Any]) -> int:
    """max_position_embeddings: the length from which dynamic scaling starts, else the context."""
    scalings = (position["scaling"] for position in net["position"] if position["scaling"] is not None)
    dynamic = next((scaling["original_context"] for scaling in scalings if scaling["class"] == "DynamicNTK"), None)
    context: int = dynamic or net["context"]
    return context
