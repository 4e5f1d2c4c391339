"""From a folder of the Hugging Face world to a checkpoint of ours, tensor by tensor.

Knows folders, families' tables and checkpoints; the command line around it is `lit_gpt.commands.import_`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lit_gpt.data.tokenizers.pretrained import Pretrained
from lit_gpt.errors import UserError
from lit_gpt.hub import plan
from lit_gpt.hub.checkpoint_writer import Checkpoint
from lit_gpt.hub.families import recognize
from lit_gpt.hub.families.family import Family
from lit_gpt.hub.fields import Fields
from lit_gpt.hub.folder import Tensors, read_config
from lit_gpt.hub.weights import Pair, pairs
from lit_gpt.model import GPT

Tick = Callable[[int], None]  # told how many bytes were written


@dataclass(frozen=True)
class Source:
    """A folder that was understood; no tensor of it has been read yet."""

    folder: Path
    family: Family
    config: dict[str, Any]
    arguments: dict[str, Any]  # GPT's
    net: GPT  # on the meta device


def understand(folder: str | Path) -> Source:
    """What a folder's config.json says, as one of our nets.

    Raises:
        UserError: Its architecture is not supported, or a field has no counterpart here.
    """
    folder = Path(folder)
    config = read_config(folder)
    where = str(folder / "config.json")
    family = recognize(config, where)
    arguments = plan.complete(family.read(Fields(config, where)))
    try:
        net = plan.make_net(arguments)
    except ValueError as fault:
        raise UserError(f"{where}: {fault}") from None
    return Source(folder, family, config, arguments, net)


def find_tensors(source: Source, tensors: Tensors) -> list[tuple[Pair, tuple[str, ...]]]:
    """For each rule that applies, the names of its tensors in the files; all names and shapes are found right.

    Tensors that hold no weights, such as masks and a copy of a tied embedding, are forgotten.

    Raises:
        UserError: A tensor is missing, has another shape or type, or is none of the net's.
    """
    found: list[tuple[Pair, tuple[str, ...]]] = []
    used: set[str] = set()
    prefix = source.family.prefix
    own = source.net.state_dict()
    for pair in pairs(source.family.table, source.net):
        names = []
        expected = pair.rule.to_theirs([own[name] for name in pair.ours], source.net)
        for name, like in zip(pair.theirs, expected, strict=True):
            bare = name.removeprefix(prefix)
            there = name if name in tensors.shapes else bare
            if there not in tensors.shapes:
                raise UserError(f"{source.folder} lacks the tensor {name}; its files do not belong to its config.json")
            if tensors.shapes[there] != tuple(like.shape):
                raise UserError(
                    f"{source.folder}: {there} is {tensors.shapes[there]} in the file, but config.json makes it "
                    f"{tuple(like.shape)}; its files do not belong together"
                )
            names.append(there)
        used.update(names)
        found.append((pair, tuple(names)))
    skipped = "|".join(f"(?:{pattern})" for pattern in source.family.unused)
    left = [name for name in sorted(tensors.shapes.keys() - used) if not re.fullmatch(skipped, name)]
    if source.net.tie:
        heads = [name for name in left if name in ("lm_head.weight", "embed_out.weight")]
        left = [name for name in left if name not in heads]
        embedding = next(names[0] for pair, names in found if pair.ours == ("embedding.weight",))
        for name in heads:
            if tensors.shapes[name] != tensors.shapes[embedding] or not _same(tensors, name, embedding):
                raise UserError(
                    f"{source.folder}: {name} is not {embedding}, though config.json ties them; if the head is one of "
                    "its own, set tie_word_embeddings to false in config.json"
                )
    if left:
        raise UserError(
            f"{source.folder} has the tensor {left[0]}, which {source.family.architecture} does not know"
            f"{f' (and {len(left) - 1} more)' if len(left) > 1 else ''}; it is another model"
        )
    tensors.keep(used)
    return found


def _same(tensors: Tensors, one: str, other: str) -> bool:
    return torch.equal(tensors.read(one), tensors.read(other))


def read_tokenizer(source: Source, folder: Path | None = None) -> Pretrained:
    """The tokenizer of the folder, or of another one.

    Raises:
        UserError: There is none that can be read, or it has more ids than the net has rows.
    """
    tokenizer = Pretrained.from_folder(folder or source.folder, source.config)
    if tokenizer.vocab_size > source.net.vocab_size:
        raise UserError(
            f"{folder or source.folder}: its tokenizer has {tokenizer.vocab_size} ids, but the net's embedding only "
            f"{source.net.vocab_size} rows; they do not belong together"
        )
    return tokenizer


def write_checkpoint(
    source: Source, tensors: Tensors, tokenizer: Pretrained, file: Path, dtype: torch.dtype | None = None,
    tick: Tick = lambda count: None,
) -> None:  # fmt: skip
    """Writes the checkpoint of an understood folder, with its manifest.

    Args:
        source: The folder.
        tensors: Its weights.
        tokenizer: Its tokenizer.
        file: The checkpoint; its folder exists.
        dtype: Type of the weights; None for the files' own.
        tick: Told the bytes of each part that is written.
    """
    rules = find_tensors(source, tensors)
    dtype = dtype or tensors.widest
    own = source.net.state_dict()
    shapes = {f"net.{name}": tuple(own[name].shape) for pair, _ in rules for name in pair.ours}
    same = {"net.head.weight": "net.embedding.weight"} if source.net.tie else {}
    rest = {
        "global_step": 0,
        "config": {
            "model": {"net": {"class_path": "lit_gpt.model.GPT", "init_args": source.arguments}},
            "data": {"tokenizer": tokenizer.configuration()},
        },
        "tokenizer": tokenizer.state(),
        "origin": source.family.architecture,
    }
    with Checkpoint(file, shapes, dict.fromkeys(shapes, dtype), same, rest) as checkpoint, torch.no_grad():
        for pair, names in rules:
            theirs = [tensors.read(name) for name in names]
            ours = pair.rule.to_ours(theirs, [own[name] for name in pair.ours], source.net)
            for name, tensor in zip(pair.ours, ours, strict=True):
                checkpoint.put(f"net.{name}", tensor)
                tick(tensor.numel() * dtype.itemsize)
        checkpoint.commit()
