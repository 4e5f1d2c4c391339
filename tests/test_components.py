"""The contract of every component: what each of its classes must keep, alone and beside any class of another."""

from __future__ import annotations

import inspect
import itertools
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_gpt import nn
from lit_gpt.config.schema import component_bases
from lit_gpt.model import GPT
from lit_gpt.nn import Cache, blockwise_attention
from lit_gpt.nn import mask as masks

BASES = component_bases(GPT)


def subclasses(base: type) -> list[type]:
    """All public classes of this package below a base, in the order of their definition."""
    found = []
    for child in base.__subclasses__():
        if child.__module__.startswith("lit_gpt.") and not child.__name__.startswith("_"):
            found.append(child)
        found += subclasses(child)
    return found


COMPONENTS: dict[str, list[type]] = {component: subclasses(base) for component, base in BASES.items()}

# Options that change how a class computes, beside its defaults.
VARIANTS: dict[str, dict[str, Any]] = {
    "multi_query": {"attention": partial(nn.SelfAttention, kv_heads=1)},
    "grouped_query": {"attention": partial(nn.SelfAttention, kv_heads=2, bias=True)},
    "window": {"attention": partial(nn.SelfAttention, window=5)},
    "window_alibi": {"attention": partial(nn.SelfAttention, window=5), "position": nn.ALiBi},
    "odd_window": {"attention": partial(nn.SelfAttention, window=3, kv_heads=2, head_size=5)},
    "sinks": {"attention": partial(nn.SelfAttention, sinks=True)},
    "sinks_window": {"attention": partial(nn.SelfAttention, sinks=True, window=3, kv_heads=2), "position": nn.RoPE},
    "sinks_alibi": {"attention": partial(nn.SelfAttention, sinks=True), "position": nn.ALiBi},
    "softcap": {"attention": partial(nn.SelfAttention, attn_softcap=0.5)},
    "softcap_window": {"attention": partial(nn.SelfAttention, attn_softcap=0.5, window=5, sinks=True)},
    "softcap_local_global": {
        "attention": [
            partial(nn.SelfAttention, attn_softcap=0.5, window=4),
            partial(nn.SelfAttention, attn_softcap=0.5),
        ]
    },
    "value_embedding": {"attention": partial(nn.SelfAttention, value_embedding=True, kv_heads=2)},
    "out_bias": {"attention": partial(nn.SelfAttention, out_bias=True)},
    "no_out_bias": {"attention": partial(nn.SelfAttention, bias=True, out_bias=False)},
    "head_size": {"attention": partial(nn.SelfAttention, head_size=6), "position": nn.RoPE},
    "qk_norm": {"attention": partial(nn.SelfAttention, qk_norm=nn.RMSNorm), "position": nn.RoPE},
    "qk_norm_over_heads": {
        "attention": partial(nn.SelfAttention, qk_norm=nn.RMSNorm, qk_norm_over="heads", kv_heads=2),
        "position": nn.RoPE,
    },
    "local_global": {"attention": [partial(nn.SelfAttention, window=4), nn.SelfAttention]},
    "two_head_sizes": {"attention": [partial(nn.SelfAttention, head_size=4), nn.SelfAttention], "position": nn.RoPE},
    "tiled_position": {"position": [nn.RoPE, nn.NoPosition]},
    "two_rope_bases": {"position": [nn.RoPE, partial(nn.RoPE, base=100.0)]},
    "tiled_feedforward": {"feedforward": [nn.SwiGLU, nn.MLP]},
    "tiled_block": {"block": [nn.PostNorm, nn.PreNorm]},
    "relu": {"feedforward": partial(nn.MLP, activation=nn.ReLU, bias=True)},
    "relu_squared": {"feedforward": partial(nn.MLP, activation=nn.ReLUSquared, hidden=24)},
    "tanh_gelu": {"feedforward": partial(nn.MLP, activation=partial(nn.GELU, approximate="tanh"))},
    "shared_experts": {"feedforward": partial(nn.MoE, experts=5, top_k=3, shared=2, normalize_weights=False)},
    "pooled_experts": {"feedforward": [partial(nn.MoE, pooled=True, hidden=10), nn.MoE, nn.SwiGLU], "depth": 4},
    "layer_norm_bias": {"norm": partial(nn.LayerNorm, bias=True)},
    "no_affine": {"norm": partial(nn.RMSNorm, affine=False)},
    "untied_softcap": {"tie_embeddings": False, "logit_softcap": 5.0},
    "partial_rotary": {"position": partial(nn.RoPE, partial_rotary_factor=0.5)},
    "linear_scaling": {"position": partial(nn.RoPE, scaling=partial(nn.LinearScaling, factor=4.0))},
    "dynamic_ntk": {"position": partial(nn.RoPE, scaling=partial(nn.DynamicNTK, factor=4.0, original_context=16))},
    "llama3_scaling": {"position": partial(nn.RoPE, scaling=partial(nn.Llama3Scaling, 8.0, 1.0, 4.0, 8))},
    "yarn": {"position": partial(nn.RoPE, scaling=partial(nn.YaRN, factor=4.0, original_context=8))},
    "longrope": {"position": partial(nn.RoPE, scaling=partial(nn.LongRoPE, [1.0, 1.5, 2.0, 2.5], [4.0] * 4, 16))},
    "gentle_alibi": {"position": partial(nn.ALiBi, max_bias=2.0)},
    "shared_norm": {"block": partial(nn.Parallel, shared_norm=True)},
    "center": {"norm": partial(nn.RMSNorm, center=1.0)},
    "embedding_scale_norm": {"embedding_scale": 5.5, "embedding_norm": True, "position": nn.Sinusoidal},
    "residual_scalars": {"residual_scalars": True},
}
SINGLES = {
    f"{component}={cls.__name__}": {component: cls} for component, classes in COMPONENTS.items() for cls in classes
}
PAIRS = {
    f"{one}={a.__name__},{two}={b.__name__}": {one: a, two: b}
    for one, two in itertools.combinations(COMPONENTS, 2)
    for a in COMPONENTS[one]
    for b in COMPONENTS[two]
}
COMBINATIONS = {**SINGLES, **VARIANTS, **PAIRS}


@pytest.fixture(autouse=True)
def several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that 16 tokens are more than one block of queries, and not few."""
    monkeypatch.setattr(blockwise_attention, "BLOCK", 4)
    monkeypatch.setattr(masks, "FEW_QUERIES", 8)


@pytest.fixture(params=COMBINATIONS, ids=list(COMBINATIONS))
def components(request: pytest.FixtureRequest) -> dict[str, Any]:
    return COMBINATIONS[request.param]


def make(components: dict[str, Any], **numbers: Any) -> GPT:
    """A small net in float64 whose weights are all moved away from zero, so that nothing hides behind a zero."""
    net = GPT(
        **({"vocab_size": 50, "width": 32, "depth": 2, "heads": 4, "context": 16, "seed": 1} | numbers | components)
    )
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return net.double()


def tokens(rows: int = 2, length: int = 16) -> Tensor:
    return torch.randint(50, (rows, length), generator=torch.Generator().manual_seed(3))


def gradients(net: GPT, ids: Tensor) -> dict[str, Tensor]:
    net.zero_grad()
    net(ids).logsumexp(-1).sum().backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def test_every_seat_has_classes() -> None:
    assert all(COMPONENTS.values()), COMPONENTS


@torch.no_grad()
def test_no_leak_from_the_future(components: dict[str, Any]) -> None:
    net = make(components).eval()
    ids = tokens()
    changed = ids.clone()
    changed[:, 9:] = 7
    before, after = net(ids), net(changed)
    # An expert's product has as many rows as tokens chose it, and its kernel may round by their number.
    tolerance = 1e-12 if any(isinstance(part, nn.MoE) for part in net.modules()) else 0.0
    torch.testing.assert_close(before[:, :9], after[:, :9], rtol=0, atol=tolerance)
    assert not torch.allclose(before[:, 9:], after[:, 9:])


@torch.no_grad()
@pytest.mark.parametrize("cuts", [(0, 16), (0, 5, 6, 16), (0, 1, 2, 3, 4, 15, 16)], ids=str)
def test_cache_equals_one_pass(components: dict[str, Any], cuts: tuple[int, ...]) -> None:
    net = make(components).eval()
    ids = tokens()
    cache = Cache(net.sizes.depth)
    pieces = [net(ids[:, a:b], cache=cache) for a, b in itertools.pairwise(cuts)]
    torch.testing.assert_close(torch.cat(pieces, 1), net(ids), rtol=0, atol=1e-12)
    assert cache.length == 16


@torch.no_grad()
def test_segments_stand_alone_and_pads_are_not_seen(components: dict[str, Any]) -> None:
    net = make(components).eval()
    ids = tokens(1, 16)
    segments = torch.tensor([[0] * 3 + [1] * 6 + [2] * 7])
    together = net(ids, segments=segments)
    alone = torch.cat([net(ids[:, a:b]) for a, b in ((0, 3), (3, 9), (9, 16))], 1)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
    cache = Cache(net.sizes.depth)
    first = net(ids[:, :12], segments=segments[:, :12], cache=cache)
    rest = net(ids[:, 12:], cache=cache)  # goes on in the last segment by itself
    torch.testing.assert_close(torch.cat((first, rest), 1), alone, rtol=0, atol=1e-12)


def test_gradients_equal_under_activation_checkpointing(components: dict[str, Any]) -> None:
    plain, again = (make(components, activation_checkpointing=on).train() for on in (False, True))
    ids = tokens()
    one, two = gradients(plain, ids), gradients(again, ids)
    assert one.keys() == two.keys()
    assert len(one) == len(list(plain.parameters()))  # nothing is left out of the graph
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize(
    "components",
    [pytest.param(name, marks=pytest.mark.slow if name in PAIRS else ()) for name in COMBINATIONS],
    indirect=True,
)
def test_compiles_in_one_graph(components: dict[str, Any]) -> None:
    torch._dynamo.reset()
    net = make(components).float().train()
    ids = tokens()
    expected = gradients(net, ids)
    logits = net(ids)
    net.compile(backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(net(ids), logits, rtol=0, atol=1e-5)
    for name, gradient in gradients(net, ids).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("position", [nn.Learned, nn.RoPE, nn.ALiBi], ids=lambda c: c.__name__)
def test_one_compiled_net_takes_several_lengths(position: type) -> None:
    torch._dynamo.reset()
    net = make({"position": position}).float().eval()
    expected = {length: net(tokens(2, length)) for length in (16, 9, 12)}
    net.compile(backend="aot_eager", fullgraph=True)
    for length, logits in expected.items():
        torch.testing.assert_close(net(tokens(2, length)), logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("component", COMPONENTS)
def test_siblings_agree_on_shared_arguments(component: str) -> None:
    """Changing the class keeps same-named arguments, so a name must mean the same and default to the same."""
    for a, b in itertools.combinations([BASES[component], *COMPONENTS[component]], 2):
        one, two = (inspect.signature(cls.__init__).parameters for cls in (a, b))
        for name in (one.keys() & two.keys()) - {"self"}:
            assert (one[name].default, one[name].annotation) == (two[name].default, two[name].annotation), (a, b, name)


@pytest.mark.parametrize("cls", [c for classes in COMPONENTS.values() for c in classes], ids=lambda c: c.__name__)
def test_help_says_what_every_argument_does(cls: type) -> None:
    documented = cls.__doc__ or ""
    for name in inspect.signature(cls.__init__).parameters:
        if name != "self" and "__init__" in vars(cls) and not issubclass(cls, nn.Block):
            assert f"    {name}: " in documented, f"{cls.__name__} does not document {name}"


def test_weights_are_paired_across_variants() -> None:
    """A net that differs in one component starts from equal weights everywhere else, whatever was drawn before it."""
    torch.manual_seed(5)
    one = GPT(50, seed=1)
    torch.rand(7)
    two = GPT(50, seed=1, feedforward=nn.SwiGLU)
    shared = one.state_dict().keys() & two.state_dict().keys()
    assert any("query" in name for name in shared)
    for name in shared:
        if "feedforward.up" not in name and "feedforward.down" not in name:
            assert torch.equal(one.state_dict()[name], two.state_dict()[name]), name


@pytest.mark.parametrize("tie_embeddings", [True, False])
@pytest.mark.parametrize("position", COMPONENTS["position"], ids=lambda c: c.__name__)
def test_meta_net_becomes_the_same_net(tie_embeddings: bool, position: type) -> None:
    with torch.device("meta"):
        net = GPT(50, position=position, seed=3, tie_embeddings=tie_embeddings)
    net.to_empty(device="cpu")
    net.init_weights()
    expected = GPT(50, position=position, seed=3, tie_embeddings=tie_embeddings)
    assert torch.equal(net(tokens()), expected(tokens()))
    assert (net.head.weight is net.embedding.weight) == tie_embeddings


class Rescaled(nn.FeedForward):
    """A user's own part with a parameter of its own."""

    def __init__(self, sizes: nn.Sizes):
        super().__init__(sizes)
        self.gain = torch.nn.Parameter(torch.empty(sizes.width))

    def reset_parameters(self) -> None:
        torch.nn.init.normal_(self.gain)

    def forward(self, x: Tensor) -> tuple[Tensor, float]:
        return x * self.gain, 0.0


def test_a_part_from_outside_fills_a_seat() -> None:
    one, two = (GPT(50, feedforward=Rescaled, seed=s) for s in (1, 1))
    assert torch.equal(one.blocks[0].feedforward.gain, two.blocks[0].feedforward.gain)
    assert not torch.equal(one.blocks[0].feedforward.gain, one.blocks[1].feedforward.gain)
    assert one(tokens()).shape == (2, 16, 50)


def test_auxiliary_losses_reach_the_objective() -> None:
    class Aux(nn.MLP):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
            y, _ = super().forward(x)
            return y, y.square().mean()

    net = GPT(50, depth=3, feedforward=Aux)
    total = net(tokens(), reduce=lambda hidden, weight, softcap, aux: aux)
    assert isinstance(total, Tensor) and total.requires_grad
