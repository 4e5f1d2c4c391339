"""Position encodings against the formulas of their papers, computed another way."""

import math
from functools import partial

import pytest
import torch

from lit_gpt.model import GPT
from lit_gpt.nn import ALiBi, Learned, NoPosition, Position, RoPE, SelfAttention, Sinusoidal, Sizes
from lit_gpt.nn.context import forward_contexts


def sizes(**changes: int) -> Sizes:
    return Sizes(width=32, heads=4, depth=2, context=16, vocab_size=50, head_size=8).replace(**changes)


def test_rope_is_a_rotation_of_complex_pairs() -> None:
    rope = RoPE(sizes()).double()
    q = torch.randn(2, 4, 16, 8, dtype=torch.float64)
    at = torch.arange(16)

    class ForwardContext:
        tables = rope.gather(at, 16)

    turned, _ = rope.rotate(q, q, ForwardContext)
    pairs = torch.complex(q[..., :4], q[..., 4:])
    angles = at[:, None] * torch.tensor([10_000 ** (-2 * i / 8) for i in range(4)], dtype=torch.float64)
    expected = pairs * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(turned, torch.cat((expected.real, expected.imag), -1), rtol=0, atol=1e-12)


def test_sinusoidal_is_the_papers_table() -> None:
    table = Sinusoidal(sizes()).double().table
    for position, i in ((0, 0), (3, 1), (15, 15)):
        angle = position / 10_000 ** (2 * i / 32)
        assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-12)
        assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_alibi_slopes_are_the_papers() -> None:
    eight = ALiBi(sizes(heads=8)).slopes
    torch.testing.assert_close(eight, torch.tensor([2.0**-i for i in range(1, 9)]))
    twelve = ALiBi(sizes(heads=12)).slopes
    torch.testing.assert_close(twelve[:8], eight)
    torch.testing.assert_close(twelve[8:], torch.tensor([2.0 ** (-(2 * i + 1) / 2) for i in range(4)]))
    torch.testing.assert_close(ALiBi(sizes(heads=4), max_bias=4.0).slopes, torch.tensor([2.0**-i for i in range(1, 5)]))
    component = [ALiBi, partial(ALiBi, max_bias=8.0), partial(ALiBi, max_bias=4.0)]
    assert GPT(50, depth=3, position=component).position_of == [0, 0, 1]
    with pytest.raises(ValueError, match="max_bias must be above 0, got 0"):
        ALiBi(sizes(), max_bias=0.0)


@pytest.mark.parametrize("position", [RoPE, Sinusoidal])
def test_tables_grow_and_lose_no_digits(position: type) -> None:
    net = GPT(50, context=8, position=position).eval()
    longer = GPT(50, context=64, position=position).eval()
    longer.load_state_dict(net.state_dict())
    ids = torch.randint(50, (1, 40))
    torch.testing.assert_close(net(ids), longer(ids), rtol=0, atol=1e-6)
    name, table = next(net.positions[0].named_buffers())
    net.bfloat16()
    kept = dict(net.positions[0].named_buffers())[name]
    assert kept.dtype == torch.float32 and torch.equal(kept, table)
    net.double()
    exact = dict(net.positions[0].named_buffers())[name]
    assert exact.dtype == torch.float64 and (exact - table).abs().max() > 0  # computed anew, not cast


def test_learned_positions_refuse_longer_sequences() -> None:
    net = GPT(50, context=8, position=Learned)
    assert net.longest == 8
    with pytest.raises(ValueError, match="9 tokens is longer than the 8 positions"):
        net(torch.zeros(1, 9, dtype=torch.long))


def test_equal_tables_are_shared() -> None:
    net = GPT(50, depth=6, position=[RoPE, partial(RoPE, base=500.0), partial(RoPE, base=10_000.0)])
    assert net.position_of == [0, 1, 0, 0, 1, 0]
    assert len(net.positions) == 2
    assert len(GPT(50, depth=3, position=Learned).positions) == 1


def test_a_position_is_not_added_twice() -> None:
    mixed = [partial(SelfAttention, head_size=4), SelfAttention]
    assert len(GPT(50, depth=4, attention=mixed, position=Learned).positions) == 1
    assert GPT(50, depth=4, position=[Learned, NoPosition]).position_of == [0, 1, 0, 1]

    class Shift(Position):  # a class from outside that says nothing of sharing
        def __init__(self, sizes: Sizes, by: float = 1.0):
            super().__init__(sizes)
            self.by = by

    net = GPT(50, depth=6, position=[Shift, partial(Shift, by=2.0)])
    assert [net.positions[i].by for i in net.position_of] == [1.0, 2.0] * 3
    assert len(net.positions) == 2


def test_positions_without_bias_share_masks() -> None:
    local = [partial(SelfAttention, window=4), SelfAttention]
    net = GPT(50, position=[RoPE, partial(RoPE, base=500.0), ALiBi], attention=local, depth=6)
    one, two, biased = forward_contexts(torch.zeros(1, 16, dtype=torch.long), net.positions, net.windows)
    assert one.mask(4) is two.mask(4) and one.mask().kind == "causal"
    assert biased.mask(4).tensor.is_floating_point()
