"""What weights start from: the distributions that the papers name, and zero where they say zero."""

import math

import pytest
import torch

from lit_gpt.model import GPT
from lit_gpt.nn import MoE, ZeroProjections


def test_gpt2_init_scales_projections_by_depth() -> None:
    net = GPT(1000, width=256, depth=8, seed=1)
    block = net.blocks[3]
    for weight in (block.attention.query.weight, block.feedforward.up.weight, net.embedding.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    for weight in (block.attention.out.weight, block.feedforward.down.weight):
        assert weight.std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.02)


def test_zero_projections_start_every_block_as_the_identity() -> None:
    net = GPT(1000, width=256, tie_embeddings=False, init=ZeroProjections, seed=1)
    x = torch.randn(1, 8, 256)
    seen = {}
    block = net.blocks[0]
    block.register_forward_pre_hook(lambda _, args: seen.update(ctx=args[1]))
    net(torch.zeros(1, 8, dtype=torch.long))
    assert torch.equal(block(x, seen["ctx"])[0], x)
    assert net.head.weight.abs().max() == 0
    assert block.attention.query.weight.std().item() == pytest.approx(0.5 / 16, rel=0.02)


def test_initialization_keeps_the_global_random_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the GPUs included, which torch.manual_seed sets even before they are used."""
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    before = torch.get_rng_state()
    GPT(50, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert seeded == []


def test_weights_depend_on_the_seed_alone() -> None:
    one, two, three = GPT(50, seed=1), GPT(50, seed=1), GPT(50, seed=2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.embedding.weight, three.embedding.weight)
    torch.manual_seed(7)
    four = GPT(50)
    torch.manual_seed(7)
    torch.rand(3)
    assert torch.equal(four.embedding.weight, GPT(50).embedding.weight)  # the seed counts, not what was drawn since


def test_stacked_experts_start_as_single_matrices_do() -> None:
    net = GPT(50, width=128, depth=8, feedforward=MoE, seed=1)
    layer = net.blocks[3].feedforward
    for expert in range(layer.experts):
        assert layer.gate.weight[expert].std().item() == pytest.approx(0.02, rel=0.03)
        assert layer.up.weight[expert].std().item() == pytest.approx(0.02, rel=0.03)
        assert layer.down.weight[expert].std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.03)
    assert layer.router.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not torch.equal(layer.gate.weight[0], layer.gate.weight[1])
    zero = GPT(50, width=128, feedforward=MoE, init=ZeroProjections, seed=1).blocks[0].feedforward
    assert zero.down.weight.abs().max() == 0
    assert zero.gate.weight.std().item() == pytest.approx(0.5 / math.sqrt(128), rel=0.02)
