"""Folders of small random models as transformers writes them, for every case of every family.

A family's cases stand in `families/<name>.py`: ARCHITECTURE, and CASES by name: arguments of its config class.
`lifted()` there is a context in which the family computes in float64 throughout.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import transformers
from comparison import randomize
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers_float64 import Float64

VOCABULARY = 300
COMMON = {"vocab_size": VOCABULARY, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None}


@dataclass(frozen=True)
class Case:
    """One model of a family."""

    family: str
    name: str

    @property
    def module(self) -> ModuleType:
        return load(self.family)

    def config(self) -> Any:
        model = getattr(transformers, self.module.ARCHITECTURE)
        arguments = dict(COMMON) | self.module.CASES[self.name]
        if "max_position_embeddings" not in arguments and self.family not in ("gpt2", "bloom", "mpt"):
            arguments["max_position_embeddings"] = 96
        return model.config_class(**arguments)

    def ids(self) -> torch.Tensor:
        return torch.randint(0, 256, (2, 80), generator=torch.Generator().manual_seed(1))


@cache
def load(family: str) -> ModuleType:
    file = Path(__file__).parent / "families" / f"{family}.py"
    spec = importlib.util.spec_from_file_location(f"hub_case_{family}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases() -> list[Any]:
    """All cases, each with a readable name."""
    files = sorted((Path(__file__).parent / "families").glob("*.py"))
    return [pytest.param(Case(f.stem, name), id=f"{f.stem}: {name}") for f in files for name in load(f.stem).CASES]


def make(case: Case, dtype: torch.dtype = torch.float32, scale: float = 1.0, seed: int = 0) -> nn.Module:
    """transformers' model with random weights; to be run within `computing_in` the same type.

    With a scale the embedding of every other seed gets smaller in its place: a tied net whose stream is mostly the last
    token's embedding says that token again and again.
    """
    config = case.config()
    with computing_in(dtype):
        model = getattr(transformers, case.module.ARCHITECTURE)(config)
    if hasattr(config, "num_experts_per_tok"):
        model.set_experts_implementation("eager")
    model.eval()
    randomize(model, scale, seed)
    if scale != 1 and seed % 2 == 0:
        model.get_input_embeddings().weight.data /= 30 * scale
    return model


@contextmanager
def computing_in(dtype: torch.dtype) -> Iterator[None]:
    """Within it transformers computes in this type, float64 without its own detours through float32."""
    if dtype != torch.float64:
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # for what it makes of Python's numbers
    try:
        with Float64():
            yield
    finally:
        torch.set_default_dtype(before)


def save(model: nn.Module, folder: Path) -> Path:
    """Writes the model with a byte tokenizer beside it."""
    model.save_pretrained(folder)
    tokenizer(folder)
    return folder


def tokenizer(folder: Path) -> None:
    """A byte-level tokenizer without merges: 256 bytes and an end."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: id for id, character in enumerate(alphabet)}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<|end|>"])
    inner.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "clean_up_tokenization_spaces": false}'
    )
