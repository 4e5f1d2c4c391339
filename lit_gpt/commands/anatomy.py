"""A net as a tree of its components: what fills each, with which options, in which layers. No command itself.

A component keeps its constructor arguments as attributes of the same names.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from lit_gpt.config.schema import default_classes
from lit_gpt.cost import count
from lit_gpt.model import GPT
from lit_gpt.nn import Attention, Block, FeedForward, Norm, Scaling
from lit_gpt.nn.residual import PlainStream, Scale

# Told even where they are what they would be anyway.
_ALWAYS = {"kv_heads", "head_size", "hidden", "activation", "base", "experts", "top_k"}
# Arguments that are components or say how a part is made, and so nothing of what it is.
_LEFT_OUT = {"self", "sizes", "seed", "ratio", *default_classes(GPT)}


@dataclass(frozen=True)
class Part:
    """One part of a net, or several equal ones."""

    name: str
    kind: str
    options: dict[str, Any]
    parameters: int  # of one of them
    layers: tuple[int, ...] = ()  # where a net has it in some of its layers only
    copies: int = 1
    parts: tuple[Part, ...] = ()

    def data(self) -> dict[str, Any]:
        """As plain data, what is empty left out."""
        found: dict[str, Any] = {"name": self.name, "kind": self.kind, "options": self.options}
        found |= {"parameters": self.parameters, "copies": self.copies}
        if self.layers:
            found["layers"] = list(self.layers)
        if self.parts:
            found["parts"] = [part.data() for part in self.parts]
        return found


def anatomy(net: GPT, fold: bool = True) -> Part:
    """The tree of a net.

    Args:
        net: The net; it may be on the meta device.
        fold: Whether equal layers are one entry.
    """
    parts = [_part("embedding", net.embedding)]
    for place, position in enumerate(net.positions):
        layers = tuple(layer for layer, own in enumerate(net.position_of) if own == place)
        parts.append(replace(_part("positions", position), layers=layers if len(layers) < net.sizes.depth else ()))
    parts += _layers(net.blocks, fold)
    shown = ("embedding", "positions", "blocks", "head")
    parts += [
        _part(name, module)
        for name, module in net.named_children()
        if name not in shown and (isinstance(module, Norm) or count(module).parameters)
    ]
    tied = net.head.weight is net.embedding.weight
    head = _part("head", net.head)
    parts.append(replace(head, kind="tied to the embedding", parameters=0) if tied else head)
    told = {name: getattr(net.sizes, name) for name in ("width", "depth", "heads", "context", "vocab_size")}
    told |= options(net) | ({"dropout": net.sizes.dropout} if net.sizes.dropout else {})
    return Part("net", type(net).__name__, told, count(net).parameters, parts=tuple(parts))


def spans(numbers: Iterable[int]) -> str:
    """Ascending numbers in few words: ``0-3``, ``0, 2, 4 ... 10``, ``0-4, 6-10, 12``."""
    numbers = list(numbers)
    steps = {b - a for a, b in zip(numbers, numbers[1:], strict=False)}
    if len(numbers) > 4 and len(steps) == 1 and steps != {1}:
        return f"{numbers[0]}, {numbers[1]}, {numbers[2]} ... {numbers[-1]}"
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def options(part: nn.Module) -> dict[str, Any]:
    """Arguments of a part by name, as far as it keeps them and they are not what they would be anyway."""
    found: dict[str, Any] = {"heads": part.heads} if isinstance(getattr(part, "heads", None), int) else {}
    for name, argument in inspect.signature(type(part).__init__).parameters.items():
        if name in _LEFT_OUT or name in found or argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
            continue
        value, usual = _value(part, name), argument.default
        if name == "out_bias":
            usual = _value(part, "bias")
        elif isinstance(usual, bool):
            value = usual if value is None else bool(value)  # a part in its place: it is there
        elif isinstance(usual, type):
            usual = usual.__name__
        if value is not None and (name in _ALWAYS or value != usual and (value or usual)):
            found[name] = value
    return found


def _part(name: str, module: nn.Module) -> Part:
    told = {} if isinstance(module, nn.Linear | nn.Embedding) else options(module)  # their sizes are the net's
    return Part(name, type(module).__name__, told, count(module).parameters)


def _layers(blocks: Iterable[Block], fold: bool) -> list[Part]:
    """The layers, equal ones as one entry that stands where the first of them does."""
    distinct: list[tuple[Part, list[int]]] = []
    for layer, block in enumerate(blocks):
        part = _block(block)
        same = next((found for found in distinct if found[0] == part), None) if fold else None
        if same is None:
            distinct.append((part, [layer]))
        else:
            same[1].append(layer)
    return [replace(part, layers=tuple(layers), copies=len(layers)) for part, layers in distinct]


def _block(block: Block) -> Part:
    """A block, its attention, feed-forward and norms; equal norms are one entry."""
    parts: list[Part] = []
    for name, module in block.named_children():
        if isinstance(module, Norm):
            norm = _part("norms", module)
            same = next((at for at, one in enumerate(parts) if replace(one, copies=1) == norm), None)
            if same is None:
                parts.append(norm)
            else:
                parts[same] = replace(norm, copies=parts[same].copies + 1)
        elif isinstance(module, Attention | FeedForward) or count(module).parameters:
            parts.append(_part("feed-forward" if isinstance(module, FeedForward) else name, module))
    return replace(_part("blocks", block), parts=tuple(parts))


def _value(part: nn.Module, name: str) -> Any:
    """What a part was given for an argument, as plain data; None where it was none or cannot be told."""
    if name == "bias" and not hasattr(part, "bias"):
        return any(m.bias is not None for n, m in part.named_modules() if isinstance(m, nn.Linear) and n != "out")
    if name == "out_bias":
        return getattr(getattr(part, "out", None), "bias", None) is not None
    if name == "affine" and not hasattr(part, "affine"):
        return getattr(part, "weight", None) is not None
    if name == "hidden":
        weight = getattr(getattr(part, "up", None), "weight", None)
        return None if weight is None else weight.shape[-2]  # (F, C), or (E, F, C) of experts
    if name == "qk_norm":
        return _plain(getattr(part, "query_norm", None))
    if name == "qk_norm_over" and _value(part, "qk_norm"):
        return "head" if getattr(part.query_norm, "width", None) == part.head_size else "heads"
    if name == "shared" and isinstance(shared := getattr(part, "shared", None), nn.Module):
        return (_value(shared, "hidden") or 0) // _value(part, "hidden")  # all of them are one feed-forward
    return _plain(getattr(part, name, None))


def _plain(value: Any) -> Any:
    """Numbers, words and lists as they are, a tensor as True, an object as its class and what is unusual of it; what
    stands for nothing in its place as None."""
    if value is None or isinstance(value, nn.Identity | PlainStream) or type(value) is Scaling:
        return None
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Tensor):
        return True
    if isinstance(value, Scale):
        return value.factor
    more = options(value) if isinstance(value, nn.Module) else vars(value)
    listed = ", ".join(f"{name} {_plain(one)}" for name, one in more.items() if one is not None)
    return f"{type(value).__name__}({listed})" if listed else type(value).__name__
