"""Export of a net as a Hugging Face folder for transformers, by the first family that can represent it."""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from safetensors.torch import save_file
from torch import Tensor

from lit_gpt.data.tokenizers.hub_folder import conflicting_class
from lit_gpt.errors import UserError
from lit_gpt.hub import net_config
from lit_gpt.hub.families import ARCHITECTURES, family_of
from lit_gpt.hub.families.family import Family
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.weights import Pair, pairs
from lit_gpt.model import GPT

Tick = Callable[[int], None]
_TYPES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16", torch.float64: "float64"}


def choose(
    arguments: dict[str, Any],
    files: Mapping[str, str],
    preferred: str | None = None,
    only: str | None = None,
) -> tuple[Family, dict[str, Any]]:
    """Choose the family that represents a net; return it with the fields of its config.json.

    A family fits if the config that it writes means the same net when it is read again.

    Args:
        arguments: Of GPT, as in a run's config.
        files: Files of the tokenizer, by name: for some families transformers reads them with another class.
        preferred: Architecture to use if it fits.
        only: The only architecture to try.

    Raises:
        UserError: None fits; the message names the differences of the nearest one.
    """
    net = net_config.layers(arguments)
    reasons: dict[str, list[tuple[str, Any, Any]]] = {}
    tokenizers: list[str] = []
    order = [only] if only else sorted(ARCHITECTURES, key=lambda name: name != preferred)
    for name in order:
        family = family_of(name)
        try:
            config = family.write(net)
            again = net_config.layers(family.read(HFConfig(config, name)))
        except (UserError, TypeError, ValueError, ZeroDivisionError) as fault:
            if only:
                reason = str(fault).removeprefix(f"{name}: ")
                raise UserError(f"{name} cannot express this net: {reason}") from None
            continue
        reasons[name] = net_config.differences(net, again)
        if not reasons[name]:
            other = conflicting_class(dict(files), family.model_type)
            if other is None:
                return family, config
            tokenizers.append(f"{name} can express this net, but transformers reads any tokenizer beside it as {other}")
    if tokenizers:
        raise UserError(f"{tokenizers[0]}, which would make other ids of this one; train with a tokenizer of that kind")
    nearest = min(reasons, key=lambda name: len(reasons[name]), default=None)
    if nearest is None:
        raise UserError("no family can express this net; `lit-gpt inspect` shows its parts")
    told = "; ".join(f"{key} is {_said(mine)}, there {_said(other)}" for key, mine, other in reasons[nearest][:4])
    more = f"; and {len(reasons[nearest]) - 4} more" if len(reasons[nearest]) > 4 else ""
    who = (
        f"{nearest} cannot" if only else f"no family of transformers can express this net; the nearest, {nearest}, can"
    )
    raise UserError(f"{who} {'express this net' if only else 'not'}: {told}{more}")


def _said(value: Any) -> str:
    return "none" if value is None else str(value)


def write_folder(
    folder: Path,
    family: Family,
    config: dict[str, Any],
    arguments: dict[str, Any],
    weights: Mapping[str, Tensor],
    files: Mapping[str, str],
    ids: dict[str, Any],
    max_shard_size: int | str = "5GB",
    tick: Tick = lambda count: None,
) -> None:
    """Write config.json, model.safetensors (in shards if larger) and the tokenizer's files.

    Args:
        folder: Exists and is empty.
        family: Of `choose`.
        config: Of `choose`.
        arguments: Of GPT, as in a run's config.
        weights: Tensors by our names, without the prefix ``net.``.
        files: Files of the tokenizer, by name.
        ids: Ids of BOS, EOS and padding, as fields of config.json.
        max_shard_size: Bytes of a shard, or a string such as 5GB.
        tick: Called with the bytes of each shard that is written.
    """
    net = net_config.make_net(arguments)
    named_pairs = pairs(family.table, net)
    dtype = weights["embedding.weight"].dtype

    likes: dict[str, Tensor] = {}
    makers: dict[str, Callable[[], Tensor]] = {}
    own = net.state_dict()
    for pair in named_pairs:
        shapes = pair.mapping.to_theirs([own[name] for name in pair.ours], net)
        for number, (name, like) in enumerate(zip(pair.theirs, shapes, strict=True)):
            likes[name], makers[name] = like, functools.partial(_converted, pair, number, weights, net)
    shards = split_state_dict_into_shards_factory(
        likes,
        get_storage_size=lambda like: like.numel() * dtype.itemsize,
        get_storage_id=lambda like: None,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=max_shard_size,
    )
    for file, names in shards.filename_to_tensors.items():
        save_file({name: makers[name]().contiguous() for name in names}, folder / file, metadata={"format": "pt"})
        tick(sum(likes[name].numel() for name in names) * dtype.itemsize)
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        _write_json(folder / "model.safetensors.index.json", index)
    head = {"architectures": [family.architecture], "model_type": family.model_type, "torch_dtype": _TYPES[dtype]}
    _write_json(folder / "config.json", head | config | ids)
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")


def _converted(pair: Pair, number: int, weights: Mapping[str, Tensor], net: GPT) -> Tensor:
    """One of their tensors, converted when it is needed."""
    return pair.mapping.to_theirs([weights[name] for name in pair.ours], net)[number]


def _write_json(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
