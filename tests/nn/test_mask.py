"""The attention mask: what it hides, which kernel it takes, and that a user's own attention needs nothing else."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_gpt import nn
from lit_gpt.errors import UserError
from lit_gpt.model import GPT
from lit_gpt.nn import AttentionMask, Cache, LayerCache, Linear, Sizes
from lit_gpt.nn import mask as masks

SEGMENTS = torch.tensor([[0] * 9 + [1] * 20 + [2] * 11, [0] * 40])
BIAS = torch.zeros(4, 40, 40)
DEFAULTS: dict[str, Any] = {"queries": 40, "cached": 0, "window": None, "segments": None, "bias": None}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "FEW_QUERIES", 8)


def expected(queries: int, cached: int, window: int | None, segments: Tensor | None, bias: Tensor | None) -> Tensor:
    """(B, T, S), one comparison at a time."""
    rows = SEGMENTS if segments is not None else torch.zeros_like(SEGMENTS)
    keys = cached + queries
    return torch.tensor(
        [
            [[j <= i and (window is None or i - j < window) and bool(row[i] == row[j]) for j in range(keys)]
            for i in range(cached, keys)]
            for row in rows
        ]
    )  # fmt: skip


# Arguments of AttentionMask.build -> kind, keys that are read, and kernel: plain, with a softcap, and both on a GPU.
CASES: dict[str, tuple[dict[str, Any], str, int, str]] = {
    "causal": ({}, "causal", 40, "sdpa blockwise sdpa flex"),
    "one token": ({"queries": 1}, "full", 1, "sdpa blockwise sdpa blockwise"),
    "one token behind a cache": ({"queries": 1, "cached": 39}, "full", 40, "sdpa blockwise sdpa blockwise"),
    "few tokens behind a cache": ({"queries": 3, "cached": 37}, "dense", 40, "sdpa blockwise sdpa blockwise"),
    "window": ({"window": 5}, "window", 40, "blockwise blockwise flex flex"),
    "window as wide as the text": ({"window": 40}, "causal", 40, "sdpa blockwise sdpa flex"),
    "window over few tokens": ({"queries": 7, "window": 5}, "dense", 7, "sdpa blockwise sdpa blockwise"),
    "window behind a cache": (
        {"queries": 20, "cached": 20, "window": 5}, "window", 40, "blockwise blockwise blockwise blockwise",
    ),
    "window, one token": ({"queries": 1, "cached": 39, "window": 5}, "full", 5, "sdpa blockwise sdpa blockwise"),
    "window, few tokens": ({"queries": 3, "cached": 37, "window": 5}, "dense", 7, "sdpa blockwise sdpa blockwise"),
    "window, few packed tokens": (
        {"queries": 3, "cached": 37, "window": 5, "segments": SEGMENTS}, "dense", 7, "sdpa blockwise sdpa blockwise",
    ),
    "packed": ({"segments": SEGMENTS}, "dense", 40, "sdpa blockwise sdpa blockwise"),
    "packed window": ({"segments": SEGMENTS, "window": 5}, "window", 40, "blockwise blockwise flex flex"),
    "packed, one token": (
        {"segments": SEGMENTS, "queries": 1, "cached": 39}, "dense", 40, "sdpa blockwise sdpa blockwise",
    ),
    "bias": ({"bias": BIAS}, "dense", 40, "sdpa blockwise sdpa blockwise"),
    "bias, packed, window": (
        {"bias": BIAS, "segments": SEGMENTS, "window": 5}, "dense", 40, "sdpa blockwise sdpa blockwise",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_mask_has_its_kind_and_kernel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, kind, recent, kernels = CASES[name]
    mask = AttentionMask.build(**options if "queries" in options else {"queries": 40, **options})
    assert (mask.kind, mask.recent) == (kind, recent)
    cpu = torch.zeros(1, 4, 40, 16)
    gpu: Any = SimpleNamespace(is_cuda=True, shape=cpu.shape, dtype=cpu.dtype)
    if kind == "window" and not options.get("cached"):  # as it is built there
        object.__setattr__(mask, "blocks", object())
    found = [mask.kernel(q, softcap=softcap) for q in (cpu, gpu) for softcap in (None, 2.0)]
    assert " ".join(found) == kernels
    assert mask.kernel(cpu, sinks=torch.zeros(4)) == found[1] and mask.kernel(gpu, sinks=torch.zeros(4)) == found[3]


def test_flex_attention_is_used_where_it_is_supported() -> None:
    mask = AttentionMask("window", 40, 40, 5, 40, blocks=object())
    gpu = {"is_cuda": True, "shape": (1, 4, 40, 16), "dtype": torch.float32}
    assert mask.kernel(SimpleNamespace(**gpu)) == "flex"  # type: ignore[arg-type]
    assert mask.kernel(SimpleNamespace(**gpu), dropout=0.1) == "blockwise"  # type: ignore[arg-type]
    with torch.no_grad():
        assert mask.kernel(SimpleNamespace(**gpu)) == "blockwise"  # type: ignore[arg-type]
    for change in ({"shape": (1, 4, 40, 8)}, {"dtype": torch.float64}):
        assert mask.kernel(SimpleNamespace(**gpu | change)) == "blockwise"  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CASES)
def test_apply_hides_exactly_the_invisible_keys(name: str) -> None:
    options = DEFAULTS | CASES[name][0]
    mask = AttentionMask.build(**options)
    keys = options["cached"] + options["queries"]
    scores = torch.randn(2, 4, options["queries"], keys)
    seen = expected(**options)[:, None].expand_as(scores)
    assert torch.equal(mask.apply(scores), scores.masked_fill(~seen, float("-inf")))


class PlainAttention(nn.Attention):
    """What a user would write: a softmax over all keys, with nothing known of windows, segments, cache or bias."""

    residual = ("out",)

    def __init__(self, sizes: Sizes, window: int | None = None, kernel: bool = False):
        super().__init__(sizes)
        self.window, self.kernel = window, kernel
        self.query, self.key, self.value = (Linear(sizes.width, sizes.width) for _ in range(3))
        self.out = Linear(sizes.width, sizes.width)

    def forward(self, x: Tensor, ctx: nn.ForwardContext, cache: LayerCache | None = None) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (-1, self.head_size)).transpose(1, 2) for f in (self.query, self.key, self.value))
        q, k = ctx.position.rotate(q, k, ctx)
        if cache is not None:
            k, v = cache.append(k, v, ctx.cached)
        mask = ctx.mask(self.window)
        if self.kernel:
            y = nn.attend(q, k, v, mask)
        else:
            y = mask.apply(q @ k.mT / self.head_size**0.5).softmax(-1) @ v
        return self.out(y.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("kernel", [False, True])
@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("position", [nn.RoPE, nn.ALiBi])
@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["one", "packed"])
@pytest.mark.parametrize("cuts", [(0, 40), (0, 20, 21, 24, 40)], ids=["whole", "cached"])
def test_custom_attention_needs_only_the_mask(
    kernel: bool, window: int | None, position: type, segments: Tensor | None, cuts: tuple[int, ...]
) -> None:
    sizes: dict[str, Any] = {"vocab_size": 50, "width": 32, "depth": 2, "heads": 4, "context": 40, "seed": 1}
    new = {
        "theirs": partial(PlainAttention, window=window, kernel=kernel),
        "ours": partial(nn.SelfAttention, window=window),
    }
    results = []
    ids = torch.randint(50, (2, 40), generator=torch.Generator().manual_seed(3))
    for attention in new.values():
        net = GPT(**sizes, position=position, attention=attention).double()
        cache = Cache(2) if len(cuts) > 2 else None
        with torch.set_grad_enabled(cache is None):
            logits = [
                net(ids[:, a:b], cache=cache, segments=None if segments is None else segments[:, a:b])
                for a, b in zip(cuts, cuts[1:], strict=False)
            ]
        results.append(torch.cat(logits, 1))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)
    if len(cuts) == 2:
        for result in results:
            result.logsumexp(-1).sum().backward()


def test_undeclared_window_is_refused() -> None:
    class Undeclared(PlainAttention):
        def forward(self, x: Tensor, ctx: nn.ForwardContext, cache: LayerCache | None = None) -> Tensor:
            ctx.mask(7)
            return x

    with pytest.raises(UserError, match="window 7"):
        GPT(50, attention=Undeclared)(torch.zeros(1, 4, dtype=torch.long))
