"""The base checkpoint of a run: its net, tokenizer and settings, merged with what the user typed.

Handles checkpoints as plain data only.
"""

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from lit_gpt.config.command_line import CommandLine
from lit_gpt.config.differences import agrees, differences, shown
from lit_gpt.config.registry import FREE_ARGUMENTS, FREE_COMPONENT_ARGUMENTS
from lit_gpt.config.trust import check_untrusted, check_untrusted_arguments
from lit_gpt.config.yaml_files import flat, short
from lit_gpt.errors import UserError

#: The classes whose arguments the sections of a checkpoint's settings are; imported when a checkpoint is read.
_OWNERS = {
    "model": "lit_gpt.train.module.LitGPT",
    "data": "lit_gpt.data.module.TokenData",
    "trainer": "lightning.pytorch.Trainer",
}


class Vocabulary(NamedTuple):
    """What a net's vocabulary becomes: its rows, the ids of new tokens, the ids that are known already."""

    size: int
    new: dict[str, int]
    known: list[int]


@dataclass(frozen=True)
class BaseCheckpoint:
    """A checkpoint that a command starts from, goes on with or measures.

    Args:
        path: Its file.
        config: The settings of the run that wrote it.
        tokenizer: The tokenizer's state.
        step: Optimizer steps that it has seen.
        has_training_state: Whether a trainer wrote it, and not an import: then there is more in it than a net.
        fingerprints: Of the text and the tokenizer that it was trained on.
        trust: Packages of the user's whose classes it may name.
    """

    path: Path
    config: dict[str, Any]
    tokenizer: dict[str, Any]
    step: int
    has_training_state: bool = True
    fingerprints: dict[str, Any] = field(default_factory=dict)
    trust: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: str | Path, trust: Iterable[str] = ()) -> "BaseCheckpoint":
        """Reads the part of a checkpoint or run directory that settings are made of.

        Args:
            path: A .ckpt file, or a run directory for its best one.
            trust: Packages whose classes it may name besides this project's and torch's.

        Raises:
            UserError: it is missing or unreadable, was not written by `lit-gpt`, or names classes of strangers.
        """
        from lit_gpt import checkpoint

        saved, trust = checkpoint.read(path), tuple(trust)
        if saved.config is None or saved.tokenizer is None:
            raise UserError(f"{saved.path} was not written by lit-gpt fit: it lacks its configuration or its tokenizer")
        check_untrusted_sections(saved.config, saved.path, trust)
        saved.net_config()
        config = copy.deepcopy(saved.config)
        return cls(saved.path, config, saved.tokenizer, saved.step, saved.has_training_state, saved.fingerprints, trust)

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

    def whole(self, command_line: CommandLine) -> dict[str, Any]:
        """All settings of model and data, for measuring it again.

        Where another text is typed, data.folder is dropped, so that the run's prepared corpus is not overwritten.
        """
        model = {**copy.deepcopy(self.config["model"]), "net": self.net}
        model.pop("init_from", None)
        data = copy.deepcopy(self.config.get("data", {}))
        if any(command_line.has(f"data.{key}") for key in ("source", "val_source", "test_source", "extra_val")):
            data.pop("folder", None)
        keep_folders_that_are_there(data)
        return {"model": model, "data": data}

    def _tokenizer_setting(self) -> dict[str, Any]:
        setting = self.config.get("data", {}).get("tokenizer")
        return {"tokenizer": copy.deepcopy(setting)} if setting else {}

    def refuse_conflicts(self, net: dict[str, Any], data: dict[str, Any], own: dict[str, Any]) -> list[str]:
        """Refuses a typed net, tokenizer or vocabulary with which the weights would mean something else.

        A base or scaling of rotary positions may be typed: so a net is made to read further than it was trained to.

        Args:
            net: `model.net` as it was typed.
            data: `data` as it was typed.
            own: What `start` gives, read as the typed settings were read.

        Returns:
            A line for each setting of positions that is not what the weights were trained with.

        Raises:
            UserError: naming the key, what the checkpoint has and what was typed.
        """
        notes = []
        size = data.get("vocab_size")
        grows = bool(size and data.get("add_tokens") and size > self.vocab_size)
        if size not in (None, self.vocab_size) and not grows:
            raise UserError(
                f"data.vocab_size is {size}, but the net of {self.path} has {self.vocab_size}; leave it out"
            )
        given = {"model": {"net": net}, "data": {"tokenizer": data.get("tokenizer")}}
        ours_alone = {"model": {"net": own["model"]["net"]}, "data": {"tokenizer": own["data"].get("tokenizer")}}
        for key, ours, typed in differences(ours_alone, given):
            if _is_free(key, net):
                continue
            if _STRETCHED.match(key):
                notes.append(f"{key} is {typed}; {self.path} was trained with {ours}")
                continue
            raise UserError(
                f"{key} is {typed!r}, but {self.path} was trained with {ours!r}; leave {key} out to take it over"
            )
        return notes

    def notes_on_resume(self, asked: dict[str, Any], now: dict[str, Any]) -> list[str]:
        """What a resumed run keeps against what was typed, and what it changes.

        Args:
            asked: What was typed for net and tokenizer, by dotted key.
            now: The config that the run goes on with.

        Raises:
            UserError: there is no training to go on with.
        """
        if not self.has_training_state:
            raise UserError(f"{self.path} was not trained here; start a run from it with --model.init_from {self.path}")
        kept = {short(key): value for key, value in flat({key: now[key] for key in ("model", "data")}).items()}
        notes = [
            f"resume keeps {key} = {shown(kept.get(key))} of the checkpoint; {shown(typed)} was asked for"
            for key, typed in asked.items()
            if not agrees(typed, kept.get(key))
        ]
        before = {key: self.config.get(key) for key in ("seed_everything", "skip_batches", "model", "data", "trainer")}
        before["model"] = {**self.config["model"], "net": now["model"]["net"]}
        before["data"] = {**self.config.get("data", {}), "tokenizer": now["data"]["tokenizer"]}
        for key, old, new in differences(before, {key: now.get(key) for key in before}):
            if key != "model.init_from":
                notes.append(f"resume changes {key} from {old} to {new}")
        return notes

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
        """The trained tokenizer.

        Raises:
            UserError: it has more ids than the net has rows for.
        """
        from lit_gpt.data.tokenizers.tokenizer import Tokenizer

        tokenizer = Tokenizer.restore(self.tokenizer, self.trust, self.path)
        if tokenizer.vocab_size > self.vocab_size:
            raise UserError(
                f"{self.path}: the tokenizer has {tokenizer.vocab_size} ids, the embedding {self.vocab_size} rows; "
                "they do not belong together"
            )
        return tokenizer

    def hand_over(self, data: Any, may_grow: bool) -> "Vocabulary":
        """Gives the data the tokenizer, with the data's new tokens in it; tells what that makes of the vocabulary.

        Args:
            data: A TokenData.
            may_grow: Whether a net is started from this one, which may have more tokens.

        Raises:
            UserError: there are new tokens and the net has to stay as it is.
        """
        tokenizer = self.tokenizer_object()
        old = set(range(tokenizer.vocab_size)) - tokenizer.unused_ids
        new = tokenizer.add_tokens(data.text.add_tokens) if data.text.add_tokens else {}
        self._refuse_new(new, may_grow, "data.add_tokens")
        data.use_tokenizer(tokenizer)
        data.text.recipe()  # gives the tokenizer the special tokens that format and source ask for
        special = {tokenizer.token(id): id for id in sorted(tokenizer.special_ids - old) if id not in new.values()}
        self._refuse_new(special, may_grow, "data.format or data.source")
        new |= special
        size = self.vocab_size
        if may_grow and max(tokenizer.vocab_size, data.text.asked_vocab_size or 0) > size:
            size = data.text.vocab_size(tokenizer)
        return Vocabulary(size, new, sorted(old))

    def _refuse_new(self, new: dict[str, int], may_grow: bool, key: str) -> None:
        if new and not may_grow:
            raise UserError(
                f"{key}: {self.path} was trained without {' '.join(new)}; "
                f"to train on with new tokens, start a new run with --model.init_from {self.path}"
            )


_STRETCHED = re.compile(r"model\.net\.position(\.\d+)?\.(base|scaling)(\.|$)")


def _is_free(key: str, net: dict[str, Any]) -> bool:
    name = key.removeprefix("model.net.").partition(".")[0]
    if name == "context":  # positions without a table of weights go on beyond what they were trained with
        return "Learned" not in str(net["init_args"].get("position"))
    return key.startswith("model.net.") and (
        name in FREE_ARGUMENTS or key.rpartition(".")[2] in FREE_COMPONENT_ARGUMENTS
    )


def check_untrusted_sections(
    config: Any, file: Path, trust: Iterable[str], sections: Iterable[str] = ("model", "data")
) -> None:
    """Refuses settings from a file that name classes which are not trusted or not of the type of their place.

    Args:
        config: The settings: a dict of sections.
        file: Where they stand, for errors.
        trust: Packages whose classes they may name besides those of this project and parts of torch and lightning.
        sections: Those that will be used, of `_OWNERS`.
    """
    if not isinstance(config, dict):
        raise UserError(f"{file} does not say how it was trained: its config is no dict of settings")
    for section in sections:
        if config.get(section) is not None:
            module, _, name = _OWNERS[section].rpartition(".")
            check_untrusted_arguments(config[section], getattr(import_module(module), name), file, section, trust)


def check_run_folder(config: dict[str, Any], folder: Path, trust: Iterable[str]) -> dict[str, Any]:
    """Checks the settings in a run folder's config.yaml, which nobody has typed, before they are used.

    What they name has to be trusted, and where files are written is for the folder's place to say.

    Returns:
        The settings that go before them.

    Raises:
        UserError: They name a class that is not trusted, or another file of settings.
    """
    file = folder / "config.yaml"
    for section, values in config.items():
        if section in ("name", "seed_everything", "skip_batches") or values is None:  # no class; read as typed
            continue
        if not isinstance(values, dict):
            raise UserError(f"{file}: {section} has to hold keys with values, not {values!r:.80}; it is not used")
        if section not in _OWNERS:
            check_untrusted(values, str, file, section, trust)
    check_untrusted_sections(config, file, trust, _OWNERS)
    instead: dict[str, Any] = {"trainer": {"default_root_dir": str(folder.parent)}}
    if not _is_prepared((config.get("data") or {}).get("folder")):
        instead["data"] = {"folder": None}
    return instead


def keep_folders_that_are_there(data: dict[str, Any]) -> None:
    """Leaves out a folder of ids that a file names and that is not there: the cache takes them. Only what the user
    typed says where folders are made."""
    if not _is_prepared(data.get("folder")):
        data.pop("folder", None)


def _is_prepared(folder: Any) -> bool:
    return isinstance(folder, str) and (Path(folder).expanduser() / "manifest.json").is_file()
