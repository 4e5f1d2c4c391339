"""Cost of a net: parameter counts, FLOPs per token, memory of training and generation, peak FLOP/s of devices (MFU).

The one source of these numbers for the summary before a run, the throughput in its logs and `inspect`.
Letters: B batch, T tokens of a sequence.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from lit_gpt.model import GPT
from lit_gpt.nn.attention import Attention, SelfAttention
from lit_gpt.nn.cache import LayerCache
from lit_gpt.nn.feedforward import FeedForward
from lit_gpt.nn.linear import Stacked
from lit_gpt.nn.loss import CHUNK_ELEMENTS
from lit_gpt.nn.norm import Norm
from lit_gpt.nn.position import Position

# Dense peak of the tensor cores in FLOP/s from the makers' data sheets: (16-bit floats, TF32).
GPU_PEAKS = {
    "H200": (989e12, 494e12),
    "H100 PCIe": (756e12, 378e12),
    "H100": (989e12, 494e12),
    "GH200": (989e12, 494e12),
    "B200": (2250e12, 1125e12),
    "A100": (312e12, 156e12),
    "A10G": (70e12, 35e12),
    "L40S": (362e12, 183e12),
    "L40": (181e12, 91e12),
    "L4": (121e12, 60e12),
    "RTX 4090": (165e12, 83e12),
    "RTX 3090": (71e12, 36e12),
    "V100": (125e12, 16e12),
    "T4": (65e12, 8e12),
}
USUAL_UTILIZATION = 0.4  # share of the peak that training reaches, for a forecast before anything was measured


@dataclass(frozen=True)
class Count:
    """Parameter counts; a tied head is counted once, as an embedding."""

    parameters: int
    trainable: int
    matrices: int  # in tensors of two or more dimensions, embeddings and head included
    embeddings: int  # in lookup tables
    active: int  # without those of experts that a token is not routed to


def count(net: nn.Module) -> Count:
    """Parameter counts of a whole net."""
    return _count(_owned(net))


def parts(net: GPT) -> dict[str, Count]:
    """Parameter counts by component, which add up to `count`; components without parameters are omitted. Those of a
    tied head belong to the embedding, norms of queries and keys to the norms."""
    bases = (("positions", Position), ("attention", Attention), ("feed-forward", FeedForward), ("norms", Norm))
    names: dict[int, str] = {id(net.embedding): "embedding", id(net.head): "head"}
    for name, base in bases:  # norms last: those of queries and keys are inside an attention
        outer = [module for module in net.modules() if isinstance(module, base)]
        names |= {id(inner): name for module in outer for inner in module.modules()}
    groups: dict[str, list[tuple[nn.Module, nn.Parameter]]] = {}
    for module, parameter in _owned(net):
        groups.setdefault(names.get(id(module), "other"), []).append((module, parameter))
    order = ("embedding", "positions", "attention", "feed-forward", "norms", "head", "other")
    return {name: _count(groups[name]) for name in order if name in groups}


def _owned(net: nn.Module) -> list[tuple[nn.Module, nn.Parameter]]:
    """Each parameter once, with the first module that has it."""
    seen: dict[int, tuple[nn.Module, nn.Parameter]] = {}
    for module in net.modules():
        for parameter in module.parameters(recurse=False):
            seen.setdefault(id(parameter), (module, parameter))
    return list(seen.values())


def _count(owned: list[tuple[nn.Module, nn.Parameter]]) -> Count:
    return Count(
        sum(p.numel() for _, p in owned),
        sum(p.numel() for _, p in owned if p.requires_grad),
        sum(p.numel() for _, p in owned if p.ndim >= 2),
        sum(p.numel() for m, p in owned if isinstance(m, nn.Embedding)),
        sum(_active(m, p) for m, p in owned),
    )


def _active(module: nn.Module, parameter: nn.Parameter) -> int:
    """Numbers of a parameter that one token is multiplied with: of stacked experts only the active ones'."""
    numbers = parameter.numel()
    return numbers * module.active // module.experts if isinstance(module, Stacked) else numbers


def flops_per_token(net: GPT, context: int | None = None, training: bool = True) -> float:
    """FLOPs of the matrix products for one token, as counted by PaLM (Chowdhery et al. 2022, appendix B): two for each
    weight that a token is multiplied with, and attention over the whole context; three times that in training.

    Attention counts keys that the causal mask hides too, and no more than the width of a sliding window. Lookups cost
    nothing; of a mixture of experts only the active experts count.

    Args:
        net: The net.
        context: Tokens of a sequence; None for the net's context.
        training: Whether the backward pass is counted too.
    """
    context = context or net.context
    forward = 0.0
    for module in net.modules():
        if isinstance(module, SelfAttention):
            forward += 4.0 * module.heads * module.head_size * min(context, module.window or context)
        if not isinstance(module, nn.Embedding):  # a tied head is a module of its own, and counts
            own = module.parameters(recurse=False)
            vectors = 2 if isinstance(module, Stacked) else 1  # dimensions of a bias
            forward += 2.0 * sum(_active(module, p) for p in own if p.ndim > vectors)
    return forward * (3 if training else 1)


@dataclass(frozen=True)
class Memory:
    """Bytes that training needs, by use."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


def training_memory(
    net: GPT,
    batch_size: int,
    context: int | None = None,
    bytes_per_activation: int = 4,
    device: torch.device | str | None = None,
) -> Memory:
    """Bytes that a training step holds at its peak, with Adam's two moments.

    Activations are those that autograd keeps in a forward pass on fake tensors, which compute nothing but know their
    device and so its kernels.

    Args:
        net: The net; it may be on the meta device.
        batch_size: B, sequences in one micro-batch.
        context: T, tokens in a sequence; None for the net's context.
        bytes_per_activation: 4, or 2 where autocast keeps most of a float32 net's in 16 bits.
        device: Where it would train. None: where it is, and the CPU for the meta device.
    """
    context = context or net.context
    numbers = count(net)
    itemsize = next(net.parameters()).element_size()
    logits = min(batch_size * context * net.vocab_size, max(CHUNK_ELEMENTS, net.vocab_size)) * 4 * 3
    here = net.embedding.weight.device
    device = torch.device(device) if device else torch.device("cpu") if here.type == "meta" else here
    kept = _saved_bytes(net, batch_size, context, device) * min(bytes_per_activation, itemsize) // itemsize
    return Memory(
        numbers.parameters * itemsize, numbers.trainable * itemsize, 2 * numbers.trainable * itemsize, kept, logits
    )


@dataclass(frozen=True)
class GenerationMemory:
    """Bytes that generation holds, by use."""

    weights: int
    per_token: int  # keys and values of one token of one sequence, in all layers
    cache: int  # KV cache of all sequences

    @property
    def total(self) -> int:
        return self.weights + self.cache


def generation_memory(
    net: GPT, batch_size: int = 1, context: int | None = None, bytes_per_number: int | None = None
) -> GenerationMemory:
    """Bytes of the weights, and of the KV cache when it holds whole sequences that grew a token at a time.

    Args:
        net: The net; it may be on the meta device.
        batch_size: B, sequences generated at once.
        context: Tokens of each; None for the net's context.
        bytes_per_number: Of weights, keys and values. None: those of the net's weights.
    """
    itemsize = bytes_per_number or next(net.parameters()).element_size()
    per_token = sum(2 * m.kv_heads * m.head_size for m in net.modules() if isinstance(m, SelfAttention)) * itemsize
    tokens = _cache_capacity(context or net.context)
    return GenerationMemory(count(net).parameters * itemsize, per_token, batch_size * tokens * per_token)


def _cache_capacity(context: int) -> int:
    """Tokens that a layer's buffers have room for when they hold ``context`` of them."""
    layer, token, capacity = LayerCache(), torch.empty(1, 1, 1, 1, device="meta"), 0
    while capacity < context:
        layer.append(token, token, capacity)
        assert layer.k is not None
        capacity = layer.k.shape[2]
    return capacity


def checkpoint_bytes(net: nn.Module) -> int:
    """Bytes of a checkpoint: weights and Adam's two moments."""
    numbers = count(net)
    itemsize = next(net.parameters()).element_size()
    return (numbers.parameters + 2 * numbers.trainable) * itemsize


def size(count: float) -> str:
    """Bytes as text, such as 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def peak_flops(device: torch.device | str, precision: str = "32-true") -> float:
    """Peak FLOP/s of matrix products: the data sheet's for known GPUs, measured elsewhere.

    Args:
        device: Where the net trains.
        precision: As Lightning names it, e.g. ``bf16-mixed`` or ``32-true``.
    """
    device = torch.device(device)
    half = "16" in precision
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for known, peaks in GPU_PEAKS.items():
            if known in name:
                return peaks[0] if half else peaks[1]
    return _measured_peak(device, torch.bfloat16 if half else torch.float32)


def forecast_seconds(net: GPT, tokens: int, device: torch.device | str, precision: str, context: int | None) -> float:
    """Seconds of training at the usual share of the device's peak; an order of magnitude."""
    return flops_per_token(net, context) * tokens / (USUAL_UTILIZATION * peak_flops(device, precision))


_measured: dict[tuple[str, torch.dtype, int], float] = {}


def _measured_peak(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """FLOP/s of the fastest of some square matrix products; measured once per process."""
    key = (str(device), dtype, torch.get_num_threads())
    if key not in _measured:
        generator = torch.Generator(device).manual_seed(0)  # measuring must not change a run's random state
        a = torch.randn(size, size, device=device, generator=generator).to(dtype)
        best = float("inf")
        for _ in range(5):
            begun = time.perf_counter()
            (a @ a).sum().item()  # .item() waits for the device
            best = min(best, time.perf_counter() - begun)
        _measured[key] = 2 * size**3 / best
    return _measured[key]


def _saved_bytes(net: GPT, batch_size: int, context: int, device: torch.device) -> int:
    """Bytes of the tensors that autograd keeps for the backward pass, without parameters."""
    stored: dict[int, tuple[Any, int]] = {}  # by storage; the storage is kept alive so that its address stays its own

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        stored[storage._cdata] = (storage, storage.nbytes())
        return tensor

    for position in net.positions:
        position.reach(context)  # grows its tables here: grown in the pass they would stay fake
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        state = {
            name: torch.empty(t.shape, dtype=t.dtype, device=device).requires_grad_(t.requires_grad)
            for name, t in (*net.named_parameters(), *net.named_buffers())
        }
        ids = torch.zeros(batch_size, context, dtype=torch.int64, device=device)
    own = {t.untyped_storage()._cdata for t in state.values()}
    was_training = net.training
    net.train()
    # A compiled net would be compiled for this one pass.
    eager = torch.compiler.set_stance("force_eager") if net._compiled_call_impl is not None else nullcontext()
    try:
        with fake, eager, torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            torch.func.functional_call(net, state, (ids,), {"reduce": lambda hidden, *_: hidden}, tie_weights=True)
    finally:
        net.train(was_training)
    return sum(size for address, (_, size) in stored.items() if address not in own)
