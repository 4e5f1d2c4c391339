"""Mappings of weights between Hugging Face tensor names and ours, used for import and export.

``{l}`` stands for the layer, ``{e}`` for the expert. A mapping whose tensors the net lacks (a bias, an untied head)
does not apply. Letters: E experts, H heads, D head size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lit_gpt.model import GPT

QKV = [f"blocks.{{l}}.attention.{name}" for name in ("query", "key", "value")]


class WeightMapping:
    """One or more tensors of ours that correspond to one or more of theirs."""

    def __init__(self, ours: str | Sequence[str], theirs: str) -> None:
        self.ours, self.theirs = (ours,) if isinstance(ours, str) else tuple(ours), (theirs,)

    def to_ours(self, theirs: list[Tensor], like: list[Tensor], net: GPT) -> list[Tensor]:
        """Convert their tensors to ours, as views where possible.

        Args:
            theirs: In the order of the names.
            like: Our tensors on the meta device, for their shapes.
            net: On the meta device.
        """
        return theirs

    def to_theirs(self, ours: list[Tensor], net: GPT) -> list[Tensor]:
        """Convert our tensors to theirs, as views where possible."""
        return ours


class Same(WeightMapping):
    """The same tensor under two names."""


class Transposed(WeightMapping):
    """A matrix that is stored (inputs, outputs), as GPT-2's Conv1D does."""

    def to_ours(self, theirs: list[Tensor], like: list[Tensor], net: GPT) -> list[Tensor]:
        return [theirs[0].mT]

    def to_theirs(self, ours: list[Tensor], net: GPT) -> list[Tensor]:
        return [ours[0].mT]


class Joined(WeightMapping):
    """Several of our tensors concatenated to one of theirs: fused query-key-value, or gate and up.

    Args:
        ours: In the order of concatenation.
        theirs: The fused tensor.
        dim: Dimension of theirs; 1 for matrices that are stored transposed.
    """

    def __init__(self, ours: Sequence[str], theirs: str, dim: int = 0) -> None:
        super().__init__(ours, theirs)
        self.dim = dim

    def to_ours(self, theirs: list[Tensor], like: list[Tensor], net: GPT) -> list[Tensor]:
        whole = theirs[0].mT if self.dim else theirs[0]
        return list(whole.split([one.shape[0] for one in like]))

    def to_theirs(self, ours: list[Tensor], net: GPT) -> list[Tensor]:
        whole = torch.cat(ours)
        return [whole.mT if self.dim else whole]


class PerHead(WeightMapping):
    """Query-key-value fused head by head: (H, 3, D, ...) flattened, as in GPT-NeoX and BLOOM."""

    def to_ours(self, theirs: list[Tensor], like: list[Tensor], net: GPT) -> list[Tensor]:
        """(H 3 D, ...) -> three of (H D, ...)."""
        heads, rest = net.sizes.heads, theirs[0].shape[1:]
        return [one.reshape(-1, *rest) for one in theirs[0].unflatten(0, (heads, len(like), -1)).unbind(1)]

    def to_theirs(self, ours: list[Tensor], net: GPT) -> list[Tensor]:
        """Three of (H D, ...) -> (H 3 D, ...)."""
        return [torch.stack([tensor.unflatten(0, (net.sizes.heads, -1)) for tensor in ours], 1).flatten(0, 2)]


class Experts(WeightMapping):
    """Our stacked tensor (E, ...) of all experts, one tensor for each expert in theirs (name with ``{e}``)."""

    def to_ours(self, theirs: list[Tensor], like: list[Tensor], net: GPT) -> list[Tensor]:
        """E of (...) -> (E, ...)."""
        return [torch.stack(theirs)]

    def to_theirs(self, ours: list[Tensor], net: GPT) -> list[Tensor]:
        """(E, ...) -> E of (...)."""
        return list(ours[0].unbind())


@dataclass(frozen=True)
class Pair:
    """A mapping with the names of one layer."""

    mapping: WeightMapping
    ours: tuple[str, ...]
    theirs: tuple[str, ...]


def both(ours: str, theirs: str) -> tuple[WeightMapping, WeightMapping]:
    """Mappings of a linear layer or norm: weight and bias."""
    return Same(f"{ours}.weight", f"{theirs}.weight"), Same(f"{ours}.bias", f"{theirs}.bias")


def fused(
    mapping: type[Joined] | type[PerHead], ours: Sequence[str], theirs: str
) -> tuple[WeightMapping, WeightMapping]:
    """Mappings of linear layers that theirs fuse: weights and biases."""
    return (
        mapping([f"{one}.weight" for one in ours], f"{theirs}.weight"),
        mapping([f"{one}.bias" for one in ours], f"{theirs}.bias"),
    )


def pairs(table: Iterable[WeightMapping], net: GPT) -> list[Pair]:
    """The mappings that apply to a net, layer by layer; they cover every tensor of the net exactly once."""
    own = net.state_dict()
    if net.tie_embeddings:
        del own["head.weight"]  # is the embedding
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
