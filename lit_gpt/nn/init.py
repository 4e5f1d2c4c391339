"""Weight initialization: each weight is drawn from a generator of its own that is seeded by its name.

So a weight does not depend on the order of construction, the layout over devices or other parts of the net: nets that
differ in one component start from equal weights everywhere else.
"""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import torch
from torch import Tensor, nn

from lit_gpt.errors import UserError, not_implemented
from lit_gpt.nn.linear import Stacked
from lit_gpt.nn.sizes import Sizes

Role = Literal["embedding", "matrix", "residual", "head"]


class Init:
    """Base of the initializations: says how large a weight of each role starts.

    Args:
        sizes: Filled in by the net.
    """

    def __init__(self, sizes: Sizes):
        self.sizes = sizes

    def std(self, role: Role, weight: Tensor) -> float:
        """Standard deviation of a normal distribution for a weight (outputs, inputs), or for each of a stack of them
        (experts, outputs, inputs); 0 fills with zeros.

        Args:
            role: ``embedding`` (also positions, and a tied head), ``head`` (untied), ``residual`` (a linear that writes
                into the residual stream), ``matrix`` (any other linear or stacked weight).
            weight: The tensor, for its shape.
        """
        raise not_implemented(self, "std")

    @torch.no_grad()
    def fill(self, name: str, weight: Tensor, role: Role, seed: int) -> None:
        """Fills one weight in place; equal (seed, name, shape) give equal values on every device."""
        std = self.std(role, weight)
        if std == 0.0:
            weight.zero_()
            return
        draw = torch.empty(weight.shape, dtype=torch.float32).normal_(0.0, std, generator=named_generator(seed, name))
        weight.copy_(draw)


class GPT2Init(Init):
    """Normal with one standard deviation, projections into the residual stream divided by sqrt(2 depth)
    (GPT-2, Radford et al. 2019, section 2.3).

    Args:
        sizes: Filled in by the net.
        base_std: Standard deviation of everything else.
    """

    def __init__(self, sizes: Sizes, base_std: float = 0.02):
        super().__init__(sizes)
        self.base_std = base_std

    def std(self, role: Role, weight: Tensor) -> float:
        return self.base_std / math.sqrt(2 * self.sizes.depth) if role == "residual" else self.base_std


class ZeroProjections(Init):
    """Projections into the residual stream start at zero, so that every block starts as the identity
    (ReZero, Bachlechner et al. 2020, arXiv 2003.04887, and Fixup use the same idea).

    Args:
        sizes: Filled in by the net.
        matrix_gain: Standard deviation of matrices is this over sqrt(inputs).
        embedding_std: Standard deviation of embeddings, and of a tied head.
        head_std: Standard deviation of an untied head; zero starts every token equally likely.
    """

    def __init__(self, sizes: Sizes, matrix_gain: float = 0.5, embedding_std: float = 0.02, head_std: float = 0.0):
        super().__init__(sizes)
        self.matrix_gain, self.embedding_std, self.head_std = matrix_gain, embedding_std, head_std

    def std(self, role: Role, weight: Tensor) -> float:
        if role == "matrix":
            return self.matrix_gain / math.sqrt(weight.shape[-1])
        return {"residual": 0.0, "embedding": self.embedding_std, "head": self.head_std}[role]


def named_generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator whose stream depends on the seed and the name alone."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def fill_net(net: nn.Module, init: Init, head: nn.Module, seed: int) -> None:
    """Fills every parameter of a net in place.

    Linears, stacks and embeddings take `init`; a module with parameters of its own fills them in
    ``reset_parameters()``, called with the default generator seeded by the module's name and put back afterwards.
    """
    residual = {f"{name}.{child}" for name, module in net.named_modules() for child in getattr(module, "residual", ())}
    done: set[int] = set()
    for name, module in net.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in done]
        if not own:
            continue
        done.update(id(p) for p in own)
        if isinstance(module, nn.Embedding):
            init.fill(f"{name}.weight", module.weight, "embedding", seed)
        elif isinstance(module, nn.Linear):
            role: Role = "head" if module is head else "residual" if name in residual else "matrix"
            init.fill(f"{name}.weight", module.weight, role, seed)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, Stacked):
            init.fill(f"{name}.weight", module.weight, "residual" if name in residual else "matrix", seed)
        elif callable(reset := getattr(module, "reset_parameters", None)):
            gpus = {p.device.index for p in own if p.device.type == "cuda"}
            with torch.random.fork_rng(devices=list(gpus)):
                # Not torch.manual_seed: it seeds all GPUs as well, for good, and dropout there would follow this seed.
                for generator in (torch.default_generator, *(torch.cuda.default_generators[i] for i in gpus)):
                    generator.manual_seed(named_generator(seed, name).initial_seed())
                reset()
        else:
            raise UserError(f"{name}: {type(module).__name__} has parameters but no reset_parameters(); define it")
