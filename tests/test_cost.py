"""Counts and FLOPs against counts done by hand and by torch's own counter."""

from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lit_gpt import cost
from lit_gpt.model import GPT
from lit_gpt.nn import SelfAttention, SwiGLU


def test_nanogpt_cpu_recipe_counts() -> None:
    """nanoGPT prints 802,944 decayed parameters for its CPU recipe."""
    net = GPT(65)
    numbers = cost.count(net)
    assert numbers.matrices == 802_944
    assert numbers.embeddings == 65 * 128 + 64 * 128
    assert numbers.parameters == 802_944 + 9 * 128


@pytest.mark.parametrize("tie", [True, False])
def test_flops_equal_those_of_torchs_counter(tie: bool) -> None:
    grouped = partial(SelfAttention, kv_heads=2)
    net = GPT(96, width=64, heads=4, context=32, tie=tie, feedforward=SwiGLU, attention=grouped)
    ids = torch.zeros(3, 32, dtype=torch.long)
    # The counter knows matrix products, not the CPU's flash kernel.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(ids)
    assert counter.get_total_flops() == cost.flops_per_token(net, training=False) * ids.numel()
    assert cost.flops_per_token(net) == 3 * cost.flops_per_token(net, training=False)


def test_a_window_costs_less() -> None:
    local = GPT(64, context=64, attention=partial(SelfAttention, window=16))
    full = GPT(64, context=64)
    saved = cost.flops_per_token(full, 64, False) - cost.flops_per_token(local, 64, False)
    assert saved == 4 * 4 * 128 * 48  # layers x (scores and values, 2 FLOPs each) x width x tokens out of sight


def test_activations_grow_with_the_batch_and_shrink_under_recompute() -> None:
    net, again = GPT(65, depth=6), GPT(65, depth=6, recompute=True)
    one, two = cost.training_memory(net, 4), cost.training_memory(net, 8)
    assert two.activations == pytest.approx(2 * one.activations, rel=0.05)
    assert cost.training_memory(again, 8).activations < 0.3 * two.activations
    assert one.weights == 4 * cost.count(net).parameters
    assert one.optimizer == 2 * one.weights
    assert all(p.grad is None and not p.is_meta for p in net.parameters())


def test_activations_are_those_that_autograd_keeps() -> None:
    """Against a real pass on this device; the fused kernel keeps no scores, so nothing grows with context squared."""
    net = GPT(65, context=512)
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(torch.zeros(2, 512, dtype=torch.long), reduce=lambda hidden, *_: hidden).sum()
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    real = sum(storage.nbytes() for address, storage in kept.items() if address not in own)
    assert cost.training_memory(net, 2).activations == pytest.approx(real, rel=0.01)
    half = GPT(65, context=512).bfloat16()
    assert cost.training_memory(half, 2, bytes_per_activation=2).activations > 0.45 * real


def test_the_cost_of_a_compiled_net_compiles_nothing() -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("compiled")

    net = GPT(65)
    net.compile(backend=refuse)
    assert cost.training_memory(net, 4) == cost.training_memory(GPT(65), 4)


def test_measured_peak_is_a_plausible_speed() -> None:
    assert 1e8 < cost.peak_flops("cpu") < 1e14
