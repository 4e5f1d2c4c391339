"""Each block against its formula, written out with the parts that it was given."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_gpt.model import GPT
from lit_gpt.nn import Parallel, PostNorm, PreNorm, ResPostNorm, RMSNorm, Sandwich
from lit_gpt.nn.context import forward_contexts

WIDTH = 12


def formula(block: Any, x: Tensor, attention: Any, feedforward: Any) -> Tensor:
    """What the block's paper says, branches and norms being functions of a tensor."""
    one, two = block.attention_norm, block.feedforward_norm
    if isinstance(block, PreNorm):
        x = x + attention(one(x))
        return x + feedforward(two(x))
    if isinstance(block, PostNorm):
        x = one(x + attention(x))
        return two(x + feedforward(x))
    if isinstance(block, Sandwich):
        x = x + block.attention_post_norm(attention(one(x)))
        return x + block.feedforward_post_norm(feedforward(two(x)))
    if isinstance(block, ResPostNorm):
        x = x + one(attention(x))
        return x + two(feedforward(x))
    return x + attention(one(x)) + feedforward((one if two is None else two)(x))


def net(block: Any, **more: Any) -> GPT:
    """One layer, whose norms all have other weights than one."""
    made = GPT(50, width=WIDTH, depth=1, heads=2, context=8, norm=RMSNorm, block=block, seed=1, **more).double()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter += (0.5 if "norm" in name else 0.1) * torch.randn_like(parameter)
    return made


@pytest.mark.parametrize(
    "block", [PreNorm, PostNorm, Sandwich, ResPostNorm, Parallel, partial(Parallel, shared_norm=True)], ids=str
)
def test_blocks_equal_their_formulas(block: Any) -> None:
    made = net(block)
    layer: Any = made.blocks[0]
    (ctx,) = forward_contexts(torch.zeros(2, 8, dtype=torch.long), made.positions, made.windows)
    x = torch.randn(2, 8, WIDTH, dtype=torch.float64)
    y, aux = layer(x, ctx)
    expected = formula(layer, x, lambda z: layer.attention(z, ctx), lambda z: layer.feedforward(z)[0])
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    assert aux == 0.0


@pytest.mark.parametrize(
    ("block", "norms"),
    [
        (PreNorm, 2),
        (PostNorm, 2),
        (Sandwich, 4),
        (ResPostNorm, 2),
        (Parallel, 2),
        (partial(Parallel, shared_norm=True), 1),
    ],
    ids=str,
)
def test_number_of_norms_in_each_block(block: Any, norms: int) -> None:
    made = net(block)
    assert sum("norm" in name for name, _ in made.blocks[0].named_parameters()) == norms
    assert isinstance(made.norm, RMSNorm) is not made.blocks[0].normalized  # only PostNorm leaves a normalized stream


@pytest.mark.parametrize("block", [PreNorm, PostNorm, Sandwich, ResPostNorm, Parallel])
def test_dropout_acts_on_branches_not_on_the_residual(block: Any) -> None:
    """With all of each branch dropped, what is left is the stream, normalized where the block does that."""
    made = net(block, dropout=0.5).train()
    layer: Any = made.blocks[0]
    layer.dropout.p = 1.0
    (ctx,) = forward_contexts(torch.zeros(2, 8, dtype=torch.long), made.positions, made.windows)
    x = torch.randn(2, 8, WIDTH, dtype=torch.float64)
    expected = layer.feedforward_norm(layer.attention_norm(x)) if layer.normalized else x
    assert torch.equal(layer(x, ctx)[0], expected)
