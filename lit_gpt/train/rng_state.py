"""The states of the random number generators of Python, NumPy and torch: read them, restore them."""

import random
from typing import Any

import numpy
import torch

GPU_STATE = "cuda"


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators as plain data and tensors."""
    return plain_states(raw_states(device))


def raw_states(device: torch.device) -> dict[str, Any]:
    state = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": numpy.random.get_state(legacy=True),
    }
    if device.type == "cuda":
        state[GPU_STATE] = torch.cuda.get_rng_state(device)
    return state


def plain_states(raw: dict[str, Any]) -> dict[str, Any]:
    version, internal, gauss = raw["python"]
    kind, keys, position, has_gauss, cached = raw["numpy"]
    words = torch.from_numpy(numpy.asarray(keys).astype("int64"))
    return {
        **raw,
        "python": [version, list(internal), gauss],
        "numpy": [str(kind), words, int(position), int(has_gauss), float(cached)],
    }


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Undo `random_state`."""
    torch.set_rng_state(state["torch"])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    numpy.random.set_state((kind, keys.numpy().astype("uint32"), position, has_gauss, cached))
    if device.type == "cuda" and GPU_STATE in state:
        torch.cuda.set_rng_state(state[GPU_STATE], device)
