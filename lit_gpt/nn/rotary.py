"""Rotary position embedding (RoPE) and its scalings for long contexts: linear, dynamic NTK, Llama 3, YaRN, LongRoPE.

Letters: B batch, T queries, H heads, D head size, R rotary_dim (R <= D), R / 2 frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from lit_gpt.errors import UserError
from lit_gpt.nn.context import ForwardContext
from lit_gpt.nn.position import Position, check_base, frequencies, has_float64
from lit_gpt.nn.sizes import Sizes


class Scaling:
    """Base of the scalings of rotary frequencies, and no scaling at all.

    Attributes:
        renews: Whether generation recomputes the KV cache when the stage changes, so that all keys are rotated alike.
    """

    renews: ClassVar[bool] = False

    def scale(self, plain: Tensor, base: float, length: int) -> Tensor:
        """Frequencies (R / 2,) in float64 -> the scaled ones.

        Args:
            plain: base^(-2 i / R), what they are without scaling.
            base: The base of RoPE.
            length: Tokens that the pass goes over, those in the cache among them.
        """
        return plain

    def stage(self, length: int) -> int:
        """Lengths of equal stage have equal frequencies; one number where they do not depend on the length.

        The length is that of the whole pass, padding and other segments of a row included.
        """
        return 0

    def gain(self, context: int) -> float:
        """Factor on cos and sin, whose square is a factor on the scores, in a net made for so many tokens."""
        return 1.0

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in vars(self).items())
        return f"{type(self).__module__}.{type(self).__qualname__}({settings})"


class LinearScaling(Scaling):
    """Position interpolation (Chen et al. 2023, arXiv 2306.15595): all frequencies are divided by one factor.

    Args:
        factor: How many times longer the context becomes.
    """

    def __init__(self, factor: float):
        self.factor = _at_least_one("factor", factor)

    def scale(self, plain: Tensor, base: float, length: int) -> Tensor:
        return plain / self.factor


class DynamicNTK(Scaling):
    """NTK-aware scaling that grows with the text (Peng et al. 2023, arXiv 2309.00071, section 3.3): the base becomes
    larger, so that low frequencies are interpolated and the highest stays. Keys in a KV cache keep their rotation.

    Args:
        factor: How fast it grows beyond the original context.
        original_context: Tokens that the net was trained with, up to which nothing is scaled.
    """

    def __init__(self, factor: float, original_context: int):
        self.factor = _at_least_one("factor", factor)
        self.original_context = _context(original_context)

    def scale(self, plain: Tensor, base: float, length: int) -> Tensor:
        stretch = self.factor * self.stage(length) / self.original_context - (self.factor - 1)
        pairs = plain.shape[0]
        # base times stretch^(R / (R - 2)) divides the last frequency by stretch and leaves the first.
        exponents = torch.arange(pairs, dtype=plain.dtype, device=plain.device) / max(pairs - 1, 1)
        return plain * stretch**-exponents

    def stage(self, length: int) -> int:
        """Each length beyond the original context is a stage of its own."""
        return max(int(length), self.original_context)


class Llama3Scaling(Scaling):
    """Llama 3.1's (Grattafiori et al. 2024, arXiv 2407.21783): low frequencies are divided by a factor, high ones
    stay, those between are mixed.

    Args:
        factor: What low frequencies are divided by.
        low_freq_factor: Frequencies with fewer rotations than this in the original context are low; Llama has 1.
        high_freq_factor: Those with more rotations than this are high; Llama has 4.
        original_context: Tokens that the net was trained with.
    """

    def __init__(self, factor: float, low_freq_factor: float, high_freq_factor: float, original_context: int):
        if not 0 < low_freq_factor < high_freq_factor:
            raise UserError(
                f"low_freq_factor must be above 0 and below high_freq_factor, got {low_freq_factor} and "
                f"{high_freq_factor}; Llama has 1 and 4"
            )
        self.factor = _at_least_one("factor", factor)
        self.low_freq_factor, self.high_freq_factor = low_freq_factor, high_freq_factor
        self.original_context = _context(original_context)

    def scale(self, plain: Tensor, base: float, length: int) -> Tensor:
        turns = self.original_context * plain / (2 * math.pi)
        high = ((turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)).clamp(0, 1)
        return plain * (high + (1 - high) / self.factor)


class YaRN(Scaling):
    """YaRN (Peng et al. 2023, arXiv 2309.00071): interpolation by parts, and scores that grow with the factor.

    Args:
        factor: How many times longer the context becomes.
        original_context: Tokens that the net was trained with.
        beta_fast: Frequencies with more rotations than this in the original context stay.
        beta_slow: Those with fewer rotations than this are divided by the factor; between the two is a ramp.
        attention_factor: Factor on cos and sin. None: 0.1 ln(factor) + 1, or what the two mscales say.
        mscale: With mscale_all_dim (DeepSeek): the factor on cos and sin is (0.1 mscale ln(factor) + 1) over the same
            of mscale_all_dim.
        mscale_all_dim: See mscale.
        truncate: Whether the ramp begins and ends at whole dimensions.
    """

    def __init__(
        self,
        factor: float,
        original_context: int,
        beta_fast: float = 32.0,
        beta_slow: float = 1.0,
        attention_factor: float | None = None,
        mscale: float | None = None,
        mscale_all_dim: float | None = None,
        truncate: bool = True,
    ):
        if not 0 < beta_slow <= beta_fast:
            raise UserError(
                f"beta_slow must be above 0 and at most beta_fast, got {beta_slow} and {beta_fast}; "
                f"the paper has 1 and 32"
            )
        if (mscale is None) != (mscale_all_dim is None):
            raise UserError(
                f"mscale and mscale_all_dim belong together, got {mscale} and {mscale_all_dim}; give both or neither"
            )
        self.factor, self.original_context = _at_least_one("factor", factor), _context(original_context)
        self.beta_fast, self.beta_slow, self.truncate = beta_fast, beta_slow, truncate
        self.attention_factor, self.mscale, self.mscale_all_dim = _gain(attention_factor), mscale, mscale_all_dim

    def scale(self, plain: Tensor, base: float, length: int) -> Tensor:
        pairs = plain.shape[0]
        low, high = self._pair(self.beta_fast, pairs, base), self._pair(self.beta_slow, pairs, base)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * pairs - 1)  # the dimensions' bound, not the pairs': as it was published
        index = torch.arange(pairs, dtype=plain.dtype, device=plain.device)
        slow = ((index - low) / (high - low if high != low else 0.001)).clamp(0, 1)
        return plain * (1 - slow + slow / self.factor)

    def gain(self, context: int) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale is not None and self.mscale_all_dim is not None:
            return self._temperature(self.mscale) / self._temperature(self.mscale_all_dim)
        return self._temperature(1.0)

    def _pair(self, turns: float, pairs: int, base: float) -> float:
        """The (fractional) index of the pair that has so many rotations in the original context."""
        return pairs * math.log(self.original_context / (turns * 2 * math.pi)) / math.log(base)

    def _temperature(self, mscale: float) -> float:
        """Equation 22 of the paper, on cos and sin."""
        return 0.1 * mscale * math.log(self.factor) + 1.0


class LongRoPE(Scaling):
    """LongRoPE (Ding et al. 2024, arXiv 2402.13753): each frequency is divided by its own factor, from one list for
    texts within the original context and another for longer texts. Generation past it recomputes the KV cache.

    Args:
        short_factor: R / 2 factors up to the original context.
        long_factor: R / 2 factors beyond it.
        original_context: Tokens that the net was trained with.
        attention_factor: Factor on cos and sin. None: sqrt(1 + ln(context / original_context) / ln(original_context)),
            the context being the net's.
    """

    renews = True

    def __init__(
        self,
        short_factor: list[float],
        long_factor: list[float],
        original_context: int,
        attention_factor: float | None = None,
    ):
        for name, factors in (("short_factor", short_factor), ("long_factor", long_factor)):
            if not factors or min(factors) <= 0:
                raise UserError(f"{name} must be a list of numbers above 0, got {factors}")
        self.short_factor, self.long_factor = list(short_factor), list(long_factor)
        self.original_context = _context(original_context)
        self.attention_factor = _gain(attention_factor)

    def scale(self, plain: Tensor, base: float, length: int) -> Tensor:
        for name, factors in (("short_factor", self.short_factor), ("long_factor", self.long_factor)):
            if len(factors) != plain.shape[0]:
                raise UserError(
                    f"{name} has {len(factors)} numbers; RoPE rotates {plain.shape[0]} pairs, give one for each"
                )
        factors = self.long_factor if self.stage(length) else self.short_factor
        return plain / torch.tensor(factors, dtype=plain.dtype, device=plain.device)

    def stage(self, length: int) -> int:
        """0 within the original context, 1 beyond."""
        return 1 if length > self.original_context else 0

    def gain(self, context: int) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        longer = max(context / self.original_context, 1.0)
        return math.sqrt(1 + math.log(longer) / math.log(self.original_context))


class RoPE(Position):
    """Rotary position embedding: pairs of a head's dimensions are rotated by an angle that grows with the position
    (Su et al. 2021, arXiv 2104.09864), in the half-split layout of Llama and GPT-NeoX.

    Args:
        sizes: Filled in by the net.
        base: The longest wavelength is 2 pi times this.
        partial_rotary_factor: Partial rotary factor: share of a head's dimensions that are rotated, the first ones
            (GPT-NeoX, Phi).
        scaling: How frequencies are scaled for texts longer than those trained with: LinearScaling, DynamicNTK,
            Llama3Scaling, YaRN, LongRoPE or a class of yours. None: they are not.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        sizes: Sizes,
        base: float = 10_000.0,
        partial_rotary_factor: float = 1.0,
        scaling: Callable[[], Scaling] | None = None,
    ):
        super().__init__(sizes)
        if not 0 < partial_rotary_factor <= 1:
            raise UserError(
                f"partial_rotary_factor must be above 0 and at most 1, got {partial_rotary_factor}; "
                f"use NoPosition for no rotation"
            )
        self.head_size, self.base, self.partial_rotary_factor = sizes.head_size, check_base(base), partial_rotary_factor
        self.rotary_dim = int(partial_rotary_factor * sizes.head_size)
        if self.rotary_dim % 2 or not self.rotary_dim:
            share = "; change"
            if partial_rotary_factor < 1:
                share = f", {partial_rotary_factor} of which is {self.rotary_dim}; change partial_rotary_factor"
            raise UserError(
                f"RoPE rotates pairs of dimensions and needs an even head size, got {sizes.head_size}{share} "
                f"width ({sizes.width}) or heads ({sizes.heads}), or give attention an even head_size"
            )
        self.context = sizes.context
        self.scaling = scaling() if scaling else Scaling()
        self._rotate = _rotate if self.rotary_dim == self.head_size else _rotate_first
        self._add_tables()

    def build_tables(self, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
        """cos and sin, (rows, R / 2) each, for passes over as many tokens as the net is made for."""
        cos, sin = self._angles(torch.arange(self.rows, device=device), self.context, dtype)
        return {"cos": cos, "sin": sin}

    def gather(self, at: Tensor, length: int) -> tuple[Tensor, ...]:
        """cos and the signed sin over the rotary dimensions: (T, R), or (B, 1, T, R) for positions (B, T)."""
        if self.scaling.stage(length) == self.scaling.stage(self.context):
            cos, sin = self.cos[at], self.sin[at]
        else:  # a table would have to be kept for each length
            cos, sin = self._angles(at, length, self.cos.dtype)
        cos, sin = torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)
        return (cos, sin) if at.ndim == 1 else (cos[:, None], sin[:, None])

    def rotate(self, q: Tensor, k: Tensor, ctx: ForwardContext) -> tuple[Tensor, Tensor]:
        cos, sin = ctx.tables
        return self._rotate(q, cos, sin), self._rotate(k, cos, sin)

    def outdated(self, cached: int, length: int) -> bool:
        """Whether the scaling's stage has changed since the keys were rotated."""
        return self.scaling.renews and self.scaling.stage(cached) != self.scaling.stage(length)

    def shared_key(self) -> Any:
        return self.settings()

    def extra_repr(self) -> str:
        scaling = f", {self.scaling}" if type(self.scaling) is not Scaling else ""
        return f"base={self.base}, rotary_dim={self.rotary_dim}{scaling}"

    def _angles(self, at: Tensor, length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin (..., R / 2) of positions (...), computed in float64."""
        exact = has_float64(at.device)
        scaled = self.scaling.scale(frequencies(self.rotary_dim, self.base, exact), self.base, length)
        angles = at.to(exact).to(torch.float64)[..., None] * scaled
        gain = self.scaling.gain(self.context)
        return (gain * angles.cos()).to(dtype).to(at.device), (gain * angles.sin()).to(dtype).to(at.device)


def _rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """x * cos + rotate_half(x) * sin, the minus sign of rotate_half kept in the table."""
    half = x.shape[-1] // 2
    return torch.addcmul(x * cos, x.roll(half, -1), signed_sin).to(x.dtype)


def _rotate_first(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Rotates the first dimensions only."""
    size = cos.shape[-1]
    return torch.cat((_rotate(x[..., :size], cos, signed_sin), x[..., size:]), -1)


def _at_least_one(name: str, value: float) -> float:
    if not 1 <= value < math.inf:
        raise UserError(f"{name} must be at least 1, got {value}; leave scaling out for none")
    return value


def _context(original_context: int) -> int:
    if original_context < 2:
        raise UserError(f"original_context must be at least 2, got {original_context}; give that of the training")
    return original_context


def _gain(attention_factor: float | None) -> float | None:
    if attention_factor is not None and not 0 < attention_factor < math.inf:
        raise UserError(f"attention_factor must be above 0, got {attention_factor}; leave it out for the paper's")
    return attention_factor
