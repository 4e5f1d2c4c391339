"""Rebuilds a net, its tokenizer and its document format from a checkpoint or a run directory.

No class is imported that neither this project, torch nor the user vouches for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lit_gpt.checkpoint.contents import read
from lit_gpt.config.class_paths import import_class
from lit_gpt.config.trust import check_untrusted
from lit_gpt.errors import UserError
from lit_gpt.model import GPT

if TYPE_CHECKING:
    from lit_gpt.data.formats.format import Format
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer


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

    checkpoint = read(path)
    net = build_net(checkpoint.net_config(), checkpoint.path, trust, device="meta")
    load_weights(net, checkpoint.weights, checkpoint.path)
    for position in net.positions:  # tables are not in the file, and nothing can be copied from the meta device
        position.reset_buffers(device=torch.device(device))
    net.to(device)
    return net.eval(), Tokenizer.restore(checkpoint.tokenizer or {}, trust, checkpoint.path)


def load_format(path: str | Path, tokenizer: Tokenizer, trust: Sequence[str] = ()) -> Format:
    """How the documents were laid out that a run or a checkpoint was trained on, ready for its tokenizer.

    Args:
        path: As of `load`, which has checked the file.
        tokenizer: What `load` returned.
        trust: As of `load`.
    """
    from lit_gpt.data.formats.chat_templates import Template
    from lit_gpt.data.formats.format import Format, PlainText

    checkpoint = read(path, verify=False)
    config, file = checkpoint.format, checkpoint.path
    if config is None:  # imported, or trained on text alone
        return PlainText()
    check_untrusted(config, Format, file, "format", trust)
    kinds = (Format, Template)
    made = _built(lambda: _make(config, kinds, trust, file)(), "format", file)
    if not isinstance(made, Format):
        raise UserError(f"{file} holds a {type(made).__name__}, not a format")
    format: Format = _built(lambda: made.for_tokenizer(tokenizer), "format", file)
    return format


def build_net(config: dict[str, Any], file: Path, trust: Sequence[str] = (), device: str | torch.device = "cpu") -> GPT:
    """A net from its plain config, on the meta device without any memory.

    Args:
        config: As `Checkpoint.net_config` returns it.
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
