"""The config of a net as plain data: completed with defaults, expanded layer by layer, compared with another."""

import functools
import inspect
from collections.abc import Iterator
from typing import Any

import torch

from lit_gpt import nn
from lit_gpt.config.registry import FREE_ARGUMENTS, FREE_COMPONENT_ARGUMENTS
from lit_gpt.model import GPT
from lit_gpt.nn import Sizes

ComponentConfig = dict[str, Any]  # {"class_path": ..., "init_args": {...}}, as in a run's config
COMPONENTS = ("attention", "feedforward", "position", "block")  # may be lists, tiled over the layers
_FILLED_IN = ("self", "sizes", "attention", "feedforward", "norm")  # by GPT, when it builds its components


class Arguments(dict[str, Any]):
    """Class and arguments of a component; an argument that the class lacks is None."""

    def __missing__(self, key: str) -> None:
        return None


def component(cls: type, **arguments: Any) -> ComponentConfig:
    """The config of a component, with defaults for the arguments that are not given."""
    given = {name: value for name, value in _defaults(cls).items() if name not in _FILLED_IN} | arguments
    return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": given}


def complete(arguments: dict[str, Any]) -> dict[str, Any]:
    """All arguments of GPT, with defaults for those that are not given."""
    return {name: value for name, value in _defaults(GPT).items() if name != "self"} | arguments


def _defaults(cls: type) -> dict[str, Any]:
    found = {}
    for name, parameter in inspect.signature(cls.__init__).parameters.items():  # type: ignore[misc]
        if parameter.default is not parameter.empty:
            default = parameter.default
            found[name] = component(default) if inspect.isclass(default) else default
    return found


def tiled(parts: list[ComponentConfig]) -> ComponentConfig | list[ComponentConfig]:
    """The shortest list that gives the components of all layers when it is tiled; a single one without a list."""
    for period in range(1, len(parts)):
        if all(one == parts[i % period] for i, one in enumerate(parts)):
            return parts[0] if period == 1 else parts[:period]
    return parts[0] if len(parts) == 1 else parts


def make_net(arguments: dict[str, Any]) -> GPT:
    """The net of these arguments on the meta device, without memory.

    Raises:
        ValueError: The arguments are not valid together.
    """
    with torch.device("meta"):
        return GPT(**{name: _factory(value) for name, value in arguments.items()})


def _factory(value: Any) -> Any:
    if isinstance(value, list):
        return [_factory(one) for one in value]
    if not isinstance(value, dict) or "class_path" not in value:
        return value
    arguments = {name: _factory(one) for name, one in (value.get("init_args") or {}).items()}
    return functools.partial(class_of(value["class_path"]), **arguments)


def class_of(class_path: str) -> type:
    """The class in `lit_gpt.nn` of a class path.

    Raises:
        ValueError: There is none.
    """
    found = getattr(nn, class_path.rpartition(".")[2], None)
    if not class_path.startswith("lit_gpt.") or not inspect.isclass(found):
        raise ValueError(f"{class_path} is no class of lit_gpt")
    return found


def layers(arguments: dict[str, Any]) -> Arguments:
    """What a net computes, with all defaults resolved: two configs with equal layers are the same net.

    A class from outside this package keeps its class path and arguments as they are.

    Args:
        arguments: Of GPT, as in a config.

    Returns:
        Numbers and switches by name, ``norm``, and for each other component a list with one `Arguments` for each layer:
        its ``class`` and its arguments.
    """
    arguments = complete(arguments)
    sizes = Sizes(*(arguments[name] for name in ("width", "heads", "depth", "context", "vocab_size")))
    sizes = sizes.replace(head_size=sizes.width // sizes.heads)
    found = Arguments(
        {name: value for name, value in arguments.items() if name not in (*COMPONENTS, *FREE_ARGUMENTS, "norm")}
    )
    if "DynamicNTK" in str(arguments["position"]):
        del found["context"]  # dynamic scaling has no longest context, and starts from a length of its own
    found["norm"] = settled(arguments["norm"], sizes)
    for component in COMPONENTS:
        given = arguments[component]
        given = given if isinstance(given, list) else [given]
        found[component] = [settled(given[layer % len(given)], sizes) for layer in range(sizes.depth)]
    return found


def settled(given: ComponentConfig, sizes: Sizes) -> Arguments:
    """Class and arguments of a component, derived ones resolved; arguments that do not change the net are dropped."""
    try:
        cls = class_of(given["class_path"])
    except ValueError:
        return Arguments({"class": given["class_path"], **(given.get("init_args") or {})})
    own = {name: value for name, value in _defaults(cls).items() if name not in _FILLED_IN}
    own |= given.get("init_args") or {}
    own = {name: _inner(value, sizes) for name, value in own.items() if name not in FREE_COMPONENT_ARGUMENTS}
    if cls is nn.SelfAttention:
        own["kv_heads"] = own["kv_heads"] or sizes.heads
        own["head_size"] = own["head_size"] or sizes.width // sizes.heads
        own["out_bias"] = own["bias"] if own["out_bias"] is None else own["out_bias"]
        own["scale"] = own["head_size"] ** -0.5 if own["scale"] is None else own["scale"]
    if cls is nn.LongRoPE and own["attention_factor"] is None:
        own["attention_factor"] = nn.LongRoPE(**own).gain(sizes.context)
    if "ratio" in own and "hidden" in own:
        with torch.device("meta"):
            module = _factory({**given, "init_args": {**(given.get("init_args") or {})}})(sizes)
        own["hidden"] = module.up.weight.shape[-2]
        del own["ratio"]
    return Arguments({"class": cls.__name__, **own})


def _inner(value: Any, sizes: Sizes) -> Any:
    return settled(value, sizes) if isinstance(value, dict) and "class_path" in value else value


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Differences between two `layers`: name of the setting and both values; the same in several layers once."""
    a, b = dict(_flat(one)), dict(_flat(other))
    found = [(key, a.get(key), b.get(key)) for key in dict.fromkeys([*a, *b]) if a.get(key) != b.get(key)]
    # Another class has other arguments: the class says it all.
    classes = [key.removesuffix("class") for key, _, _ in found if key.endswith(".class")]
    found = [d for d in found if not any(d[0].startswith(c) and d[0] != f"{c}class" for c in classes)]
    unique: dict[tuple[str, str, str], tuple[str, Any, Any]] = {}
    for key, mine, theirs in found:
        name = ".".join(word for word in key.split(".") if not word.isdigit()).removesuffix(".class")
        unique.setdefault((name, str(mine), str(theirs)), (name, mine, theirs))
    return list(unique.values())


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else key)
    elif isinstance(values, list) and values and isinstance(values[0], dict):
        for index, value in enumerate(values):
            yield from _flat(value, f"{prefix}.{index}")
    else:
        yield prefix, values
