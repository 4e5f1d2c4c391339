"""Experts against a loop over single tokens, the losses of the router, and what a layer of experts must run under."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_only_rounded
from torch import Tensor, nn

from lit_gpt.cli import build
from lit_gpt.cost import training_memory
from lit_gpt.model import GPT
from lit_gpt.nn import MLP, FeedForward, MoE, Sizes, SwiGLU, expert_matmul
from lit_gpt.nn.moe import total

SIZES = Sizes(width=48, heads=2, depth=1, context=4, vocab_size=5)
TEXT = Path(__file__).parents[3] / "shared" / "data" / "tinyshakespeare.txt"
CONFIG = Path(__file__).parents[2] / "configs" / "moe.yaml"


def random_layer(sizes: Sizes = SIZES, dtype: torch.dtype = torch.float64, **options: Any) -> MoE:
    layer = MoE(sizes, **options).to(dtype)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return layer


def one_by_one(layer: MoE, x: Tensor) -> Tensor:
    """What the layer says of itself, a token at a time."""
    rows = []
    for token in x.flatten(0, -2):
        shares, chosen = layer.router(token).softmax(-1).topk(layer.top_k)
        if layer.normalize_weights:
            shares = shares / shares.sum()
        y = torch.zeros_like(token)
        for share, e in zip(shares, chosen.tolist(), strict=True):
            hidden = F.silu(layer.gate.weight[e] @ token) * (layer.up.weight[e] @ token)
            y = y + share * (layer.down.weight[e] @ hidden)
        rows.append(y + layer.shared(token)[0] if isinstance(layer.shared, SwiGLU) else y)
    return torch.stack(rows).view_as(x)


def gradients(y: Tensor, wanted: list[Tensor]) -> list[Tensor]:
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
    found = torch.autograd.grad((y * weights).sum(), wanted, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True)]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 3), length=st.integers(1, 12), width=st.integers(1, 9), hidden=st.integers(1, 9),
    experts=st.integers(2, 7), top_k=st.integers(1, 7), shared=st.integers(0, 2), normalize_weights=st.booleans(),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_moe_equals_a_loop_over_tokens(
    rows: int,
    length: int,
    width: int,
    hidden: int,
    experts: int,
    top_k: int,
    shared: int,
    normalize_weights: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    top_k = min(top_k, experts)
    sizes = SIZES.replace(width=width)
    layer = random_layer(
        sizes,
        hidden=hidden,
        experts=experts,
        top_k=top_k,
        shared=shared,
        normalize_weights=normalize_weights and top_k > 1,
    )
    x = torch.randn(rows, length, width, dtype=torch.float64, requires_grad=True)
    y, expected = layer(x)[0], one_by_one(layer, x)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    wanted = [x, *layer.parameters()]
    for one, two in zip(gradients(y, wanted), gradients(expected, wanted), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-11)


def test_unused_experts_get_zero_gradients() -> None:
    layer = random_layer(experts=6, top_k=2)
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[1] = 1.0
        layer.router.weight[4] = 0.5
    x = torch.rand(2, 5, 48, dtype=torch.float64) + 0.1  # positive: experts 1 and 4 for every token
    y, aux = layer(x)
    torch.testing.assert_close(y, one_by_one(layer, x), rtol=0, atol=1e-12)
    (y.sum() + aux).backward()
    for stack in (layer.gate, layer.up, layer.down):
        used = stack.weight.grad.abs().sum((1, 2)) > 0
        assert used.tolist() == [False, True, False, False, True, False]


def test_router_losses_equal_their_formulas() -> None:
    """The formulas of the papers, and their values where they are known: K for an even load, E for a collapsed one."""
    layer = random_layer(experts=6, top_k=3, aux_loss_coef=0.5, z_loss_coef=0.25)
    x = torch.randn(4, 50, 48, dtype=torch.float64)
    logits = layer.router(x).flatten(0, 1)
    probabilities = logits.softmax(-1)
    share = torch.zeros(6, dtype=torch.float64)
    for choice in probabilities.topk(3).indices.flatten().tolist():
        share[choice] += 1 / 200
    balance = 6 * (share * probabilities.mean(0)).sum()
    z = logits.logsumexp(-1).square().mean()
    torch.testing.assert_close(layer(x)[1], 0.5 * balance + 0.25 * z, rtol=0, atol=1e-12)

    layer = random_layer(experts=4, top_k=1, normalize_weights=False, aux_loss_coef=1.0, z_loss_coef=0.0)
    nn.init.zeros_(layer.router.weight)
    assert layer(x)[1].item() == pytest.approx(1.0)  # equal probabilities, whatever the load
    nn.init.constant_(layer.router.weight[2], 100.0)
    assert layer(x.abs())[1].item() == pytest.approx(4.0)
    with torch.no_grad():
        assert layer(x)[1] == 0.0


def test_pools_are_of_equal_layers() -> None:
    x = torch.randn(2, 9, 48, dtype=torch.float64)
    few, many = (random_layer(experts=n, pooled=True) for n in (4, 8))
    terms = [few(x)[1], many(x)[1]]
    torch.testing.assert_close(total(terms), total(terms[:1]) + total(terms[1:]), rtol=0, atol=1e-14)
    assert total([0.0, 0.0]) == 0.0


def test_active_parameters_are_those_of_the_dense_layer() -> None:
    def active(layer: MoE) -> int:
        stacks = (layer.gate, layer.up, layer.down)
        shared = sum(p.numel() for p in layer.shared.parameters())
        return shared + sum(s.weight.numel() * s.active // s.experts for s in stacks)

    sizes = SIZES.replace(width=384)
    dense = sum(p.numel() for p in SwiGLU(sizes).parameters())
    assert active(MoE(sizes)) == active(MoE(sizes, experts=16, top_k=3, shared=1)) == dense
    assert MoE(sizes, top_k=3).gate.weight.shape[1] % 8 == 0
    assert active(MoE(sizes, top_k=3)) == pytest.approx(dense, rel=0.02)
    assert active(MoE(SIZES, hidden=10, shared=2)) == 4 * 3 * 10 * 48


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experts": 1, "top_k": 1}, "experts must be at least 2"),
        ({"experts": 4, "top_k": 5}, r"top_k must be from 1 to experts \(4\), got 5"),
        ({"top_k": 0}, "top_k must be"),
        ({"top_k": 1}, "normalize_weights=False"),
        ({"shared": -1}, "shared must be 0 or more"),
        ({"aux_loss_coef": -0.1}, "aux_loss_coef must be a number from 0 up"),
        ({"z_loss_coef": float("nan")}, "z_loss_coef must be a number from 0 up"),
        ({"hidden": 0}, "hidden must be at least 1"),
    ],
)
def test_moe_refuses_invalid_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoE(SIZES, **options)


def test_autocast_gives_the_dtype_of_linear_layers() -> None:
    layer = random_layer(dtype=torch.float32, shared=1)
    x = torch.randn(2, 30, 48, requires_grad=True)
    expected = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        y, aux = layer(x)
        assert y.dtype == layer.shared(x)[0].dtype == torch.bfloat16
    assert aux.dtype == torch.float32
    wanted = [x, *layer.parameters()]
    assert (y - expected).abs().median() < 0.02 * expected.abs().mean()
    for p, one, two in zip(wanted, gradients(y.float(), wanted), gradients(expected, wanted), strict=True):
        assert one.dtype == p.dtype == torch.float32
        assert (one - two).norm() < 0.2 * two.norm()  # a token may choose otherwise where two experts are close


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_grouped_products_equal_the_loop(dtype: torch.dtype) -> None:
    """What runs on GPUs, in torch's own stand-in for it on CPUs."""
    layer = random_layer(SIZES, torch.float32, hidden=40, experts=5).to(dtype)
    x = torch.randn(30, 48, dtype=dtype, requires_grad=True)
    shares = torch.rand(30, 2, requires_grad=True)
    groups = expert_matmul.group(torch.randint(4, (30, 2)), 5)  # no token for the last expert
    weights = [layer.gate.weight, layer.up.weight, layer.down.weight]
    assert expert_matmul.takes_grouped_mm(x, weights[0]) == (dtype == torch.bfloat16)
    one = expert_matmul.by_grouped_mm(x, shares, groups, *weights)
    two = expert_matmul.mix_experts(x, shares, groups, *weights)
    assert one.dtype == two.dtype == dtype
    wanted = [x, shares, *weights]
    pairs = [(one, two), *zip(gradients(one, wanted), gradients(two, wanted), strict=True)]
    for a, b in pairs:
        assert a.dtype == b.dtype
        if dtype == torch.float32:
            assert_only_rounded(a, b, depth=1, width=48, passes=2)
        else:
            torch.testing.assert_close(a, b, rtol=3e-2, atol=3e-2 * b.abs().max().item())


def test_grouped_products_compile() -> None:
    """In bfloat16, the only type that torch's grouped product is described in to the compiler."""
    layer = random_layer(SIZES, torch.bfloat16, hidden=40, experts=5)
    weights = [layer.gate.weight, layer.up.weight, layer.down.weight]
    x = torch.randn(30, 48, dtype=torch.bfloat16, requires_grad=True)
    chosen, shares = torch.randint(4, (30, 2)), torch.rand(30, 2)

    def run(x: Tensor) -> Tensor:
        return expert_matmul.by_grouped_mm(x, shares, expert_matmul.group(chosen, 5), *weights)

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), run(x))
    for a, b in zip(gradients(compiled(x), [x, *weights]), gradients(run(x), [x, *weights]), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("feedforward", [partial(MoE, pooled=True, shared=1), [MLP, partial(MoE, experts=4)]])
def test_router_losses_under_checkpointing_and_compile(feedforward: Any) -> None:
    torch._dynamo.reset()
    ids = torch.randint(50, (2, 16))

    def run(net: GPT) -> list[Tensor]:
        net.zero_grad()
        loss = net(ids, reduce=lambda hidden, weight, cap, aux: hidden.square().sum() + 10 * aux)
        loss.backward()
        return [loss.detach(), *(p.grad.clone() for p in net.parameters())]

    net = GPT(50, width=32, depth=2, heads=2, context=16, feedforward=feedforward, tie_embeddings=True, seed=1).train()
    again = GPT(
        50, width=32, depth=2, heads=2, context=16, feedforward=feedforward, activation_checkpointing=True, seed=1
    ).train()
    compiled = copy.deepcopy(net)
    compiled.compile(backend="aot_eager", fullgraph=True)
    expected = run(net)
    for other in (again, compiled):
        for one, two in zip(run(other), expected, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_memory_is_counted_without_computing() -> None:
    """On fake tensors, with the weights swapped in: about as much is kept as by a dense layer."""

    def kept(feedforward: type[FeedForward]) -> int:
        return training_memory(GPT(50, width=64, depth=2, context=64, feedforward=feedforward), 4).activations

    assert 0.5 * kept(SwiGLU) < kept(MoE) < 1.5 * kept(SwiGLU)


def least_load(net: GPT, ids: Tensor) -> float:
    """The share of the tokens that the least used expert of any layer gets, over a fair one."""
    seen: list[Tensor] = []
    for module in net.modules():
        if isinstance(module, MoE):
            hook = lambda router, args, logits: seen.append(logits.topk(2).indices)  # noqa: E731
            module.router.register_forward_hook(hook)
    with torch.no_grad():
        net.eval()(ids)
    assert len(seen) == net.sizes.depth
    return min(torch.bincount(s.flatten(), minlength=8).min().item() * 8 / s.numel() for s in seen)


def train(folder: Path, text: Path, settings: dict[str, Any]) -> float:
    """The least load on what was held out, after training by the config."""
    typed = {"data.source.paths": str(text), "trainer.default_root_dir": str(folder), "seed_everything": 1}
    run = build(CONFIG, typed | {"trainer.enable_progress_bar": False} | settings)
    run.trainer.fit(run.model, run.data)
    rows = [batch.inputs for batch in run.data.val_dataloader()[0]]
    return least_load(run.model.net, torch.cat([r for r in rows if r.shape == rows[0].shape]))


def test_a_small_net_uses_all_experts(tmp_path: Path, text_file: Path) -> None:
    small = {"model.net.width": 32, "model.net.depth": 2, "model.net.context": 32, "model.schedule.warmup_steps": 20}
    assert train(tmp_path, text_file, small | {"trainer.max_steps": 100, "trainer.limit_val_batches": 1}) >= 0.25


def test_aux_loss_balances_an_uneven_load() -> None:
    layer = random_layer(experts=6, aux_loss_coef=1.0)
    x = torch.randn(400, 48, dtype=torch.float64) + 0.2
    with torch.no_grad():
        layer.router.weight[0] += 0.3  # what all tokens have in common leads to the first expert
    optimizer = torch.optim.Adam([layer.router.weight], lr=0.01)

    def loads() -> Tensor:
        return torch.bincount(layer.router(x).topk(2).indices.flatten(), minlength=6) * 6 / 800

    assert loads().max() > 2 and loads().min() < 0.7
    for _ in range(100):
        optimizer.zero_grad()
        layer(x)[1].backward()
        optimizer.step()
    assert loads().max() < 1.2 and loads().min() > 0.8


@pytest.mark.slow
@pytest.mark.skipif(not TEXT.exists(), reason="wants tinyshakespeare beside the repository")
def test_no_expert_starves_on_shakespeare(tmp_path: Path) -> None:
    assert train(tmp_path, TEXT, {"trainer.max_steps": 300, "trainer.val_check_interval": 300}) >= 0.25
