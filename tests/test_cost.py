"""Counts and FLOPs against counts done by hand and by torch's own counter."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lit_gpt import cost
from lit_gpt.config.schema import component_bases
from lit_gpt.model import GPT
from lit_gpt.nn import Cache, LayerNorm, Learned, MoE, PostNorm, RMSNorm, RoPE, SelfAttention, SwiGLU
from lit_gpt.nn import blockwise_attention as windows
from lit_gpt.nn import moe as mixtures


def test_nanogpt_cpu_recipe_counts() -> None:
    """nanoGPT prints 802,944 decayed parameters for its CPU recipe."""
    net = GPT(65)
    numbers = cost.count(net)
    assert numbers.matrices == 802_944
    assert numbers.embeddings == 65 * 128 + 64 * 128
    assert numbers.parameters == 802_944 + 9 * 128


def counted(net: GPT, rows: int = 3, context: int = 16) -> float:
    """What torch's counter sees in a forward pass, a token."""
    ids = torch.randint(net.vocab_size, (rows, context))
    # The counter knows matrix products, not the CPU's flash kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        net(ids)
    return counter.get_total_flops() / ids.numel()


@pytest.mark.parametrize("tie", [True, False])
def test_flops_equal_those_of_torchs_counter(tie: bool) -> None:
    grouped = partial(SelfAttention, kv_heads=2, head_size=12, qk_norm=RMSNorm)
    net = GPT(96, width=64, heads=4, context=32, tie_embeddings=tie, feedforward=SwiGLU, attention=grouped)
    assert counted(net, context=32) == cost.flops_per_token(net, training=False)
    assert cost.flops_per_token(net) == 3 * cost.flops_per_token(net, training=False)


def subclasses(base: type) -> list[type]:
    """All public classes of this package below a base."""
    found: list[type] = []
    for child in base.__subclasses__():
        own = child.__module__.startswith("lit_gpt.") and not child.__name__.startswith("_")
        found += [*([child] if own else []), *subclasses(child)]
    return found


COMPONENTS = component_bases(GPT)


@pytest.mark.parametrize(
    ("component", "part"),
    [(component, part) for component, base in COMPONENTS.items() for part in dict.fromkeys(subclasses(base))],
)
def test_flops_of_every_class_of_a_component(component: str, part: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixtures, "mix_experts", plainly)
    choice: dict[str, Any] = {component: part}
    net = GPT(48, width=16, depth=2, heads=2, context=16, **choice)
    assert counted(net) == cost.flops_per_token(net, training=False)


@pytest.mark.parametrize(
    "options",
    [
        {"value_embedding": True, "kv_heads": 1},
        {"sinks": True, "attn_softcap": 20.0},
        {"qk_norm": RMSNorm, "qk_norm_over": "heads", "bias": True, "out_bias": False},
    ],
    ids=lambda options: " ".join(options),
)
def test_flops_of_attentions_options(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    # torch's counter does not look into an operator: its body is called in its place.
    monkeypatch.setattr(windows, "_forward", windows._forward._init_fn)
    net = GPT(48, width=16, depth=2, heads=2, context=16, attention=partial(SelfAttention, **options))
    assert counted(net) == cost.flops_per_token(net, training=False)
    assert cost.count(net).parameters == sum(part.parameters for part in cost.parts(net).values())


def test_what_surrounds_the_blocks_multiplies_no_matrix() -> None:
    plain = GPT(48, width=16, depth=2, heads=2, context=16)
    more = GPT(48, 16, 2, 2, 16, embedding_scale=4.0, embedding_norm=True, residual_scalars=True, logit_softcap=9.0)
    assert counted(more) == cost.flops_per_token(more, training=False) == cost.flops_per_token(plain, training=False)
    assert cost.parts(more)["other"].parameters == 2 * 2  # the scalars of two layers


def plainly(x: Tensor, shares: Tensor, groups: Any, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """The experts' products with nothing but indexing, as torch's counter cannot look into an operator."""
    copies, y, start = shares.shape[1], torch.zeros_like(x), 0
    for expert, end in enumerate(groups.ends.tolist()):
        places = groups.order[start:end]
        rows = places // copies
        hidden = functional.silu(x[rows] @ gate[expert].T) * (x[rows] @ up[expert].T)
        y = y.index_add(0, rows, shares.flatten()[places, None] * (hidden @ down[expert].T))
        start = end
    return y


def test_moe_flops_count_active_experts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixtures, "mix_experts", plainly)
    experts = partial(MoE, experts=8, top_k=3, shared=1, hidden=24)
    net = GPT(48, width=16, depth=2, heads=2, context=16, feedforward=[SwiGLU, experts])
    assert counted(net) == cost.flops_per_token(net, training=False)
    numbers, expert = cost.count(net), 3 * 16 * 24
    assert numbers.parameters - numbers.active == (8 - 3) * expert
    assert cost.parts(net)["feed-forward"].active == 3 * 16 * 48 + (3 + 1) * expert + 8 * 16
    assert cost.count(GPT(65)).active == cost.count(GPT(65)).parameters


@pytest.mark.parametrize("tie", [True, False])
def test_counts_of_components_add_up(tie: bool) -> None:
    qk_norm = partial(SelfAttention, qk_norm=RMSNorm)
    norm = partial(LayerNorm, bias=True)
    net = GPT(96, width=32, heads=4, context=24, depth=3, tie_embeddings=tie, attention=qk_norm, norm=norm)
    net.embedding.weight.requires_grad_(False)
    parts = cost.parts(net)
    assert list(parts) == ["embedding", "positions", "attention", "feed-forward", "norms"] + ["head"] * (not tie)
    for field in ("parameters", "trainable", "matrices", "embeddings", "active"):
        assert sum(getattr(part, field) for part in parts.values()) == getattr(cost.count(net), field), field
    assert parts["norms"].parameters == 7 * 2 * 32 + 3 * 2 * 8
    assert parts["attention"].parameters == 3 * 4 * 32**2
    assert parts["embedding"].trainable == 0 and parts["positions"].embeddings == 24 * 32
    assert sum(part.parameters for part in cost.parts(GPT(96, block=PostNorm, position=RoPE)).values()) == (
        cost.count(GPT(96, block=PostNorm, position=RoPE)).parameters
    )


def test_sliding_window_costs_fewer_flops() -> None:
    local = GPT(64, context=64, attention=partial(SelfAttention, window=16))
    full = GPT(64, context=64)
    saved = cost.flops_per_token(full, 64, False) - cost.flops_per_token(local, 64, False)
    assert saved == 4 * 4 * 128 * 48  # layers x (scores and values, 2 FLOPs each) x width x tokens out of sight


def test_what_a_window_costs_beside_its_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of queries sees a window and as many tokens as the block has, at most."""
    monkeypatch.setattr(windows, "_forward", windows._forward._init_fn)
    at_least, at_most = (
        GPT(48, width=16, depth=2, heads=2, context=512, attention=partial(SelfAttention, window=window))
        for window in (64, 64 + windows.BLOCK)
    )
    real = counted(at_least, rows=1, context=512)
    assert cost.flops_per_token(at_least, training=False) < real < cost.flops_per_token(at_most, training=False)


def test_activation_memory_grows_with_batch_not_checkpointed() -> None:
    net, again = GPT(65, depth=6), GPT(65, depth=6, activation_checkpointing=True)
    one, two = cost.training_memory(net, 4), cost.training_memory(net, 8)
    assert two.activations == pytest.approx(2 * one.activations, rel=0.05)
    assert cost.training_memory(again, 8).activations < 0.3 * two.activations
    assert one.weights == 4 * cost.count(net).parameters
    assert one.optimizer == 2 * one.weights
    assert all(p.grad is None and not p.is_meta for p in net.parameters())


GROUPED = partial(SelfAttention, kv_heads=2, qk_norm=RMSNorm)


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"attention": GROUPED, "norm": RMSNorm, "position": RoPE, "feedforward": SwiGLU},
        {"feedforward": partial(MoE, hidden=64, shared=1), "position": RoPE},
        {"attention": [partial(SelfAttention, window=32), SelfAttention], "dropout": 0.1},
    ],
    ids=["plain", "grouped", "experts", "windows"],
)
def test_activations_are_those_that_autograd_keeps(choice: dict[str, Any]) -> None:
    """Against a real pass on this device; the fused kernel keeps no scores, so nothing grows with context squared."""
    net = GPT(65, context=512, **choice)
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(torch.zeros(2, 512, dtype=torch.long), reduce=lambda hidden, *_: hidden).sum()
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    real = sum(storage.nbytes() for address, storage in kept.items() if address not in own)
    assert cost.training_memory(net, 2).activations == pytest.approx(real, rel=0.01)
    half = GPT(65, context=512, **choice).bfloat16()
    assert cost.training_memory(half, 2, bytes_per_activation=2).activations > 0.45 * real


@pytest.mark.parametrize("position", [Learned, RoPE])
def test_a_net_without_weights_costs_the_same(position: Any) -> None:
    def made() -> GPT:
        return GPT(65, width=32, heads=4, context=48, position=position, feedforward=[SwiGLU, MoE])

    with torch.device("meta"):
        meta = made()
    longest = None if position is RoPE else 48
    context = 100 if longest is None else longest
    assert cost.training_memory(meta, 2, context) == cost.training_memory(made(), 2, context)
    assert cost.flops_per_token(meta, context) == cost.flops_per_token(made(), context)
    assert cost.parts(meta) == cost.parts(made())
    net = made()
    cost.training_memory(net, 2, context)
    net(torch.zeros(1, context, dtype=torch.long))  # tables that grew on the way are real ones


@pytest.mark.parametrize("context", [1, 40, 64, 65, 200, 256])
def test_generation_holds_what_a_cache_has_grown_to(context: int) -> None:
    local = partial(SelfAttention, window=8, kv_heads=1, head_size=6)
    net = GPT(65, width=32, depth=3, heads=4, context=256, attention=[local, SelfAttention], position=RoPE)
    cache = Cache(3)
    ids = torch.zeros(2, 1, dtype=torch.long)
    with torch.inference_mode():
        for _ in range(context):
            net(ids, cache=cache)
    buffers = [t for layer in cache.layers for t in (layer.k, layer.v) if t is not None]
    expected = cost.generation_memory(net, 2, context)
    assert expected.cache == sum(t.nbytes for t in buffers)
    assert expected.per_token == sum(t.nbytes for t in buffers) / (2 * buffers[0].shape[2])
    assert expected.total == expected.cache + sum(p.nbytes for p in net.parameters())
    assert cost.generation_memory(net, 2, context, bytes_per_number=2).total == expected.total / 2


def test_the_cost_of_a_compiled_net_compiles_nothing() -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("compiled")

    net = GPT(65)
    net.compile(backend=refuse)
    assert cost.training_memory(net, 4) == cost.training_memory(GPT(65), 4)


def test_measured_peak_is_a_plausible_speed() -> None:
    assert 1e8 < cost.peak_flops("cpu") < 1e14
