"""What a run goes on from: a checkpoint's net, tokenizer and settings, and how they meet what the user typed.

Knows checkpoints as plain data; does not know the parser, the trainer, or how a net is built.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lit_gpt.errors import UserError
from lit_gpt.settings import Typed, flat, short
from lit_gpt.trust import trusted_by_user

# These do not change what the weights mean, so a run that starts from a checkpoint may set them anew.
FREE = ("dropout", "recompute", "seed", "init")
_TRUSTED = ("lit_gpt", "torch", "lightning")


@dataclass(frozen=True)
class Ancestor:
    """A checkpoint that a command starts from, goes on with or measures."""

    path: Path
    config: dict[str, Any]
    tokenizer: dict[str, Any]
    step: int

    @classmethod
    def read(cls, path: str | Path, trust: Iterable[str] = ()) -> "Ancestor":
        """Reads the part of a checkpoint or run directory that settings are made of.

        Args:
            path: A .ckpt file, or a run directory for its best one.
            trust: Packages whose classes it may name besides this project's and torch's.

        Raises:
            UserError: it is missing or unreadable, was not written by `lit-gpt`, or names classes of strangers.
        """
        from lit_gpt import checkpoint

        file = checkpoint.find(path)
        values = checkpoint.read(file)
        if "config" not in values or "tokenizer" not in values:
            raise UserError(f"{file} was not written by lit-gpt fit: it names neither its net nor its tokenizer")
        _refuse_strangers(values["config"], file, trust)
        return cls(file, copy.deepcopy(values["config"]), values["tokenizer"], int(values.get("global_step", 0)))

    @cached_property
    def net(self) -> dict[str, Any]:
        """`model.net` without its vocabulary size, which goes its own way (see `vocab_size`)."""
        net: dict[str, Any] = copy.deepcopy(self.config["model"]["net"])
        net["init_args"].pop("vocab_size", None)
        return net

    @property
    def vocab_size(self) -> int:
        """Ids that the net has an embedding for."""
        return int(self.config["model"]["net"]["init_args"]["vocab_size"])

    def start(self) -> dict[str, Any]:
        """The settings that `init_from` gives: net and tokenizer."""
        return {"model": {"net": self.net}, "data": self._tokenizer_setting()}

    def whole(self, typed: Typed) -> dict[str, Any]:
        """All settings of model and data, for measuring it again.

        Where another text is typed, the folder of ids is left out: it holds the run's own text and shall go on to.
        """
        model = {**copy.deepcopy(self.config["model"]), "net": self.net}
        model.pop("init_from", None)
        data = copy.deepcopy(self.config.get("data", {}))
        if any(typed.has(f"data.{key}") for key in ("source", "val_source", "test_source", "extra_val")):
            data.pop("folder", None)
        return {"model": model, "data": data}

    def _tokenizer_setting(self) -> dict[str, Any]:
        setting = self.config.get("data", {}).get("tokenizer")
        return {"tokenizer": copy.deepcopy(setting)} if setting else {}

    def refuse_conflicts(self, net: dict[str, Any], data: dict[str, Any]) -> None:
        """Refuses a typed net, tokenizer or vocabulary with which the weights would mean something else.

        Raises:
            UserError: naming the key, what the checkpoint has and what was typed.
        """
        size = data.get("vocab_size")
        if size not in (None, self.vocab_size):
            raise UserError(
                f"data.vocab_size is {size}, but the net of {self.path} has {self.vocab_size}; leave it out"
            )
        given = {"model": {"net": net}, "data": {"tokenizer": data.get("tokenizer")}}
        for key, ours, typed in differences(self.start(), given):
            if _is_free(key, net):
                continue
            raise UserError(
                f"{key} is {typed!r}, but {self.path} was trained with {ours!r}; leave {key} out to take it over"
            )

    def refuse_another_split(self, data: dict[str, Any]) -> None:
        """Refuses to cut the run's own text anew: what the run was trained on would be measured.

        Raises:
            UserError: naming the key, what the run had and what was typed.
        """
        own = self.config.get("data", {})
        if differences({"source": own.get("source")}, {"source": data["source"]}):
            return
        for key in ("val_fraction", "test_fraction", "split_by"):
            if data.get(key) != own.get(key):
                raise UserError(
                    f"data.{key} is {data.get(key)!r}, but {self.path} was trained with {own.get(key)!r}: text that it"
                    " was trained on would be measured; give a text of its own with data.val_source or data.test_source"
                )

    def tokenizer_object(self) -> Any:
        """The trained tokenizer."""
        from lit_gpt.data.tokenizers import Tokenizer

        return Tokenizer.restore(self.tokenizer)


def _is_free(key: str, net: dict[str, Any]) -> bool:
    name = key.removeprefix("model.net.").partition(".")[0]
    if name == "context":  # positions without a table of weights go on beyond what they were trained with
        return "Learned" not in str(net["init_args"].get("position"))
    return key.startswith("model.net.") and (name in FREE or key.endswith(".dropout"))


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Keys as people type them whose values differ, with the old and the new value; None where one lacks the key."""
    # No arguments and arguments that are all null say the same.
    a, b = ({key: value for key, value in flat(one).items() if value != {}} for one in (old, new))
    found = []
    for key in dict.fromkeys([*a, *b]):
        if a.get(key) != b.get(key):
            found.append((short(key), _shown(a.get(key)), _shown(b.get(key))))
    return found


def _shown(value: Any) -> Any:
    """A class path as its name alone."""
    is_path = isinstance(value, str) and value.startswith(("lit_gpt.", "torch."))
    return value.rpartition(".")[2] if is_path else value


def _class_paths(values: Any) -> Iterator[str]:
    if isinstance(values, dict):
        if isinstance(values.get("class_path"), str):
            yield values["class_path"]
        for value in values.values():
            yield from _class_paths(value)
    elif isinstance(values, list):
        for value in values:
            yield from _class_paths(value)


def packages(values: Any) -> set[str]:
    """The packages of all class paths in nested values."""
    return {path.partition(".")[0] for path in _class_paths(values)}


def _refuse_strangers(config: dict[str, Any], file: Path, trust: Iterable[str]) -> None:
    allowed = {*_TRUSTED, *trust, *trusted_by_user()}
    for path in _class_paths(config):
        package = path.partition(".")[0]
        if package not in allowed:
            raise UserError(
                f"{file} names the class {path}, which is code outside lit_gpt; "
                f"if you trust the package, say so with LIT_GPT_TRUST={package}"
            )
