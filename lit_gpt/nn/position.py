"""Position encodings: none, sinusoidal, learned, ALiBi, and their base class; RoPE is in `rotary.py`.

Letters: B batch, T queries, S keys, H heads, C width, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lit_gpt.errors import UserError
from lit_gpt.nn.linear import Embedding
from lit_gpt.nn.mask import distances
from lit_gpt.nn.sizes import Sizes

if TYPE_CHECKING:
    from lit_gpt.nn.context import ForwardContext


class Position(nn.Module):
    """Base of the position encodings. They act on embeddings (`embed`), queries and keys (`rotate`) or scores (`bias`);
    each does nothing here.

    Tables are buffers that are computed in float64, kept in float32 (float64 in a float64 net, never less than
    float32), not saved, and can be rebuilt (`reset_buffers`) after the net was moved from the meta device.
    """

    longest: int | None = None  # longest sequence that it can represent, None for any

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.rows = sizes.context  # how many positions the tables hold

    def embed(self, x: Tensor, ctx: ForwardContext) -> Tensor:
        """Token embeddings (B, T, C) -> (B, T, C)."""
        return x

    def rotate(self, q: Tensor, k: Tensor, ctx: ForwardContext) -> tuple[Tensor, Tensor]:
        """Queries and keys (B, H, T, D) -> the same shapes."""
        return q, k

    def bias(self, queries: int, cached: int, like: Tensor) -> Tensor | None:
        """Bias that is added to the scores: (H, T, S), or None."""
        return None

    def gather(self, at: Tensor, length: int) -> tuple[Tensor, ...]:
        """What `rotate` and `embed` need for the positions ``at``, (T,) or (B, T), in a pass over ``length`` tokens
        including those in the KV cache; gathered once per pass."""
        return ()

    def build_tables(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """The buffers by name, `rows` rows each."""
        return {}

    def shared_key(self) -> Any:
        """Encodings with equal keys share one instance; None (a class may have parameters): never."""
        return None

    def settings(self) -> tuple[Any, ...]:
        """The class and all plain public attributes, those that a subclass adds too: a `shared_key` for tables that
        depend on nothing else."""
        own = {n: v for n, v in vars(self).items() if not n.startswith("_") and n not in ("training", "rows")}
        return type(self), repr(sorted(own.items()))

    def reset_buffers(self, dtype: torch.dtype | None = None, device: torch.device | None = None) -> None:
        """Recomputes the tables, for another dtype or device where given."""
        for name, old in list(self.named_buffers(recurse=False)):
            tables = self.build_tables(dtype or old.dtype, device or old.device)
            self.register_buffer(name, tables[name], persistent=False)

    def outdated(self, cached: int, length: int) -> bool:
        """Whether the keys of so many cached tokens must be recomputed when the text grows to this length."""
        return False

    def reach(self, length: int) -> None:
        """Grows the tables, to twice the length, if they hold fewer than ``length`` positions."""
        if length > self.rows and self.longest is None:
            self.rows = 2 * length
            self.reset_buffers()

    def _add_tables(self) -> None:
        dtype = torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
        for name, table in self.build_tables(dtype, torch.get_default_device()).items():
            self.register_buffer(name, table, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Position:
        """``.to()``, ``.double()``, ``.bfloat16()``: a cast table would lose digits, so it is computed again."""
        before = {name: (b.dtype, b.device) for name, b in self.named_buffers(recurse=False)}
        super()._apply(fn, recurse)
        for name, table in self.named_buffers(recurse=False):
            if (table.dtype, table.device) != before[name] and not table.is_meta:
                dtype = torch.float64 if table.dtype == torch.float64 else torch.float32
                self.reset_buffers(dtype, table.device)
                break
        return self


class NoPosition(Position):
    """No position encoding (NoPE): the causal mask alone tells the order (Kazemnejad et al. 2023, arXiv 2305.19466)."""

    def shared_key(self) -> Any:
        return (type(self),)


class Sinusoidal(Position):
    """Fixed sines and cosines added to the embeddings (Vaswani et al. 2017, section 3.5).

    Args:
        sizes: Filled in by the net.
        base: The longest wavelength is 2 pi times this.
        scale: Factor on the table; 1 is the paper's, whose embeddings are scaled by sqrt(width).
    """

    table: Tensor

    def __init__(self, sizes: Sizes, base: float = 10_000.0, scale: float = 1.0):
        super().__init__(sizes)
        if sizes.width % 2:
            raise UserError(f"Sinusoidal positions need an even width, got width {sizes.width}; make it even")
        self.width, self.base, self.scale = sizes.width, check_base(base), scale
        self._add_tables()

    def build_tables(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """(rows, C): sine and cosine alternate, as in the paper."""
        exact = has_float64(device)
        at = torch.arange(self.rows, dtype=torch.float64, device=exact)
        angles = torch.outer(at, frequencies(self.width, self.base, exact))
        table = self.scale * torch.stack((angles.sin(), angles.cos()), -1).flatten(1)
        return {"table": table.to(dtype).to(device)}

    def gather(self, at: Tensor, length: int) -> tuple[Tensor, ...]:
        return (self.table[at],)

    def embed(self, x: Tensor, ctx: ForwardContext) -> Tensor:
        return x + ctx.tables[0].to(x.dtype)

    def shared_key(self) -> Any:
        return self.settings()


class Learned(Position):
    """A learned vector for each position, added to the embeddings (GPT, Radford et al. 2018).

    Args:
        sizes: Filled in by the net; a sequence can be no longer than its ``context``.
    """

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.longest = sizes.context
        self.table = Embedding(sizes.context, sizes.width)

    def gather(self, at: Tensor, length: int) -> tuple[Tensor, ...]:
        return (self.table(at),)

    def embed(self, x: Tensor, ctx: ForwardContext) -> Tensor:
        return x + ctx.tables[0]

    def shared_key(self) -> Any:
        return (type(self),)  # two tables would be added up to what one can learn

    def reach(self, length: int) -> None:
        if length > self.rows:
            raise UserError(
                f"a sequence of {length} tokens is longer than the {self.rows} positions that this net has learned; "
                f"shorten it, or train with a larger model.net.context"
            )


class ALiBi(Position):
    """A penalty on the scores that grows linearly with distance, one slope a head
    (Press et al. 2021, arXiv 2108.12409).

    Args:
        sizes: Filled in by the net.
        max_bias: The last of H slopes is 2^-max_bias; 8 is the paper's.
    """

    slopes: Tensor

    def __init__(self, sizes: Sizes, max_bias: float = 8.0):
        super().__init__(sizes)
        if not 0 < max_bias < math.inf:
            raise UserError(f"max_bias must be above 0, got {max_bias}; the paper has 8")
        self.heads, self.max_bias = sizes.heads, max_bias
        self._add_tables()

    def build_tables(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """(H,): 2^(-max_bias i / H); a number of heads that is no power of two takes every other slope of the next."""
        whole = 2 ** math.floor(math.log2(self.heads))
        slopes = [2 ** (-self.max_bias * (i + 1) / whole) for i in range(whole)]
        between = [2 ** (-self.max_bias * (i + 1) / (2 * whole)) for i in range(0, 2 * whole, 2)]
        slopes += between[: self.heads - whole]
        return {"slopes": torch.tensor(slopes, dtype=dtype, device=device)}

    def bias(self, queries: int, cached: int, like: Tensor) -> Tensor | None:
        return -self.slopes[:, None, None] * distances(queries, cached, like.device)

    def shared_key(self) -> Any:
        return self.settings()

    def reach(self, length: int) -> None:
        """Slopes do not depend on the length."""


def frequencies(size: int, base: float, device: torch.device) -> Tensor:
    """(size / 2,) in float64: base^(-2 i / size), how fast the angle of each pair of dimensions grows."""
    return base ** (-torch.arange(0, size, 2, dtype=torch.float64, device=device) / size)


def check_base(base: float) -> float:
    """The base of `frequencies`, refused where the angles would be no numbers or grow the wrong way."""
    if not 1 < base < math.inf:
        raise UserError(f"base must be above 1, got {base}; leave it out for 10000")
    return base


def has_float64(device: torch.device) -> torch.device:
    """The device itself, or the CPU where it cannot compute in float64."""
    return torch.device("cpu") if device.type == "mps" else device
