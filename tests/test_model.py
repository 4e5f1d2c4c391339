"""What GPT does around its blocks: embeddings scaled and normed, scalars on the stream, numbers that it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_gpt.model import GPT
from lit_gpt.nn import NoPosition, PostNorm, RMSNorm
from lit_gpt.nn.context import forward_contexts

IDS = torch.randint(50, (2, 8), generator=torch.Generator().manual_seed(4))


def net(**arguments: Any) -> GPT:
    return GPT(
        50, **({"width": 12, "depth": 3, "heads": 2, "context": 8, "norm": RMSNorm, "seed": 1} | arguments)
    ).double()


def hidden(made: GPT) -> Tensor:
    return made(IDS, reduce=lambda x, *_: x)


def read_by_blocks(made: GPT) -> list[Tensor]:
    """What each block was given."""
    seen: list[Tensor] = []
    for block in made.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    made(IDS)
    return seen


def test_embeddings_are_scaled_before_positions_are_added() -> None:
    made = net(embedding_scale=math.sqrt(12))
    expected = made.embedding.weight[IDS] * math.sqrt(12) + made.positions[0].table.weight
    torch.testing.assert_close(read_by_blocks(made)[0], expected, rtol=0, atol=1e-14)


def test_a_scale_is_a_larger_table_whose_head_is_not_scaled() -> None:
    scaled, plain = net(embedding_scale=3.0, tie_embeddings=False), net(tie_embeddings=False)
    plain.load_state_dict(scaled.state_dict())
    plain.embedding.weight.data *= 3
    torch.testing.assert_close(scaled(IDS), plain(IDS), rtol=0, atol=1e-14)


def test_embeddings_are_normed_with_their_positions() -> None:
    made = net(embedding_norm=True, embedding_scale=2.0)
    torch.nn.init.normal_(made.embedding_norm.weight)
    x = 2.0 * made.embedding.weight[IDS] + made.positions[0].table.weight
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * made.embedding_norm.weight
    torch.testing.assert_close(read_by_blocks(made)[0], expected, rtol=0, atol=1e-13)


def test_residual_scalars_mix_stream_and_first_input() -> None:
    made = net(residual_scalars=True)
    plain = net()
    assert torch.equal(made(IDS), plain(IDS))  # they start as if they were not there
    scalars = made.residual_scalars
    torch.nn.init.normal_(scalars.stream)
    torch.nn.init.normal_(scalars.start)
    seen = read_by_blocks(made)
    start = made.embedding.weight[IDS] + made.positions[0].table.weight
    x = start
    (ctx,) = forward_contexts(IDS, made.positions, made.windows)
    for layer, block in enumerate(made.blocks):
        x = scalars.stream[layer] * x + scalars.start[layer] * start
        torch.testing.assert_close(seen[layer], x, rtol=0, atol=1e-13)
        x, _ = block(x, ctx)


def test_scalars_are_learned_and_filled_anew() -> None:
    made = net(residual_scalars=True)
    hidden(made).square().sum().backward()
    assert made.residual_scalars.stream.grad.ne(0).all() and made.residual_scalars.start.grad.ne(0).all()
    torch.nn.init.zeros_(made.residual_scalars.stream)
    made.init_weights()
    assert made.residual_scalars.stream.tolist() == [1, 1, 1] and made.residual_scalars.start.tolist() == [0, 0, 0]
    with torch.device("meta"):
        empty = GPT(50, width=12, depth=3, heads=2, residual_scalars=True, embedding_norm=True, seed=1)
    empty.to_empty(device="cpu").init_weights()
    assert empty.residual_scalars.stream.tolist() == [1, 1, 1] and (empty.embedding_norm.weight == 1).all()


def test_options_add_no_name_to_nets_without_them() -> None:
    plain = set(net().state_dict())
    assert set(net(embedding_scale=2.0).state_dict()) == plain
    assert set(net(embedding_norm=True, residual_scalars=True).state_dict()) - plain == {
        "embedding_norm.weight", "residual_scalars.stream", "residual_scalars.start",
    }  # fmt: skip


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_invalid_embedding_scale_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match="embedding_scale must be above 0, got"):
        net(embedding_scale=scale)


def test_dropout_acts_before_the_first_residual_is_kept() -> None:
    made = net(embedding_norm=True, residual_scalars=True, dropout=0.5, position=NoPosition, block=PostNorm).train()
    torch.nn.init.zeros_(made.residual_scalars.stream)
    torch.nn.init.ones_(made.residual_scalars.start)
    seen = read_by_blocks(made)
    assert (seen[0] == 0).any() and torch.equal(seen[0], seen[2])
