"""How a net knows where a token stands: added to the embedding, turned into queries and keys, or added to scores.

Knows positions only; which tokens see which is the mask's business (`frame.py`).
Letters: B batch, T queries, S keys, H heads, C width, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lit_gpt.nn.frame import Frame, Sizes, distances
from lit_gpt.nn.linear import Embedding


class Position(nn.Module):
    """Base of the position encodings, and the net without any: three places to act, each doing nothing here.

    Tables are buffers that are computed in float64, kept in float32 (float64 in a float64 net, never less than
    float32), not saved, and can be rebuilt (`reset_buffers`) after the net was moved from the meta device.
    """

    longest: int | None = None  # the longest sequence that it can represent, None for any

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.rows = sizes.context  # how many positions the tables hold

    def embed(self, x: Tensor, frame: Frame) -> Tensor:
        """Token embeddings (B, T, C) -> (B, T, C)."""
        return x

    def rotate(self, q: Tensor, k: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        """Queries and keys (B, H, T, D) -> the same shapes."""
        return q, k

    def bias(self, queries: int, cached: int, like: Tensor) -> Tensor | None:
        """What is added to the scores: (H, T, S), or None."""
        return None

    def gather(self, at: Tensor) -> tuple[Tensor, ...]:
        """What `rotate` and `embed` need for the positions ``at``, (T,) or (B, T); gathered once per pass."""
        return ()

    def build_tables(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """The buffers by name, `rows` rows each."""
        return {}

    def shared_key(self) -> Any:
        """Equal keys mean that one instance can serve for both; None (a class may have settings): never."""
        return None

    def reset_buffers(self, dtype: torch.dtype | None = None, device: torch.device | None = None) -> None:
        """Computes the tables anew, for another dtype or device where given."""
        for name, old in list(self.named_buffers(recurse=False)):
            tables = self.build_tables(dtype or old.dtype, device or old.device)
            self.register_buffer(name, tables[name], persistent=False)

    def reach(self, length: int) -> None:
        """Makes sure that positions up to ``length`` can be represented; tables grow to twice what is asked."""
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
    """No position encoding: order is known through the causal mask alone (Kazemnejad et al. 2023, arXiv 2305.19466)."""

    def shared_key(self) -> Any:
        """Nothing is equal to nothing."""
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
            raise ValueError(f"Sinusoidal positions need an even width, got width {sizes.width}; make it even")
        self.width, self.base, self.scale = sizes.width, base, scale
        self._add_tables()

    def build_tables(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """(rows, C): sine and cosine alternate, as in the paper."""
        angles = _angles(self.rows, self.width, self.base, device)
        return {"table": (self.scale * torch.stack((angles.sin(), angles.cos()), -1).flatten(1)).to(dtype)}

    def gather(self, at: Tensor) -> tuple[Tensor, ...]:
        """(T, C) or (B, T, C)."""
        return (self.table[at],)

    def embed(self, x: Tensor, frame: Frame) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return x + frame.tables[0].to(x.dtype)

    def shared_key(self) -> Any:
        """One table for equal settings."""
        return type(self), self.width, self.base, self.scale


class Learned(Position):
    """A learned vector for each position, added to the embeddings (GPT, Radford et al. 2018).

    Args:
        sizes: Filled in by the net; a sequence can be no longer than its ``context``.
    """

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.longest = sizes.context
        self.table = Embedding(sizes.context, sizes.width)

    def gather(self, at: Tensor) -> tuple[Tensor, ...]:
        """(T, C) or (B, T, C)."""
        return (self.table(at),)

    def embed(self, x: Tensor, frame: Frame) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return x + frame.tables[0]

    def shared_key(self) -> Any:
        """One table: two would be added up to what one can learn."""
        return (type(self),)

    def reach(self, length: int) -> None:
        """A learned table cannot grow."""
        if length > self.rows:
            raise ValueError(
                f"a sequence of {length} tokens is longer than the {self.rows} positions that this net has learned; "
                f"shorten it, or train with a larger model.net.context"
            )


class RoPE(Position):
    """Rotary positions: pairs of a head's dimensions turn by an angle that grows with the position
    (Su et al. 2021, arXiv 2104.09864), in the half-split layout of Llama and GPT-NeoX.

    Args:
        sizes: Filled in by the net.
        base: The longest wavelength is 2 pi times this.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, sizes: Sizes, base: float = 10_000.0):
        super().__init__(sizes)
        if sizes.head_size % 2:
            raise ValueError(
                f"RoPE turns pairs of dimensions and needs an even head size, got {sizes.head_size}; "
                f"change width ({sizes.width}) or heads ({sizes.heads}), or give attention an even head_size"
            )
        self.head_size, self.base = sizes.head_size, base
        self._add_tables()

    def build_tables(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """cos and sin, (rows, D / 2) each."""
        angles = _angles(self.rows, self.head_size, self.base, device)
        return {"cos": angles.cos().to(dtype), "sin": angles.sin().to(dtype)}

    def gather(self, at: Tensor) -> tuple[Tensor, ...]:
        """cos and the signed sin over the whole head: (T, D), or (B, 1, T, D) for positions (B, T)."""
        cos, sin = self.cos[at], self.sin[at]
        cos, sin = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)
        return (cos, sin) if at.ndim == 1 else (cos[:, None], sin[:, None])

    def rotate(self, q: Tensor, k: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        """(B, H, T, D) -> the same shapes and dtypes."""
        cos, sin = frame.tables
        return _turn(q, cos, sin), _turn(k, cos, sin)

    def shared_key(self) -> Any:
        """One table for equal settings."""
        return type(self), self.head_size, self.base


class ALiBi(Position):
    """A penalty on the scores that grows linearly with distance, one slope a head
    (Press et al. 2021, arXiv 2108.12409).

    Args:
        sizes: Filled in by the net.
    """

    slopes: Tensor

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.heads = sizes.heads
        self._add_tables()

    def build_tables(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """(H,): 2^(-8 i / H); heads that are no power of two take every other slope of the next power, as the paper."""
        whole = 2 ** math.floor(math.log2(self.heads))
        slopes = [2 ** (-8 * (i + 1) / whole) for i in range(whole)]
        slopes += [2 ** (-8 * (i + 1) / (2 * whole)) for i in range(0, 2 * whole, 2)][: self.heads - whole]
        return {"slopes": torch.tensor(slopes, dtype=dtype, device=device)}

    def bias(self, queries: int, cached: int, like: Tensor) -> Tensor | None:
        """(H, T, S)."""
        return -self.slopes[:, None, None] * distances(queries, cached, like.device)

    def shared_key(self) -> Any:
        """One table for equal settings."""
        return type(self), self.heads

    def reach(self, length: int) -> None:
        """Slopes know no length."""


def _angles(rows: int, size: int, base: float, device: torch.device) -> Tensor:
    """(rows, size / 2) in float64: position times base^(-2 i / size)."""
    if device.type == "mps":  # has no float64
        return _angles(rows, size, base, torch.device("cpu")).float().to(device)
    frequencies = base ** (-torch.arange(0, size, 2, dtype=torch.float64, device=device) / size)
    return torch.outer(torch.arange(rows, dtype=torch.float64, device=device), frequencies)


def _turn(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """x * cos + rotate_half(x) * sin, the minus sign of rotate_half kept in the table."""
    half = x.shape[-1] // 2
    return torch.addcmul(x * cos, x.roll(half, -1), signed_sin).to(x.dtype)
