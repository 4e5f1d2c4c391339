"""Attention against a plain softmax written out, and the refusals of its constructor."""

import pytest
import torch
from torch import Tensor

from lit_gpt.model import GPT
from lit_gpt.nn import AttentionMask, LayerNorm, RMSNorm, RoPE, SelfAttention, Sizes, attend

CAUSAL = AttentionMask.build(12)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("window", [None, 1, 3, 100])
def test_self_attention_equals_explicit_softmax(kv_heads: int, window: int | None) -> None:
    torch.manual_seed(0)
    net = GPT(50, width=32, depth=1, heads=4, context=12, attention=lambda s: SelfAttention(s, kv_heads, window=window))
    layer = net.double().blocks[0].attention
    x = torch.randn(2, 12, 32, dtype=torch.float64)
    seen = {}
    layer.register_forward_pre_hook(lambda _, args: seen.update(ctx=args[1]))
    net(torch.zeros(2, 12, dtype=torch.long))
    y = layer(x, seen["ctx"])

    def heads(t: torch.Tensor, n: int) -> torch.Tensor:
        return t.view(2, 12, n, 8).transpose(1, 2)

    q, k, v = heads(layer.query(x), 4), heads(layer.key(x), kv_heads), heads(layer.value(x), kv_heads)
    k, v = (t.repeat_interleave(4 // kv_heads, 1) for t in (k, v))
    scores = q @ k.transpose(-1, -2) / 8**0.5
    for i in range(12):
        for j in range(12):
            if j > i or (window is not None and i - j >= window):
                scores[:, :, i, j] = float("-inf")
    expected = layer.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(2, 12, 32))
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)


def one_layer(**options) -> tuple[SelfAttention, Tensor, dict]:
    """A layer in float64 with weights away from zero, its input, and the ctx it was called with."""
    net = GPT(50, width=32, depth=1, heads=4, context=12, attention=lambda s: SelfAttention(s, **options), seed=1)
    layer = net.double().blocks[0].attention
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    seen = {}
    layer.register_forward_pre_hook(lambda _, args: seen.update(ctx=args[1]))
    net(torch.randint(50, (2, 12)))
    return layer, torch.randn(2, 12, 32, dtype=torch.float64), seen


@pytest.mark.parametrize("norm", [RMSNorm, LayerNorm])
def test_qk_norm_over_heads_is_applied_before_the_split(norm: type) -> None:
    layer, x, seen = one_layer(qk_norm=norm, qk_norm_over="heads", kv_heads=2)
    assert layer.query_norm.weight.shape == (32,) and layer.key_norm.weight.shape == (16,)
    split = {"query": 4, "key": 2, "value": 2}
    q, k, v = (getattr(layer, name)(x) for name in split)
    q, k = layer.query_norm(q), layer.key_norm(k)
    q, k, v = (t.view(2, 12, n, 8).transpose(1, 2) for t, n in zip((q, k, v), split.values(), strict=True))
    expected = layer.out(attend(q, k, v, CAUSAL).transpose(1, 2).reshape(2, 12, 32))
    torch.testing.assert_close(layer(x, seen["ctx"]), expected, rtol=0, atol=1e-12)


def test_value_embeddings_are_mixed_into_values() -> None:
    layer, x, seen = one_layer(value_embedding=True, kv_heads=2)
    ids = seen["ctx"].ids
    a, b = layer.value_embedding.factors
    mixed = a * layer.value(x) + b * layer.value_embedding.table.weight[ids]
    q, k, v = (t.view(2, 12, -1, 8).transpose(1, 2) for t in (layer.query(x), layer.key(x), mixed))
    expected = layer.out(attend(q, k, v, CAUSAL).transpose(1, 2).reshape(2, 12, 32))
    torch.testing.assert_close(layer(x, seen["ctx"]), expected, rtol=0, atol=1e-12)
    fresh = GPT(50, attention=lambda s: SelfAttention(s, value_embedding=True)).blocks[0].attention
    assert fresh.value_embedding.factors.tolist() == [0.5, 0.5]


def test_bias_and_out_bias_are_independent() -> None:
    sizes = Sizes(width=32, heads=4, depth=2, context=16, vocab_size=50, head_size=8)
    for bias in (False, True):
        for out_bias in (None, False, True):
            layer = SelfAttention(sizes, bias=bias, out_bias=out_bias)
            assert all((linear.bias is not None) == bias for linear in (layer.query, layer.key, layer.value))
            assert (layer.out.bias is not None) == (bias if out_bias is None else out_bias)


def test_sinks_start_like_an_orthogonal_key() -> None:
    layer = GPT(50, attention=lambda s: SelfAttention(s, sinks=True)).blocks[0].attention
    assert layer.sinks.weight.tolist() == [0.0] * 4
    q = torch.zeros(1, 4, 3, 8)
    v = torch.ones(1, 4, 3, 8)
    expected = torch.tensor([1 / 2, 2 / 3, 3 / 4]).view(1, 1, 3, 1).expand(1, 4, 3, 8)
    torch.testing.assert_close(attend(q, q, v, AttentionMask.build(3), sinks=layer.sinks.weight), expected)


def test_dropout_acts_in_training_only() -> None:
    net = GPT(50, dropout=0.5)
    ids = torch.randint(50, (1, 16))
    assert not torch.equal(net.train()(ids), net(ids))
    assert torch.equal(net.eval()(ids), net(ids))
    assert GPT(50, dropout=0.5, attention=lambda s: SelfAttention(s, dropout=0.0)).blocks[0].attention.dropout == 0.0


def test_scale_multiplies_the_scores() -> None:
    q, k, v = torch.randn(3, 1, 2, 5, 8).unbind(0)
    mask = AttentionMask.build(5)
    torch.testing.assert_close(attend(q, k, v, mask, scale=2.0), attend(q * 2.0 * 8**0.5, k, v, mask))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: SelfAttention(s, kv_heads=3), r"kv_heads 3 does not divide heads 4; choose one of \[1, 2, 4\]"),
        (lambda s: SelfAttention(s.replace(width=30)), "width 30 is not divisible by heads 4"),
        (lambda s: SelfAttention(s, window=0), "window must be at least 1"),
        (lambda s: SelfAttention(s, head_size=0), "head_size must be at least 1"),
        (lambda s: SelfAttention(s, attn_softcap=0.0), "attn_softcap must be above 0, got 0.0; leave it out for none"),
        (lambda s: SelfAttention(s, attn_softcap=float("inf")), "attn_softcap must be above 0, got inf"),
        (lambda s: SelfAttention(s, scale=-1.0), "scale must be above 0, got -1.0"),
        (lambda s: SelfAttention(s, scale=float("nan")), "scale must be above 0, got nan"),
        (lambda s: SelfAttention(s, qk_norm=RMSNorm, qk_norm_over="all"), "must be head or heads, got 'all'"),
        (lambda s: SelfAttention(s, qk_norm_over="heads"), "there is none; give qk_norm"),
        (lambda s: RoPE(s.replace(head_size=7)), "even head size, got 7"),
    ],
)
def test_attention_refuses_invalid_arguments(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(Sizes(width=32, heads=4, depth=2, context=16, vocab_size=50, head_size=8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout is a probability below 1"),
        ({"logit_softcap": 0.0}, "logit_softcap must be above 0"),
        ({"logit_softcap": float("nan")}, "logit_softcap must be above 0, got nan"),
        ({"feedforward": []}, "feedforward is an empty list; give at least one class"),
        ({"attention": 9 * [SelfAttention]}, "attention lists 9 classes for"),
        ({"width": 130}, "width 130 is not divisible by heads 4"),
    ],
)
def test_gpt_refuses_invalid_arguments(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GPT(**({"vocab_size": 50} | change))
