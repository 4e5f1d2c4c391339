"""Measure a checkpoint on its validation text.

Net, tokenizer and data come from the checkpoint through `lit_gpt.cli`.
"""

from collections.abc import Mapping
from typing import Any

from lit_gpt import signals
from lit_gpt.commands.import_cli import import_cli
from lit_gpt.config.base_checkpoint import BaseCheckpoint
from lit_gpt.config.command_line import CommandLine
from lit_gpt.errors import UserError


def main(argv: list[str]) -> int:
    """Runs `lit-gpt validate`."""
    return measure("validate", argv)


def measure(command: str, argv: list[str]) -> int:
    """Measures a checkpoint with the trainer's `validate` or `test`, and prints one line per text."""
    if argv and not argv[0].startswith("-"):
        argv = [f"--ckpt_path={argv[0]}", *argv[1:]]
    command_line = CommandLine(argv)
    path = command_line.get("ckpt_path")
    asks = any(word in ("-h", "--help") or word.startswith("--print_config") or ".help" in word for word in argv)
    if not path and not asks:
        raise UserError(
            f"which checkpoint? lit-gpt {command} runs/NAME, or --ckpt_path FILE; `lit-gpt runs` lists runs"
        )
    base_checkpoint = BaseCheckpoint.read(str(path), command_line.trust) if path else None
    texts = [f"data.{key}" for key in ("source", "val_source", "test_source")]
    if (
        base_checkpoint
        and not base_checkpoint.has_training_state
        and not asks
        and not any(command_line.has(key) for key in texts)
    ):
        raise UserError(f"{path} is an imported model, without a text of its own; give one: --data.source.paths FILE")
    front = import_cli()
    front.quiet()
    cli = front.CLI(command, command_line, base_checkpoint=base_checkpoint)
    assert base_checkpoint is not None
    run = getattr(cli.trainer, command)
    file = base_checkpoint.path if base_checkpoint.has_training_state else None
    if file is None:  # of an imported model there is a net and no more
        from lit_gpt.train.init_from import start_from

        start_from(cli.model.net, base_checkpoint.path)
    with signals.doing(f"measuring {base_checkpoint.path}", f"nothing was changed; {signals.AGAIN}"):
        run(cli.model, datamodule=cli.datamodule, ckpt_path=file, verbose=False, weights_only=True)
    if cli.trainer.is_global_zero:
        print(f"{base_checkpoint.path}  step {base_checkpoint.step}")
        for line in lines(cli.trainer.callback_metrics):
            print(line)
    return 0


def lines(metrics: Mapping[str, Any]) -> list[str]:
    """`name value  name value` per text: metrics that share what follows the slash stand in one line."""
    texts: dict[str, list[str]] = {}
    for key, value in metrics.items():
        name, _, text = key.partition("/")
        texts.setdefault(text, []).append(f"{name} {float(value):.4f}")
    return [f"{text + ': ' if text else ''}{'  '.join(values)}" for text, values in texts.items()]
