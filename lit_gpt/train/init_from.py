"""`init_from`: loads the weights of a checkpoint into a net, and initializes embedding rows for new tokens."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_gpt.errors import UserError
from lit_gpt.model import GPT


def start_from(net: GPT, path: str | Path) -> str | None:
    """Load the weights of a checkpoint or run directory into a net of the same shape, whatever their precision.

    A net with more rows for ids keeps the checkpoint's first; the others start as the mean of those in use.

    Returns:
        The architecture that the checkpoint was once imported from, None for one that began here.

    Raises:
        UserError: it cannot be read, or is of a larger vocabulary or another shape.
    """
    from lit_gpt import checkpoint

    saved = checkpoint.read(path)
    file, weights = saved.path, saved.weights
    table = weights.get("embedding.weight")
    if table is not None and table.shape[0] > net.vocab_size:
        raise UserError(
            f"init_from: {file} has a vocabulary of {table.shape[0]}, this net one of {net.vocab_size}; "
            "train with the checkpoint's own tokenizer"
        )
    if table is not None and table.shape[0] < net.vocab_size:
        weights = _grown(net, weights, table.shape[0], _known_ids(saved.tokenizer, table.shape[0]))
    checkpoint.load_weights(net, weights, file)
    return saved.origin


def start_rows(net: GPT, new: Sequence[int], known: Sequence[int]) -> None:
    """Sets the rows of new ids to the mean of those that are known, in embedding and head; all others stay."""
    with torch.no_grad():
        for _, rows in _row_tensors(net):
            rows[list(new)] = _mean(rows[list(known)]).to(rows)


def describe_growth(new: dict[str, int], before: int, after: int) -> str:
    """One line on the new tokens of a net: which they are, their ids, and how many rows the embedding has now."""
    ids, tokens = sorted(new.values()), "token" if len(new) == 1 else "tokens"
    if len(ids) == 1:
        which = f"id {ids[0]} starts"
    elif len(ids) > 2 and ids == list(range(ids[0], ids[0] + len(ids))):
        which = f"ids {ids[0]} to {ids[-1]} start"
    else:
        which = f"ids {', '.join(map(str, ids[:-1]))} and {ids[-1]} start"
    rows = f"{before} -> {after} rows" if after != before else f"keeps its {after} rows"
    return f"{len(new)} new {tokens} {' '.join(new)}: {which} as the mean of the others; embedding {rows}"


def _row_tensors(net: GPT) -> Iterator[tuple[str, Tensor]]:
    """Weights and biases with a row for each id, a tied one once."""
    seen: set[int] = set()
    for name, module in net.named_modules():
        embeds = isinstance(module, nn.Embedding) and not name.startswith("positions.")
        if not (module is net.head or (embeds and module.num_embeddings == net.vocab_size)):
            continue
        for kind, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield f"{name}.{kind}", parameter


def _grown(net: GPT, weights: dict[str, Tensor], rows: int, known: list[int]) -> dict[str, Tensor]:
    """The weights with as many rows for ids as the net has."""
    own = net.state_dict()
    grown = dict(weights)
    for name, tensor in weights.items():
        if name not in own or tensor.shape == own[name].shape or tensor.shape[0] != rows:
            continue
        if own[name].shape == (net.vocab_size, *tensor.shape[1:]):
            more = _mean(tensor[known]).to(tensor).expand(net.vocab_size - rows, *tensor.shape[1:])
            grown[name] = torch.cat((tensor, more))
    return grown


def _mean(rows: Tensor) -> Tensor:
    return rows.double().mean(0)


def _known_ids(state: Any, rows: int) -> list[int]:
    """Ids of a checkpoint's tokenizer, all rows where it has none."""
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

    if state is None:
        return list(range(rows))
    tokenizer = Tokenizer.restore(state)
    return sorted(set(range(min(tokenizer.vocab_size, rows))) - tokenizer.unused_ids)
