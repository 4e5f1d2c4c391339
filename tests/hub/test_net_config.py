"""Mappings of weights and the plain data of nets, on random shapes and lists."""

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.hub.net_config import complete, component, differences, layers, make_net, tiled
from lit_gpt.hub.weights import Experts, Joined, PerHead, Same, Transposed, WeightMapping
from lit_gpt.model import GPT
from lit_gpt.nn import SelfAttention

SIZE = st.integers(1, 6)


def net_of(heads: int) -> GPT:
    return make_net(complete({"vocab_size": 8, "width": 4 * heads, "depth": 1, "heads": heads, "context": 8}))


def both_ways(mapping: WeightMapping, ours: list[torch.Tensor], heads: int = 1) -> list[torch.Tensor]:
    """Asserts that nothing is lost either way; gives theirs."""
    net = net_of(heads)
    theirs = mapping.to_theirs(ours, net)
    back = mapping.to_ours(theirs, [one.to("meta") for one in ours], net)
    assert len(back) == len(ours) and all(torch.equal(a, b) for a, b in zip(ours, back, strict=True))
    again = mapping.to_theirs(back, net)
    assert all(torch.equal(a, b) for a, b in zip(theirs, again, strict=True))
    return theirs


@given(st.lists(SIZE, min_size=1, max_size=3))
def test_same(shape: list[int]) -> None:
    x = torch.randn(shape)
    assert torch.equal(both_ways(Same("a", "b"), [x])[0], x)


@given(SIZE, SIZE)
def test_transposed(rows: int, columns: int) -> None:
    x = torch.randn(rows, columns)
    (theirs,) = both_ways(Transposed("a", "b"), [x])
    assert all(theirs[j, i] == x[i, j] for i in range(rows) for j in range(columns))


@given(st.lists(SIZE, min_size=1, max_size=4), SIZE, st.sampled_from(["bias", "rows", "columns"]))
def test_joined(rows: list[int], columns: int, kind: str) -> None:
    ours = [torch.randn(count) if kind == "bias" else torch.randn(count, columns) for count in rows]
    mapping = Joined([f"a{i}" for i in range(len(rows))], "b", dim=int(kind == "columns"))
    (theirs,) = both_ways(mapping, ours)
    start = 0
    for one in ours:
        place = theirs[:, start : start + len(one)].mT if kind == "columns" else theirs[start : start + len(one)]
        assert torch.equal(place, one)
        start += len(one)


@given(SIZE, SIZE, SIZE, st.booleans())
def test_per_head(heads: int, size: int, columns: int, bias: bool) -> None:
    ours = [torch.randn(heads * size) if bias else torch.randn(heads * size, columns) for _ in range(3)]
    (theirs,) = both_ways(PerHead(["q", "k", "v"], "b"), ours, heads)
    for head in range(heads):
        for place, one in enumerate(ours):
            start = (3 * head + place) * size
            assert torch.equal(theirs[start : start + size], one[head * size : (head + 1) * size])


@given(SIZE, SIZE, SIZE)
def test_experts(experts: int, rows: int, columns: int) -> None:
    x = torch.randn(experts, rows, columns)
    theirs = both_ways(Experts("a", "b.{e}"), [x])
    assert all(torch.equal(one, x[e]) for e, one in enumerate(theirs))


@given(st.lists(st.sampled_from([None, 4, 8]), min_size=1, max_size=9))
def test_tiled_gives_every_layer_its_part_again(windows: list[int | None]) -> None:
    parts = [component(SelfAttention, window=window) for window in windows]
    held = tiled(parts)
    held = held if isinstance(held, list) else [held]
    assert [held[layer % len(held)] for layer in range(len(parts))] == parts
    for shorter in range(1, len(held)):  # no shorter list does
        assert [parts[layer % shorter] for layer in range(len(parts))] != parts


def arguments(windows: list[int | None], **others: Any) -> dict[str, Any]:
    attention = tiled([component(SelfAttention, window=window) for window in windows])
    sizes = {"vocab_size": 8, "width": 8, "depth": len(windows), "heads": 2, "context": 16}
    return complete(sizes | {"attention": attention} | others)


WINDOWS = st.lists(st.sampled_from([None, 4, 8]), min_size=1, max_size=5)


@given(WINDOWS, WINDOWS)
@settings(deadline=None)
def test_layers_differ_where_windows_do(one: list[int | None], other: list[int | None]) -> None:
    a, b = layers(arguments(one)), layers(arguments(other))
    assert [attention["window"] for attention in a["attention"]] == one
    found = differences(a, b)
    assert (found == []) == (one == other)
    assert differences(a, a) == [] and len(found) == len(differences(b, a))
    shared = range(min(len(one), len(other)))
    pairs = {(one[layer], other[layer]) for layer in shared if one[layer] != other[layer]}
    assert {(mine, theirs) for name, mine, theirs in found if name == "attention.window"} >= pairs


def test_what_is_free_and_what_is_written_out_makes_no_difference() -> None:
    plain = arguments([None])
    spelt = plain | {
        "dropout": 0.3,
        "activation_checkpointing": True,
        "attention": component(SelfAttention, kv_heads=2, head_size=4),
    }
    assert differences(layers(plain), layers(spelt)) == []
