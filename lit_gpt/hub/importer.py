"""Import of a Hugging Face folder as a checkpoint, tensor by tensor."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lit_gpt.checkpoint import write_fields
from lit_gpt.data.tokenizers.pretrained import Pretrained
from lit_gpt.errors import UserError
from lit_gpt.hub import net_config
from lit_gpt.hub.checkpoint_writer import CheckpointWriter
from lit_gpt.hub.families import recognize
from lit_gpt.hub.families.family import Family
from lit_gpt.hub.folder import Tensors, read_config
from lit_gpt.hub.hf_config import HFConfig
from lit_gpt.hub.weights import Pair, pairs
from lit_gpt.model import GPT

Tick = Callable[[int], None]  # called with the number of bytes that were written


@dataclass(frozen=True)
class HFModel:
    """A Hugging Face model whose config.json was read; its tensors were not."""

    folder: Path
    family: Family
    config: dict[str, Any]
    arguments: dict[str, Any]  # GPT's
    net: GPT  # on the meta device


def read_model(folder: str | Path) -> HFModel:
    """Read the config.json of a folder as a net on the meta device.

    Raises:
        UserError: Its architecture is not supported, or a field cannot be represented.
    """
    folder = Path(folder)
    config = read_config(folder)
    where = str(folder / "config.json")
    family = recognize(config, where)
    arguments = family.read(HFConfig(config, where))
    try:
        net = net_config.make_net(arguments)
    except ValueError as fault:
        raise UserError(f"{where}: {fault}") from None
    return HFModel(folder, family, config, arguments, net)


def find_tensors(model: HFModel, tensors: Tensors) -> list[tuple[Pair, tuple[str, ...]]]:
    """For each mapping that applies, the names of its tensors in the files, with their shapes checked.

    Tensors without weights, such as masks and copies of a tied embedding, are dropped.

    Raises:
        UserError: A tensor is missing, unknown, or of another shape or dtype.
    """
    found: list[tuple[Pair, tuple[str, ...]]] = []
    used: set[str] = set()
    prefix = model.family.prefix
    own = model.net.state_dict()
    for pair in pairs(model.family.table, model.net):
        names = []
        expected = pair.mapping.to_theirs([own[name] for name in pair.ours], model.net)
        for name, like in zip(pair.theirs, expected, strict=True):
            bare = name.removeprefix(prefix)
            there = name if name in tensors.shapes else bare
            if there not in tensors.shapes:
                raise UserError(f"{model.folder} lacks the tensor {name}; its files do not belong to its config.json")
            if tensors.shapes[there] != tuple(like.shape):
                raise UserError(
                    f"{model.folder}: {there} is {tensors.shapes[there]} in the file, but config.json makes it "
                    f"{tuple(like.shape)}; its files do not belong together"
                )
            names.append(there)
        used.update(names)
        found.append((pair, tuple(names)))
    skipped = "|".join(f"(?:{pattern})" for pattern in model.family.unused)
    left = [name for name in sorted(tensors.shapes.keys() - used) if not re.fullmatch(skipped, name)]
    if model.net.tie_embeddings:
        heads = [name for name in left if name in ("lm_head.weight", "embed_out.weight")]
        left = [name for name in left if name not in heads]
        embedding = next(names[0] for pair, names in found if pair.ours == ("embedding.weight",))
        for name in heads:
            if tensors.shapes[name] != tensors.shapes[embedding] or not _same(tensors, name, embedding):
                raise UserError(
                    f"{model.folder}: {name} is not {embedding}, though config.json ties them; if the head is one of "
                    "its own, set tie_word_embeddings to false in config.json"
                )
    if left:
        raise UserError(
            f"{model.folder} has the tensor {left[0]}, which {model.family.architecture} does not know"
            f"{f' (and {len(left) - 1} more)' if len(left) > 1 else ''}; it is another model"
        )
    tensors.keep(used)
    return found


def _same(tensors: Tensors, one: str, other: str) -> bool:
    return torch.equal(tensors.read(one), tensors.read(other))


def read_tokenizer(model: HFModel, folder: Path | None = None) -> Pretrained:
    """Read the tokenizer of the model's folder, or of another one.

    Raises:
        UserError: It cannot be read, or has more ids than the net's embedding has rows.
    """
    tokenizer = Pretrained.from_folder(folder or model.folder, model.config)
    if tokenizer.vocab_size > model.net.vocab_size:
        raise UserError(
            f"{folder or model.folder}: its tokenizer has {tokenizer.vocab_size} ids, but the net's embedding only "
            f"{model.net.vocab_size} rows; they do not belong together"
        )
    return tokenizer


def write_checkpoint(
    model: HFModel, tensors: Tensors, tokenizer: Pretrained, file: Path, dtype: torch.dtype | None = None,
    tick: Tick = lambda count: None,
) -> None:  # fmt: skip
    """Write the checkpoint of a model, with its manifest.

    Args:
        model: The model.
        tensors: Its weights.
        tokenizer: Its tokenizer.
        file: The checkpoint; its folder exists.
        dtype: Dtype of the weights; None for the widest in the files.
        tick: Called with the bytes of each tensor that is written.
    """
    named_pairs = find_tensors(model, tensors)
    dtype = dtype or tensors.widest
    own = model.net.state_dict()
    shapes = {f"net.{name}": tuple(own[name].shape) for pair, _ in named_pairs for name in pair.ours}
    same = {"net.head.weight": "net.embedding.weight"} if model.net.tie_embeddings else {}
    rest: dict[str, Any] = {"global_step": 0}
    write_fields(
        rest,
        config={
            "model": {"net": {"class_path": "lit_gpt.model.GPT", "init_args": model.arguments}},
            "data": {"tokenizer": tokenizer.configuration()},
        },
        tokenizer=tokenizer.state(),
        origin=model.family.architecture,
    )
    with CheckpointWriter(file, shapes, dict.fromkeys(shapes, dtype), same, rest) as checkpoint, torch.no_grad():
        for pair, names in named_pairs:
            theirs = [tensors.read(name) for name in names]
            ours = pair.mapping.to_ours(theirs, [own[name] for name in pair.ours], model.net)
            for name, tensor in zip(pair.ours, ours, strict=True):
                checkpoint.put(f"net.{name}", tensor)
                tick(tensor.numel() * dtype.itemsize)
        checkpoint.commit()
