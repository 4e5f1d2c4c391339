"""Our experts against transformers' Mixtral and Qwen3-MoE layers with random weights: outputs, gradients, balance."""

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from comparison import randomize
from rounding import assert_only_rounded
from torch import Tensor, nn
from transformers import MixtralConfig, Qwen3MoeConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock
from transformers_float64 import Float64

from lit_gpt.nn import MoE, Routing, Sizes
from lit_gpt.nn.moe import total

WIDTH, HIDDEN = 48, 40
SIZES = Sizes(WIDTH, heads=2, depth=2, context=16, vocab_size=7)


def mixtral(experts: int, top_k: int) -> nn.Module:
    config = MixtralConfig(
        hidden_size=WIDTH, intermediate_size=HIDDEN, num_local_experts=experts, num_experts_per_tok=top_k,
        experts_implementation="eager",
    )  # fmt: skip
    return MixtralSparseMoeBlock(config)


def qwen(experts: int, top_k: int, normalize_weights: bool) -> nn.Module:
    config = Qwen3MoeConfig(
        hidden_size=WIDTH, moe_intermediate_size=HIDDEN, num_experts=experts, num_experts_per_tok=top_k,
        norm_topk_prob=normalize_weights, experts_implementation="eager",
    )  # fmt: skip
    return Qwen3MoeSparseMoeBlock(config)


LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "Mixtral": (mixtral, {"experts": 8, "top_k": 2}),
    "Mixtral, all experts": (mixtral, {"experts": 3, "top_k": 3}),
    "Qwen3": (qwen, {"experts": 16, "top_k": 4, "normalize_weights": True}),
    "Qwen3, not normalized": (qwen, {"experts": 16, "top_k": 4, "normalize_weights": False}),
    "Qwen3, one expert": (qwen, {"experts": 6, "top_k": 1, "normalize_weights": False}),
}


def split(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by our names: theirs has gate and up in one tensor."""
    gate, up = theirs["experts.gate_up_proj"].chunk(2, 1)
    down, router = theirs["experts.down_proj"], theirs["gate.weight"]
    return {"gate.weight": gate, "up.weight": up, "down.weight": down, "router.weight": router}


def computed(kind: str, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Outputs and gradients of both layers, ours and theirs, on the same tokens; what enters is float32 numbers."""
    make, options = LAYERS[kind]
    theirs = make(**options)
    randomize(theirs, scale=0.5)
    theirs.to(dtype)
    ours = MoE(SIZES, hidden=HIDDEN, **options).to(dtype)
    ours.load_state_dict(split(theirs.state_dict()))
    random = torch.Generator().manual_seed(1)
    x, gradient = (torch.randn(3, 11, WIDTH, generator=random).to(dtype) for _ in range(2))
    one, two = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, (y, _) = theirs(two), ours(one)
    assert y.dtype == expected.dtype == dtype
    assert expected.std() > 0.02
    y.backward(gradient)
    expected.backward(gradient)
    named = split({name: p.grad for name, p in theirs.named_parameters()})
    return (
        {"y": y, "x": one.grad} | {name: p.grad for name, p in ours.named_parameters()},
        {"y": expected, "x": two.grad} | named,
    )


@pytest.mark.parametrize("kind", LAYERS)
def test_float32(kind: str) -> None:
    with Float64():
        _, exact = computed(kind, torch.float64)
    for who, results in zip(("ours", "theirs"), computed(kind, torch.float32), strict=True):
        for name, tensor in results.items():
            assert_only_rounded(tensor, exact[name], 1, WIDTH, passes=2, what=f"{who}: {name}")


@pytest.mark.parametrize("kind", LAYERS)
def test_float64(kind: str) -> None:
    with Float64():
        ours, theirs = computed(kind, torch.float64)
    for name, expected in theirs.items():
        assert (ours[name] - expected).abs().max() <= 1e-10 * max(1, expected.abs().max()), name


@pytest.mark.parametrize("patched", [False, True], ids=["float32", "float64"])
@pytest.mark.parametrize(("experts", "top_k"), [(8, 2), (5, 3)])
def test_aux_loss_equals_transformers(experts: int, top_k: int, patched: bool) -> None:
    """One layer's loss is theirs; several pooled layers' too, and that is not the sum of each layer's own."""
    dtype = torch.float64 if patched else torch.float32
    options = {"experts": experts, "top_k": top_k, "aux_loss_coef": 0.3, "z_loss_coef": 0.0}
    layers = [MoE(SIZES, **options, pooled=pooled) for pooled in (False, True, True)]
    logits, terms, pooled = [], [], []
    for layer in layers:
        randomize(layer.to(dtype), seed=len(logits))
        x = torch.randn(2, 9, WIDTH, dtype=dtype)
        _, aux = layer(x)
        logits.append(layer.router(x).flatten(0, 1))
        (pooled if layer.pooled else terms).append(aux)
    with Float64() if patched else nullcontext():
        alone = load_balancing_loss_func((logits[0],), experts, top_k)
        together = load_balancing_loss_func(tuple(logits[1:]), experts, top_k)
        apart = sum(load_balancing_loss_func((each,), experts, top_k) for each in logits[1:])

    def check(found: Tensor, expected: Tensor) -> None:
        if patched:
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
        else:
            assert_only_rounded(found, expected, 1, WIDTH, passes=2)

    assert isinstance(terms[0], Tensor) and all(isinstance(term, Routing) for term in pooled)
    check(total(terms), 0.3 * alone)
    check(total(pooled), 0.3 * together)
    check(total([*terms, *pooled, 0.0]), 0.3 * (alone + together))
    assert abs(apart / 2 - together) > 1e-3
    routers = [layer.router.weight for layer in layers]
    own = torch.autograd.grad(total([*terms, *pooled]), routers, retain_graph=True)
    reference = torch.autograd.grad(0.3 * (alone + together), routers)
    for one, two in zip(own, reference, strict=True):
        check(one, two)
