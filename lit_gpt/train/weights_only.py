"""Check that a checkpoint can be read with `torch.load(weights_only=True)`, with an error that names what cannot."""

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_gpt.errors import UserError

_OWNERS = {
    "optimizer_states": "the optimizer",
    "lr_schedulers": "the schedule",
    "hyper_parameters": "the module's hyperparameters",
    "state_dict": "the module",
    "loops": "the trainer's loops",
}
#: What torch.save raises for an object that cannot be pickled.
PICKLING_ERRORS = (pickle.PicklingError, AttributeError, TypeError)


def check_loadable(path: Path, checkpoint: dict[str, Any]) -> None:
    """Read the file of a checkpoint back; its tensors are memory-mapped, so the size does not matter.

    Raises:
        UserError: It cannot be read; names the value, its type and its owner.
    """
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise not_picklable(checkpoint) from None


def not_picklable(checkpoint: dict[str, Any]) -> UserError:
    """The error for a checkpoint that cannot be read back, which names the first such value in it."""
    found = _first(checkpoint, ())
    if found is None:
        return UserError("this checkpoint could not be read back, so it was not kept")
    keys, value = found
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    where = ".".join(str(key) for key in keys)
    return UserError(
        f"{_owner(keys)} cannot be saved: {where} is a {kind}, which no checkpoint can be read back with; "
        "give plain numbers, strings, lists, dicts or tensors as its state"
    )


def _owner(keys: tuple[Any, ...]) -> str:
    first = str(keys[0]) if keys else ""
    if first == "callbacks" and len(keys) > 1:
        return f"the state of the callback {str(keys[1]).partition('{')[0]}"
    return f"the state of {_OWNERS.get(first, first)}"


def _first(value: Any, keys: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any] | None:
    """Keys and value of the first entry that cannot be read back."""
    if isinstance(value, Tensor) or _comes_back(value):
        return None
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, item in inner:
        if not _comes_back(key):
            return keys, key
        if found := _first(item, (*keys, key)):
            return found
    return keys, value


def _comes_back(value: Any) -> bool:
    if isinstance(value, str | int | float | bool | None) and type(value).__module__ == "builtins":
        return True
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except (*PICKLING_ERRORS, pickle.UnpicklingError):
        return False
    return True
