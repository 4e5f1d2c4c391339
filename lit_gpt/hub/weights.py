"""Tables of weights: which tensors of a folder are which of a net, in both directions.

A mapping names tensors of ours and of theirs and how the one becomes the other; ``{l}`` is the layer, ``{e}`` the
expert. A mapping whose tensors the net does not have (a bias, an untied head) does not apply.
Letters: E experts, H heads, D head size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_gpt.model import GPT


class WeightMapping:
    """One or more tensors of ours that are one or more of theirs."""

    def __init__(self, ours: Sequence[str], theirs: Sequence[str]) -> None:
        self.ours, self.theirs = tuple(ours), tuple(theirs)

    def to_ours(self, theirs: list[Tensor], like: list[Tensor], net: GPT) -> list[Tensor]:
        """Tensors of theirs -> tensors of ours, views where possible.

        Args:
            theirs: In the order of the names.
            like: Ours on the meta device, for their shapes.
            net: On the meta device.
        """
        return theirs

    def to_theirs(self, ours: list[Tensor], net: GPT) -> list[Tensor]:
        """Tensors of ours -> tensors of theirs, views where possible."""
        return ours


class Same(WeightMapping):
    """A tensor with two names."""

    def __init__(self, ours: str, theirs: str) -> None:
        super().__init__((ours,), (theirs,))


class Transposed(WeightMapping):
    """A matrix that is stored (inputs, outputs), as GPT-2's Conv1D does."""

    def __init__(self, ours: str, theirs: str) -> None:
        super().__init__((ours,), (theirs,))

    def to_ours(self, theirs: list[Tensor], like: list[Tensor], net: GPT) -> list[Tensor]:
        """(inputs, outputs) -> (outputs, inputs)."""
        return [theirs[0].mT]

    def to_theirs(self, ours: list[Tensor], net: GPT) -> list[Tensor]:
        """(outputs, inputs) -> (inputs, outputs)."""
        return [ours[0].mT]


class Joined(WeightMapping):
    """Several of our tensors one after the other in one of theirs: fused queries, keys and values, or gate and up.

    Args:
        ours: In the order in which they are joined.
        theirs: The joined tensor.
        dim: Dimension of theirs along which they stand; 1 for matrices that are stored transposed.
    """

    def __init__(self, ours: Sequence[str], theirs: str, dim: int = 0) -> None:
        super().__init__(ours, (theirs,))
        self.dim = dim

    def to_ours(self, theirs: list[Tensor], like: list[Tensor], net: GPT) -> list[Tensor]:
        """One -> several."""
        whole = theirs[0].mT if self.dim else theirs[0]
        return list(whole.split([one.shape[0] for one in like]))

    def to_theirs(self, ours: list[Tensor], net: GPT) -> list[Tensor]:
        """Several -> one."""
        whole = torch.cat(ours)
        return [whole.mT if self.dim else whole]


class PerHead(WeightMapping):
    """Queries, keys and values of each head one after the other: (H, 3, D, ...) flattened, as GPT-NeoX and BLOOM do."""

    def __init__(self, ours: Sequence[str], theirs: str) -> None:
        super().__init__(ours, (theirs,))

    def to_ours(self, theirs: list[Tensor], like: list[Tensor], net: GPT) -> list[Tensor]:
        """(H 3 D, ...) -> three of (H D, ...)."""
        heads, rest = net.sizes.heads, theirs[0].shape[1:]
        return [one.reshape(-1, *rest) for one in theirs[0].unflatten(0, (heads, len(like), -1)).unbind(1)]

    def to_theirs(self, ours: list[Tensor], net: GPT) -> list[Tensor]:
        """Three of (H D, ...) -> (H 3 D, ...)."""
        heads = net.sizes.heads
        return [torch.stack([one.unflatten(0, (heads, -1)) for one in ours], 1).flatten(0, 2)]


class Experts(WeightMapping):
    """One stacked tensor of ours (E, ...) that theirs keep as one tensor for each expert (name with ``{e}``)."""

    def __init__(self, ours: str, theirs: str) -> None:
        super().__init__((ours,), (theirs,))

    def to_ours(self, theirs: list[Tensor], like: list[Tensor], net: GPT) -> list[Tensor]:
        """E of (...) -> (E, ...)."""
        return [torch.stack(theirs)]

    def to_theirs(self, ours: list[Tensor], net: GPT) -> list[Tensor]:
        """(E, ...) -> E of (...)."""
        return list(ours[0].unbind())


@dataclass(frozen=True)
class Pair:
    """A mapping with the names of one layer filled in."""

    mapping: WeightMapping
    ours: tuple[str, ...]
    theirs: tuple[str, ...]


def both(ours: str, theirs: str) -> tuple[WeightMapping, WeightMapping]:
    """The mappings of a linear or norm: its weight and its bias."""
    return Same(f"{ours}.weight", f"{theirs}.weight"), Same(f"{ours}.bias", f"{theirs}.bias")


def fused(
    mapping: type[Joined] | type[PerHead], ours: Sequence[str], theirs: str
) -> tuple[WeightMapping, WeightMapping]:
    """The mappings of linears that theirs keep fused: weights and biases."""
    return (
        mapping([f"{one}.weight" for one in ours], f"{theirs}.weight"),
        mapping([f"{one}.bias" for one in ours], f"{theirs}.bias"),
    )


def pairs(table: Iterable[WeightMapping], net: GPT) -> list[Pair]:
    """The mappings that apply to a net, with names filled in; every tensor of the net comes up exactly once."""
    own = net.state_dict()
    if net.tie_embeddings:
        del own["head.weight"]  # it is the embedding
    found: list[Pair] = []
    for mapping in table:
        for layer in range(net.sizes.depth) if "{l}" in mapping.ours[0] else (0,):
            ours = tuple(name.replace("{l}", str(layer)) for name in mapping.ours)
            if not all(name in own for name in ours) or isinstance(mapping, Experts) != (own[ours[0]].ndim == 3):
                continue
            theirs = tuple(name.replace("{l}", str(layer)) for name in mapping.theirs)
            if isinstance(mapping, Experts):
                theirs = tuple(theirs[0].replace("{e}", str(e)) for e in range(own[ours[0]].shape[0]))
            found.append(Pair(mapping, ours, theirs))
    named = [name for pair in found for name in pair.ours]
    assert sorted(named) == sorted(own), f"the table misses or repeats {set(named) ^ set(own) or named}"
    return found
