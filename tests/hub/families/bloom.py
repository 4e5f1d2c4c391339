"""BLOOM's odd options."""

import math
from typing import Any
from unittest import mock

import torch
from transformers.models.bloom import modeling_bloom

ARCHITECTURE = "BloomForCausalLM"
CASES = {
    "power of two heads": {"hidden_size": 64, "n_layer": 2, "n_head": 4},
    "six heads, untied": {
        "hidden_size": 48,
        "n_layer": 3,
        "n_head": 6,
        "layer_norm_epsilon": 1e-3,
        "tie_word_embeddings": False,
    },
}


def exact(x: torch.Tensor) -> torch.Tensor:
    """GELU's approximation with its constant written out; transformers' BLOOM has eight digits of it."""
    return x * 0.5 * (1.0 + torch.tanh(math.sqrt(2 / math.pi) * x * (1 + 0.044715 * x * x)))


def lifted() -> Any:
    """Within it transformers computes BLOOM in float64 throughout."""
    return mock.patch.object(modeling_bloom, "bloom_gelu_forward", exact)
