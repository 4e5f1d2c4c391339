"""Rotary positions in a config.json: the older fields (rope_theta, rope_scaling) and the newer one (rope_parameters).

Knows the fields that all families share; which of them a family has is its own business.
"""

from __future__ import annotations

import math
from typing import Any

from lit_gpt.errors import UserError
from lit_gpt.hub.fields import Fields
from lit_gpt.hub.plan import Part, part
from lit_gpt.nn import DynamicNTK, LinearScaling, Llama3Scaling, LongRoPE, RoPE, YaRN

THETA = 10_000.0


def read_rotary(
    fields: Fields,
    context: int,
    base: float = THETA,
    fraction: float = 1.0,
    partial: bool = False,
    original: int | None = None,
    renamed: dict[str, str] | None = None,
) -> Part:
    """RoPE from all fields that speak of it.

    Args:
        fields: Of the whole config.
        context: Its max_position_embeddings.
        base: What a missing rope_theta means.
        fraction: What a missing partial_rotary_factor means.
        partial: Whether the family can turn a part of each head only.
        original: What a missing original_max_position_embeddings means; None for max_position_embeddings.
        renamed: Older names of kinds of scaling.

    Raises:
        UserError: A kind of scaling, or a field of one, that is not understood.
    """
    base = fields.positive("rope_theta", base)
    fraction = fields.positive("partial_rotary_factor", fraction) if partial else 1.0
    original = fields.optional("original_max_position_embeddings", original)
    given = fields.take("rope_scaling", None) or fields.take("rope_parameters", None)
    fields.take("rope_parameters", None)  # where both are given, transformers takes the older one
    if not given:
        return part(RoPE, base=base, fraction=fraction)
    kind = given.get("rope_type", given.get("type", "default")) if isinstance(given, dict) else None
    given = {**given, "rope_type": (renamed or {}).get(kind, kind)} if kind else given
    return _read(_object(given, fields.where), context, base, fraction, partial, original)


def read_one(given: Any, where: str, context: int, base: float) -> Part:
    """RoPE from one object of rope parameters, as a config of several kinds of layers holds for each kind."""
    return _read(_object(given or {}, where), context, base, 1.0, False, None)


def _object(given: Any, where: str) -> Fields:
    if not isinstance(given, dict):
        raise UserError(f"{where}: rope_scaling must be an object, got {given!r}")
    return Fields(given, f"{where}, rotary positions")


def _read(rope: Fields, context: int, base: float, fraction: float, partial: bool, original: Any) -> Part:
    base = rope.positive("rope_theta", base)
    fraction = rope.positive("partial_rotary_factor", fraction)
    if fraction != 1 and not partial:
        raise rope.refusal("partial_rotary_factor", fraction, "1")
    kind = rope.take("rope_type", rope.take("type", "default"))
    if original is None:
        original = rope.optional("original_max_position_embeddings") or context
    scaling: Part | None = None
    if kind == "linear":
        scaling = part(LinearScaling, factor=rope.number("factor"))
    elif kind == "dynamic":
        # transformers counts from max_position_embeddings, whatever original_max_position_embeddings says
        scaling = part(DynamicNTK, factor=rope.number("factor"), original_context=context)
    elif kind == "llama3":
        numbers = {name: rope.number(name) for name in ("factor", "low_freq_factor", "high_freq_factor")}
        scaling = part(Llama3Scaling, **numbers, original_context=original)
    elif kind == "yarn":
        given = {name: rope.take(name, None) for name in ("factor", "attention_factor", "mscale", "mscale_all_dim")}
        given["factor"] = given["factor"] or context / original
        if not (given["mscale"] and given["mscale_all_dim"]):  # transformers looks at them only where it has both
            given["mscale"] = given["mscale_all_dim"] = None
        given |= {name: rope.take(name, None) or default for name, default in (("beta_fast", 32.0), ("beta_slow", 1.0))}
        scaling = part(YaRN, **given, original_context=original, truncate=rope.flag("truncate", True))
    elif kind == "longrope":
        factors = {name: rope.take(name) for name in ("short_factor", "long_factor")}
        factor = max(rope.take("factor", None) or context / original, 1.0)
        gain = rope.take("attention_factor", None) or math.sqrt(1 + math.log(factor) / math.log(original))
        scaling = part(LongRoPE, **factors, original_context=original, attention_factor=gain)
    elif kind != "default":
        raise rope.refusal("rope_type", kind, "default, linear, dynamic, llama3, yarn or longrope")
    rope.take("original_max_position_embeddings", None)
    rope.finish(ignored=("type", "finetuned"))
    return part(RoPE, base=base, fraction=fraction, scaling=scaling)


_KINDS = {
    "LinearScaling": "linear",
    "DynamicNTK": "dynamic",
    "Llama3Scaling": "llama3",
    "YaRN": "yarn",
    "LongRoPE": "longrope",
}


def write_scaling(scaling: dict[str, Any] | None) -> dict[str, Any] | None:
    """The object of rope_scaling for a RoPE's scaling, None for none."""
    if scaling is None:
        return None
    found = {name: value for name, value in scaling.items() if name != "class" and value is not None}
    if "original_context" in found:
        found["original_max_position_embeddings"] = found.pop("original_context")
    return {"rope_type": _KINDS.get(scaling["class"], scaling["class"]), **found}


def write_rotary(position: dict[str, Any]) -> dict[str, Any]:
    """rope_theta and rope_scaling: the fields that every version of transformers reads."""
    return {"rope_theta": position["base"] or THETA, "rope_scaling": write_scaling(position["scaling"])}
