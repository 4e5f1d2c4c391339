"""lit_gpt: train, compare, fine-tune, inspect and sample GPTs. Public names are imported on first use (PEP 562)."""

from importlib import import_module
from typing import Any

_HOME = {
    "GPT": "lit_gpt.model",
    "LitGPT": "lit_gpt.train.module",
    "TokenData": "lit_gpt.data.module",
    "TextGenerator": "lit_gpt.generate.text_generator",
    "build": "lit_gpt.cli",
    "load": "lit_gpt.checkpoint",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lit_gpt' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOME))
