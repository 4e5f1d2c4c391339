"""The only way back from a file: a checkpoint or a run directory becomes a net and its tokenizer.

Needs torch and tokenizers, not lightning. A file is checked against its manifest before it is read, never unpickled
beyond tensors and plain data, and no class is imported that neither this project, torch nor the user vouches for.
"""

from __future__ import annotations

import functools
import shlex
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lit_gpt.checkpoint import manifest
from lit_gpt.config.class_paths import import_class
from lit_gpt.config.safe_parsing import check_plain
from lit_gpt.config.trust import check_untrusted
from lit_gpt.errors import UserError
from lit_gpt.model import GPT

if TYPE_CHECKING:
    from lit_gpt.data.formats.format import Format
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

_PLAIN_PARTS = ("config", "tokenizer", "format", "origin")  # what of a checkpoint is read as settings
_LARGE = 1 << 24  # bytes


def load(path: str | Path, device: str | torch.device = "cpu", trust: Sequence[str] = ()) -> tuple[GPT, Tokenizer]:
    """The net, in eval mode, and the tokenizer of a run or a checkpoint.

    Args:
        path: A run directory (its best checkpoint is taken, else its last) or a .ckpt file.
        device: Where the net goes.
        trust: Packages of yours whose classes the checkpoint may name.

    Raises:
        UserError: The file is missing, damaged, not a checkpoint of this project, or names a class of a package
            that is not trusted.
    """
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

    file = find(path)
    checkpoint = read(file)
    net = build_net(net_config(checkpoint, file), file, trust, device="meta")
    weights = {k.removeprefix("net."): v for k, v in checkpoint["state_dict"].items() if k.startswith("net.")}
    load_weights(net, weights, file)
    for position in net.positions:  # tables are not in the file, and nothing can be copied from the meta device
        position.reset_buffers(device=torch.device(device))
    net.to(device)
    return net.eval(), Tokenizer.restore(checkpoint.get("tokenizer") or {}, trust, file)


def load_format(path: str | Path, tokenizer: Tokenizer, trust: Sequence[str] = ()) -> Format:
    """How the documents were laid out that a run or a checkpoint was trained on, ready for its tokenizer.

    Args:
        path: As of `load`, which has checked the file.
        tokenizer: What `load` returned.
        trust: As of `load`.
    """
    from lit_gpt.data.formats.chat_templates import Template
    from lit_gpt.data.formats.format import Format, PlainText

    file = find(path)
    checkpoint = read(file, verify=False)
    config = checkpoint.get("format")
    if config is None:  # imported, or trained on text alone
        return PlainText()
    check_untrusted(config, Format, file, "format", trust)
    kinds = (Format, Template)
    made = _built(lambda: _make(config, kinds, trust, file)(), "format", file)
    if not isinstance(made, Format):
        raise UserError(f"{file} holds a {type(made).__name__}, not a format")
    format: Format = _built(lambda: made.for_tokenizer(tokenizer), "format", file)
    return format


def find(path: str | Path) -> Path:
    """The checkpoint that a path means: the file itself, or a run directory's best one, else its last.

    Raises:
        UserError: There is none.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
        for name in ("best.ckpt", "last.ckpt"):
            if (folder / name).exists():
                return folder / name
        runs = sorted(run.name for run in path.iterdir() if (run / "checkpoints").is_dir())[:8]
        if runs:
            raise UserError(f"{path} is a folder of runs; name one of them: {', '.join(runs)}")
        if (path / "config.json").is_file():
            raise UserError(
                f"{path} is a folder of the Hugging Face world; take it in first: "
                f"lit-gpt import {shlex.quote(str(path))} --out runs/{shlex.quote(path.resolve().name)}"
            )
        raise UserError(f"{path} holds no checkpoint (looked for {folder}/best.ckpt and last.ckpt); train it first")
    if not path.exists():
        beside = path.parent if path.parent.is_dir() else None
        there = sorted(p.name for p in beside.iterdir())[:8] if beside else []
        hint = f"; {beside} holds {', '.join(there)}" if there else "; `lit-gpt runs` lists what there is"
        raise UserError(f"checkpoint {path} does not exist{hint}")
    return path


def read(path: str | Path, verify: bool = True) -> dict[str, Any]:
    """The checkpoint's own dict: `state_dict`, `config`, `tokenizer`, `global_step` and what the trainer keeps.

    Args:
        path: As of `find`.
        verify: Whether the whole file is read and compared with its manifest. Without it a file of any size opens at
            once, its tensors only mapped: enough for whoever looks at names and shapes, and at no numbers.

    Raises:
        UserError: It is missing, unreadable, damaged or no checkpoint.
    """
    file = find(path)
    if verify and manifest.manifest_path(file).exists():
        manifest.verify(file)
    try:
        _refuse_swollen(file)
        checkpoint = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except PermissionError as error:
        raise UserError(f"checkpoint {file} cannot be read: no permission") from error
    except Exception as error:  # what torch's own reader of pickles raises of a forged file is of any kind
        if isinstance(error, UserError):
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if not zipfile.is_zipfile(file):  # torch speaks of its own options there
            reason = "it is cut short, or of another program" if file.stat().st_size else "it is empty"
        raise UserError(f"{file} is not a readable checkpoint ({reason[:120]}); give a .ckpt of a run") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{file} is not a checkpoint of lit_gpt: it has no state_dict")
    weights = checkpoint["state_dict"]
    if not isinstance(weights, dict) or not all(isinstance(one, torch.Tensor) for one in weights.values()):
        raise UserError(f"{file} is not a checkpoint of lit_gpt: its state_dict holds other things than tensors")
    try:
        check_plain([checkpoint.get(part) for part in _PLAIN_PARTS])
    except ValueError as error:
        raise UserError(f"{file} holds settings that cannot be read: {error}; give a .ckpt of a run") from None
    return checkpoint


def _refuse_swollen(file: Path) -> None:
    """Refuses an archive whose members unpack to far more than the file is long; torch itself packs nothing."""
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        told = sum(member.file_size for member in archive.infolist())
    size = file.stat().st_size
    if told > 2 * size + _LARGE:
        raise UserError(f"{file} has {size:,} bytes and unpacks to {told:,}; it is not a .ckpt of a run")


def net_config(checkpoint: dict[str, Any], file: Path) -> dict[str, Any]:
    """``{"class_path": ..., "init_args": {...}}`` of the net in a checkpoint.

    Raises:
        UserError: It was written without one (by a net that was not built from a config).
    """
    try:
        net: dict[str, Any] = checkpoint["config"]["model"]["net"]
        depth = net["init_args"].get("depth", 0)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} does not say how its net is built; make nets with build() or the command line"
        ) from error
    embedding = checkpoint["state_dict"].get("net.embedding.weight")
    for name, size in zip(("vocab_size", "width"), () if embedding is None else embedding.shape, strict=False):
        if name in net["init_args"] and net["init_args"][name] != size:
            raise UserError(f"{file} has an embedding of {name} {size} for a net of {net['init_args'][name]!r:.40}")
    if not isinstance(depth, int) or depth > len(checkpoint["state_dict"]):
        raise UserError(f"{file} holds {len(checkpoint['state_dict'])} tensors for a net of depth {depth!r:.20}")
    return net


def build_net(config: dict[str, Any], file: Path, trust: Sequence[str] = (), device: str | torch.device = "cpu") -> GPT:
    """A net from its plain config, on the meta device without any memory.

    Args:
        config: As `net_config` returns it.
        file: Where it stands, for errors.
        trust: Packages of yours that it may name.
        device: ``meta``, or where to fill the weights.
    """
    check_untrusted(config, GPT, file, "model.net", trust)
    with torch.device(device):
        net = _built(lambda: _make(config, (object,), trust, file)(), "net", file)
    if not isinstance(net, GPT):
        raise UserError(f"{file} holds a {type(net).__name__}, not a GPT")
    return net


def load_weights(net: GPT, weights: dict[str, torch.Tensor], file: Path) -> None:
    """Puts weights into a net, every name and shape fitting; a net on the meta device takes the tensors themselves.

    Raises:
        UserError: The first name or shape that does not fit, and how many more.
    """
    own = net.state_dict()
    wrong = [f"{n} is missing" for n in own.keys() - weights.keys()]
    wrong += [f"{n} is not in the net" for n in weights.keys() - own.keys()]
    wrong += [
        f"{n} is {tuple(weights[n].shape)} in the file and {tuple(own[n].shape)} in the net"
        for n in own.keys() & weights.keys()
        if own[n].shape != weights[n].shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise UserError(f"{file} does not fit the net: {sorted(wrong)[0]}{more}")
    on_meta = net.embedding.weight.is_meta
    net.load_state_dict(weights, assign=on_meta)
    if on_meta:
        net.tie_head()
        # The file is mapped, not read: a copy of its own keeps the net whole when the file goes.
        for parameter in net.parameters():
            parameter.data = parameter.data.clone()


def _make(config: Any, kinds: tuple[type, ...], trust: Sequence[str], file: Path) -> Any:
    """Vouched plain data back to factories: a dict with a class_path becomes a callable, lists and values stay."""
    if isinstance(config, list):
        return [_make(item, kinds, trust, file) for item in config]
    if not isinstance(config, dict) or "class_path" not in config:
        return config
    given = config.get("init_args") or {}
    arguments = {name: _make(value, kinds, trust, file) for name, value in given.items()}
    cls: Any = import_class(config["class_path"], file, kinds, trust)
    return functools.partial(cls, **arguments)


def _built(make: Callable[[], Any], what: str, file: Path) -> Any:
    """What a function makes of a file's settings; that they do not fit is said in one line."""
    try:
        return make()
    except Exception as error:
        if isinstance(error, UserError):
            raise UserError(f"{file}: {error}") from None
        told = " ".join(str(error).split())
        raise UserError(f"{file}: its {what} cannot be built: {type(error).__name__}: {told[:200]}") from error
