"""What a net costs: parameters, FLOPs per token, bytes in training and on disk, and what the device could do.

The one source of these numbers for the table before a run, the throughput in its logs and `inspect`.
Knows the net, not the trainer. Letters: B batch, T tokens of a window.
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
from lit_gpt.nn.attention import SelfAttention
from lit_gpt.nn.loss import CHUNK_ELEMENTS

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
USUAL_UTILISATION = 0.4  # share of the peak that training reaches, for a forecast before anything was measured


@dataclass(frozen=True)
class Count:
    """Numbers of parameters; a tied head is counted once, as an embedding."""

    parameters: int
    trainable: int
    matrices: int  # in tensors of two or more dimensions, embeddings and head included
    embeddings: int  # in lookup tables


def count(net: nn.Module) -> Count:
    """Counts the parameters of a net."""
    parameters = list(net.parameters())
    tables = {id(m.weight): m.weight for m in net.modules() if isinstance(m, nn.Embedding)}
    return Count(
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
        sum(p.numel() for p in parameters if p.ndim >= 2),
        sum(t.numel() for t in tables.values()),
    )


def flops_per_token(net: GPT, context: int | None = None, training: bool = True) -> float:
    """FLOPs of the matrix products for one token, as counted by PaLM (Chowdhery et al. 2022, appendix B): two for each
    weight that a token is multiplied with, and attention over the whole window; three times that with the backward.

    Args:
        net: The net.
        context: Tokens of a window; None for the net's own.
        training: Whether the backward pass is counted too.
    """
    context = context or net.context
    tables = {id(m.weight) for m in net.modules() if isinstance(m, nn.Embedding)}
    weights = sum(p.numel() for p in net.parameters() if p.ndim >= 2 and id(p) not in tables)
    if id(net.head.weight) in tables:
        weights += net.head.weight.numel()
    forward = 2.0 * weights
    for module in net.modules():
        if isinstance(module, SelfAttention):
            forward += 4.0 * module.heads * module.head_size * min(context, module.window or context)
    return forward * (3 if training else 1)


@dataclass(frozen=True)
class Memory:
    """Bytes that training needs, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits


def training_memory(net: GPT, batch_size: int, context: int | None = None, bytes_per_activation: int = 4) -> Memory:
    """Bytes that a training step holds at its peak, with Adam's two moments.

    Activations are not guessed: the forward pass is run on fake tensors, which compute nothing but know their device
    and so its kernels, and what autograd keeps for the backward pass is added up.

    Args:
        net: The net.
        batch_size: B, windows in one micro-batch.
        context: T, tokens in a window; None for the net's own.
        bytes_per_activation: 4, or 2 where autocast keeps most of a float32 net's in 16 bits.
    """
    context = context or net.context
    numbers = count(net)
    itemsize = next(net.parameters()).element_size()
    logits = min(batch_size * context * net.vocab_size, max(CHUNK_ELEMENTS, net.vocab_size)) * 4 * 3
    kept = _saved_bytes(net, batch_size, context) * min(bytes_per_activation, itemsize) // itemsize
    return Memory(
        numbers.parameters * itemsize, numbers.trainable * itemsize, 2 * numbers.trainable * itemsize, kept, logits
    )


def checkpoint_bytes(net: nn.Module) -> int:
    """Bytes of a checkpoint on disk: weights and Adam's two moments."""
    numbers = count(net)
    itemsize = next(net.parameters()).element_size()
    return (numbers.parameters + 2 * numbers.trainable) * itemsize


def peak_flops(device: torch.device | str, precision: str = "32-true") -> float:
    """FLOP/s that the device could reach in matrix products: the data sheet's for known GPUs, measured elsewhere.

    Args:
        device: Where the net trains.
        precision: Lightning's name for it, e.g. ``bf16-mixed`` or ``32-true``.
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
    """Seconds that training on so many tokens takes at the usual share of the device's peak; an order of magnitude."""
    return flops_per_token(net, context) * tokens / (USUAL_UTILISATION * peak_flops(device, precision))


_measured: dict[tuple[str, torch.dtype, int], float] = {}


def _measured_peak(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """FLOP/s of the fastest of some square matrix products; measured once per process."""
    key = (str(device), dtype, torch.get_num_threads())
    if key not in _measured:
        # A generator of its own: measuring must not move the random state of a run.
        own = torch.Generator(device).manual_seed(0)
        a = torch.randn(size, size, device=device, generator=own).to(dtype)
        best = float("inf")
        for _ in range(5):
            begun = time.perf_counter()
            (a @ a).sum().item()  # .item() waits for the device
            best = min(best, time.perf_counter() - begun)
        _measured[key] = 2 * size**3 / best
    return _measured[key]


def _saved_bytes(net: GPT, batch_size: int, context: int) -> int:
    """Bytes of the tensors that autograd keeps for the backward pass, parameters left out."""
    stored: dict[int, tuple[Any, int]] = {}  # by storage; the storage is kept alive so that its address stays its own

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        stored[storage._cdata] = (storage, storage.nbytes())
        return tensor

    fake = FakeTensorMode(allow_non_fake_inputs=True)
    state = {name: fake.from_tensor(t.detach()).requires_grad_(t.requires_grad) for name, t in net.named_parameters()}
    state |= {name: fake.from_tensor(t) for name, t in net.named_buffers()}
    own = {t.untyped_storage()._cdata for t in state.values()}
    was_training = net.training
    net.train()
    # A compiled net would be compiled for this one pass.
    eager = torch.compiler.set_stance("force_eager") if net._compiled_call_impl is not None else nullcontext()
    try:
        with fake, eager, torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            ids = torch.zeros(batch_size, context, dtype=torch.int64, device=net.embedding.weight.device)
            torch.func.functional_call(net, state, (ids,), {"reduce": lambda hidden, *_: hidden}, tie_weights=True)
    finally:
        net.train(was_training)
    return sum(size for address, (_, size) in stored.items() if address not in own)
