"""Windows, soft-caps and sinks against a plain float64 softmax with its mask written out, and against transformers."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rounding import assert_only_rounded
from torch import Tensor

from lit_gpt.model import GPT
from lit_gpt.nn import AttentionMask, Cache, RMSNorm, RoPE, SelfAttention, attend, blockwise_attention, flex
from lit_gpt.nn import mask as masks

HEADS = 4


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockwise_attention, "BLOCK", 4)
    monkeypatch.setattr(masks, "FEW_QUERIES", 8)


@pytest.fixture(params=[1, 150, blockwise_attention.SCORES])
def scores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One matrix a step, a few, and all at once."""
    monkeypatch.setattr(blockwise_attention, "SCORES", request.param)


def reference(
    q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float, softcap: float | None, sinks: Tensor | None
) -> Tensor:
    """Softmax attention as the papers write it; ``seen`` is (B, T, S)."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = torch.einsum("bhtd,bhsd->bhts", q, k) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~seen[:, None], float("-inf"))
    if sinks is not None:
        extra = sinks[None, :, None, None].expand(*scores.shape[:3], 1)
        scores = torch.cat((scores, extra), -1)
    return torch.einsum("bhts,bhsd->bhtd", scores.softmax(-1)[..., : k.shape[2]], v)


def visible(queries: int, keys: int, size: int | None, segments: Tensor) -> Tensor:
    """(B, T, S), one comparison at a time."""
    seen = torch.zeros(len(segments), queries, keys, dtype=torch.bool)
    for row in range(len(segments)):
        for i in range(queries):
            at = keys - queries + i
            for j in range(at + 1):
                near = size is None or at - j < size
                seen[row, i, j] = near and bool(segments[row, at] == segments[row, j])
    return seen


def drawn(batch: int, queries: int, keys: int, kv_heads: int, size: int) -> list[Tensor]:
    """Queries, keys, values and sinks in float64, laid out in memory as projections leave them."""
    shapes = ((queries, HEADS), (keys, kv_heads), (keys, kv_heads))
    tensors = [torch.randn(batch, n, h, size, dtype=torch.float64).transpose(1, 2) for n, h in shapes]
    return [t.requires_grad_() for t in (*tensors, torch.randn(HEADS, dtype=torch.float64))]


@pytest.mark.usefixtures("scores")
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(1, 33), st.one_of(st.none(), st.integers(1, 36)), st.sampled_from([1, 2, 4]), st.integers(0, 21),
    st.booleans(), st.sampled_from([None, 0.7]), st.booleans(), st.sampled_from([3, 8]), st.sampled_from([None, 0.4]),
)  # fmt: skip
def test_blockwise_attention_equals_explicit_softmax(
    queries: int, size: int | None, kv_heads: int, cached: int, segmented: bool, softcap: float | None,
    sunk: bool, head_size: int, scale: float | None,
) -> None:  # fmt: skip
    torch.manual_seed(queries)
    keys = cached + queries
    q, k, v, sinks = inputs = drawn(2, queries, keys, kv_heads, head_size)
    segments = (torch.rand(2, keys) < 0.2).cumsum(1) if segmented else torch.zeros(2, keys, dtype=torch.long)
    mask = AttentionMask.build(queries, cached, size, segments if segmented else None)
    used = inputs if sunk else inputs[:3]
    y = attend(q, k, v, mask, 0.0, scale, softcap, sinks if sunk else None)
    seen = visible(queries, keys, size, segments)
    expected = reference(q, k, v, seen, scale or head_size**-0.5, softcap, sinks if sunk else None)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    towards = torch.randn_like(y)
    for ours, theirs in zip(
        torch.autograd.grad(y, used, towards), torch.autograd.grad(expected, used, towards), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.usefixtures("scores")
def test_steps_cover_every_query_of_every_row_once() -> None:
    for queries, cached, kv_heads, size in (
        (33, 0, 4, 5),
        (33, 7, 2, 5),
        (40, 0, 1, 40),
        (9, 30, 4, 3),
        (70, 0, 4, 36),
    ):
        q, k, v, _ = drawn(2, queries, cached + queries, kv_heads, 3)
        blocks = blockwise_attention._Blocks(q, k, v, None, None, None, None, None, size, cached, 0.0, 1.0, None)
        seen = torch.zeros(2 * kv_heads, 1, queries, 1)
        for step in blocks:
            blocks.at_queries(seen, step).add_(1)
            matrices = step.rows * step.blocks
            assert (
                matrices == 1 or matrices * HEADS // kv_heads * step.queries * step.keys <= blockwise_attention.SCORES
            )
            assert step.rows == 1 or step.blocks == 1
        assert torch.equal(seen, torch.ones_like(seen))


def test_learned_bias_gets_its_gradient() -> None:
    q, k, v, sinks = drawn(2, 13, 13, 2, 8)
    bias = torch.randn(HEADS, 13, 13, dtype=torch.float64, requires_grad=True)
    seen = visible(13, 13, None, torch.zeros(2, 13))
    y = attend(q, k, v, AttentionMask.build(13, bias=bias), softcap=2.0, sinks=sinks)
    k, v = (x.repeat_interleave(2, 1) for x in (k, v))
    scores = 2 * torch.tanh(q @ k.mT / 8**0.5 / 2) + bias
    scores = torch.cat(
        (scores.masked_fill(~seen[:, None], float("-inf")), sinks.view(1, 4, 1, 1).expand(2, 4, 13, 1)), -1
    )
    expected = scores.softmax(-1)[..., :-1] @ v
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    (ours,), (theirs,) = (torch.autograd.grad(x.square().sum(), bias) for x in (y, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sunk", [False, True])
def test_attention_dropout_keeps_mean_and_gradients(sunk: bool) -> None:
    q, k, v, sinks = drawn(1, 11, 11, 2, 3)
    mask = AttentionMask.build(11, window=5)

    def pass_(x: Tensor, rate: float) -> Tensor:
        torch.manual_seed(1)
        return attend(q + x, k, v, mask, rate, None, None, sinks if sunk else None)

    assert not torch.equal(pass_(0.0 * q, 0.5), pass_(0.0 * q, 0.0))
    assert torch.equal(pass_(0.0 * q, 0.5), pass_(0.0 * q, 0.5))
    many = torch.stack([attend(q, k, v, mask, 0.3, None, None, sinks) for _ in range(400)]).mean(0)
    torch.testing.assert_close(many, attend(q, k, v, mask, 0.0, None, None, sinks), rtol=0, atol=0.4)
    x = torch.zeros_like(q, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pass_(x, 0.5), (x,))


@pytest.mark.parametrize("options", [{"window": 5}, {"attn_softcap": 1.0}, {"sinks": True, "window": 5}], ids=str)
def test_activation_checkpointing_repeats_dropout(options: dict[str, Any]) -> None:
    ids = torch.randint(50, (2, 16))
    results = []
    for activation_checkpointing in (False, True):
        net = GPT(
            50,
            seed=1,
            dropout=0.3,
            activation_checkpointing=activation_checkpointing,
            attention=lambda s: SelfAttention(s, **options),
        ).train()
        torch.manual_seed(2)
        net(ids).logsumexp(-1).sum().backward()
        results.append([p.grad for p in net.parameters()])
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize("options", [{"window": 5}, {"attn_softcap": 1.0}, {"sinks": True, "window": 5}], ids=str)
def test_one_graph_serves_all_lengths(options: dict[str, Any]) -> None:
    torch._dynamo.reset()
    net = GPT(50, seed=1, context=64, position=RoPE, attention=lambda s: SelfAttention(s, **options)).train()
    graphs = []

    def count(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(net, backend=count, fullgraph=True, dynamic=True)
    for length in (16, 21, 40):
        ids = torch.randint(50, (2, length))
        torch.testing.assert_close(compiled(ids), net(ids))
    assert len(graphs) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_bf16_and_float16_are_close_to_float64(dtype: torch.dtype) -> None:
    q, k, v, sinks = drawn(2, 19, 19, 2, 8)
    mask = AttentionMask.build(19, window=6)
    y = attend(q, k, v, mask, 0.0, None, 3.0, sinks)
    half = [x.detach().to(dtype).requires_grad_() for x in (q, k, v, sinks)]
    z = attend(*half[:3], mask, 0.0, None, 3.0, half[3])
    assert z.dtype == dtype
    torch.testing.assert_close(z.double(), y, rtol=0.02, atol=0.02)
    for one, two in zip(
        torch.autograd.grad(z.sum(), half), torch.autograd.grad(y.sum(), (q, k, v, sinks)), strict=True
    ):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), two, rtol=0.05, atol=0.05)


def test_bf16_autocast_is_close_to_float32() -> None:
    ids = torch.randint(50, (2, 16))
    options = {"window": 5, "qk_norm": RMSNorm, "sinks": True, "attn_softcap": 5.0, "value_embedding": True}
    net = GPT(50, seed=1, position=RoPE, attention=lambda s: SelfAttention(s, **options))
    with torch.autocast("cpu", torch.bfloat16):
        y = net(ids)
        y.float().logsumexp(-1).sum().backward()
    torch.testing.assert_close(y.float(), net(ids), rtol=0.05, atol=0.05)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())


@torch.no_grad()
def test_sliding_window_reads_only_its_keys_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    net = GPT(50, context=64, position=RoPE, attention=lambda s: SelfAttention(s, window=5), depth=1).eval()
    ids = torch.randint(50, (2, 50))
    cache = Cache(1)
    net(ids[:, :40], cache=cache)
    cache.layers[0].k[:, :, :34] = float("nan")  # 41 - 5 = 36 is the first that the next query sees
    y = net(ids[:, 40:41], cache=cache)
    z = net(ids[:, 41:43], cache=cache)
    assert_only_rounded(torch.cat((y, z), 1), net(ids[:, :43])[:, 40:], net.sizes.depth, net.sizes.width)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("size", [None, 3, 130, 200])
@pytest.mark.parametrize("segmented", [False, True])
@pytest.mark.parametrize("queries", [140, 256, 301])
def test_flex_attention_equals_blockwise_attention(
    size: int | None, segmented: bool, queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v, sinks = (x.detach() for x in drawn(2, queries, queries, 2, 16))
    segments = (torch.rand(2, queries) < 0.02).cumsum(1) if segmented else None
    reach = size or queries
    blocks = flex.block_mask(queries, reach, segments, torch.device("cpu"))
    distance = torch.arange(384)[:, None] - torch.arange(384)
    seen = ((distance >= 0) & (distance < reach)).view(3, 128, 3, 128).any(3).any(1)
    rows = -(-queries // 128)
    assert torch.equal(blocks.to_dense()[0, 0].bool(), seen[:rows, :rows])
    monkeypatch.setattr(flex, "_compiled", lambda: flex.flex_attention)
    for softcap, own in ((None, None), (0.9, sinks)):
        y = flex.flexible(q, k, v, blocks, 0.3, softcap, own)
        expected = blockwise_attention.blockwise(q, k, v, reach, segments, None, 0.0, 0.3, softcap, own)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "options", [{"window": 50}, {"attn_softcap": 1.0}, {"sinks": True, "window": 50, "attn_softcap": 2.0}]
)
def test_gpu_equals_cpu(options: dict[str, Any]) -> None:
    def net(device: str) -> GPT:
        return GPT(50, 128, 2, 4, 400, lambda s: SelfAttention(s, kv_heads=2, **options), seed=1).to(device).train()

    ids = torch.randint(50, (2, 400))
    one, two = net("cpu"), net("cuda")
    segments = (torch.rand(2, 400) < 0.01).cumsum(1)
    for own in (None, segments):
        y = one(ids, segments=own)
        z = two(ids.cuda(), segments=None if own is None else own.cuda())
        torch.testing.assert_close(z.cpu(), y, rtol=1e-3, atol=1e-3)
        y.logsumexp(-1).mean().backward()
        z.logsumexp(-1).mean().backward()
    for p, r in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(r.grad.cpu(), p.grad, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("size", [None, 6])
def test_attn_softcap_equals_transformers_gemma2(size: int | None) -> None:
    from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

    q, k, v, _ = drawn(2, 23, 23, 2, 8)
    layer: Any = SimpleNamespace(num_key_value_groups=2, training=False, head_dim=8)
    hidden = -1e30 * ~visible(23, 23, size, torch.zeros(2, 23))[:, None]
    theirs, _ = eager_attention_forward(layer, q, k, v, hidden, dropout=0.0, scaling=0.3, softcap=1.5)
    mask = AttentionMask.build(23, window=size)
    # its softmax is in float32
    assert_only_rounded(theirs.transpose(1, 2).float(), attend(q, k, v, mask, 0.0, 0.3, 1.5), depth=1, width=23)


@pytest.mark.parametrize("size", [None, 6])
def test_attention_sinks_equal_transformers_gpt_oss(size: int | None) -> None:
    from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward

    q, k, v, sinks = drawn(2, 23, 23, 2, 8)
    layer: Any = SimpleNamespace(num_key_value_groups=2, training=False, sinks=sinks)
    hidden = -1e30 * ~visible(23, 23, size, torch.zeros(2, 23))[:, None]
    theirs, _ = eager_attention_forward(layer, q, k, v, hidden, scaling=0.3, dropout=0.0)
    mask = AttentionMask.build(23, window=size)
    assert_only_rounded(theirs.transpose(1, 2).float(), attend(q, k, v, mask, 0.0, 0.3, sinks=sinks), depth=1, width=23)
