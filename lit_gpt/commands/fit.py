"""Train a GPT; ends with a checkpoint, its validation loss and a sample.

Knows the order of a run from the first word typed to the last line printed; how things are built is `lit_gpt.cli`.
"""

import functools
import json
import shlex
from pathlib import Path
from typing import Any

from lit_gpt import atomic_io, signals
from lit_gpt.checkpoint import manifest
from lit_gpt.commands.import_cli import import_cli
from lit_gpt.config.base_checkpoint import BaseCheckpoint, check_run_folder
from lit_gpt.config.class_paths import needed_trust
from lit_gpt.config.command_line import CommandLine
from lit_gpt.config.yaml_files import flat, load_yaml, read, short
from lit_gpt.errors import UserError
from lit_gpt.train import run_folder
from lit_gpt.train.run_folder import RunDirectory


def main(argv: list[str]) -> int:
    """Runs `lit-gpt fit`."""
    command_line = CommandLine(argv)
    if str(command_line.get("trainer.max_steps")) == "0":
        raise UserError("trainer.max_steps is 0, so nothing would be trained; `lit-gpt validate RUN` measures a run")
    run_dir, base_checkpoint = resumed(command_line)
    try:
        front = import_cli()
        front.quiet()
        cli = front.CLI("fit", command_line, run_dir, base_checkpoint)
        if cli.config.get("show_batch"):
            print(cli.datamodule.describe_batch())
        elif run_dir.checkpoint is None or base_checkpoint is None or not is_finished(cli, run_dir, base_checkpoint):
            train(cli)
    finally:
        run_dir.release()  # also where a mistake ended it before there was a run
    return 0


def resumed(command_line: CommandLine) -> tuple[RunDirectory, BaseCheckpoint | None]:
    """What `--resume` goes on with: the newest run of the name with a valid checkpoint, locked; nothing without it.

    A directory is locked before its checkpoint is chosen: whoever held it may save one more at any instant.
    """
    resume = command_line.get("resume")
    if resume in (None, False, "false", "False"):
        return RunDirectory(), None
    if resume not in (True, "auto", "true", "True"):
        raise UserError(f"--resume takes nothing or `auto`, got {resume!r}; name the run with --name")
    front = import_cli()
    front.quiet()
    if not command_line.get("name") and not command_line.name:
        raise UserError("--resume needs the run: --name NAME, or the --config it was started with")
    root, name = Path(command_line.get("trainer.default_root_dir") or front.ROOT), front.run_name(command_line)
    folders = run_folder.of_name(root, name) if resume == "auto" else run_folder.to_resume(root, name)
    _settle_rank(command_line, folders)
    if front.is_first():
        run_folder.sweep(root)
    skipped: list[str] = []
    for folder in folders:
        if run_folder.read_facts(folder).get("imported"):
            raise UserError(
                f"{folder} is an imported model, so there is no run to go on with; train from it with another --name "
                f"and --model.init_from {folder}"
            )
        if (
            resume != "auto"
            and run_folder.running(folder)
            and not any((folder / run_folder.CHECKPOINTS).glob("*.ckpt"))
        ):
            skipped.append(f"{folder} is being written by another run, which has saved nothing yet")
            continue
        run_dir = RunDirectory(folder, lock=run_folder.lock(folder) if front.is_first() else None, name=name)
        run_dir.checkpoint, why = manifest.newest_valid(folder / run_folder.CHECKPOINTS)
        skipped += why
        if run_dir.checkpoint is not None:
            run_dir.notes += [*skipped, f"resume goes on with {run_dir.checkpoint}"]
            if not command_line.files:
                check = functools.partial(check_run_folder, folder=folder, trust=command_line.trust)
                try:
                    command_line.add_file(folder / run_folder.CONFIG, check)
                except UserError:
                    run_dir.release()
                    raise
            try:
                return run_dir, BaseCheckpoint.read(run_dir.checkpoint, command_line.trust)
            except UserError:
                run_dir.release()
                raise
        if resume == "auto" and run_folder.never_saved(folder):
            run_dir.notes += [*skipped, f"{folder} holds no checkpoint: this run begins anew in it"]
            return run_dir, None
        run_dir.release()
    if resume == "auto":
        return RunDirectory(notes=skipped), None
    there = "; ".join(skipped) or f"{folders[0] if folders else root / name} has no checkpoint"
    raise UserError(
        f"nothing to resume: {there}; `--resume auto` starts afresh, `lit-gpt runs {root}` lists what there is"
    )


def _settle_rank(command_line: CommandLine, folders: list[Path]) -> None:
    """Finds out which process of a run this is, from what was typed or, without settings, from those of the run."""
    own: dict[str, Any] = {}
    if folders and not command_line.files and (folders[0] / run_folder.CONFIG).is_file():
        own = {
            short(key): value for one in read(folders[0] / run_folder.CONFIG) for key, value in flat(one.values).items()
        }
    values: dict[str, Any] = {}
    front = import_cli()
    for key in front.PROCESSES:
        value = command_line.get(f"trainer.{key}")
        value = own.get(f"trainer.{key}") if value is None else value
        values[key] = load_yaml(value) if isinstance(value, str) else value
    front.settle_rank(values)


def is_finished(cli: Any, run_dir: RunDirectory, base_checkpoint: BaseCheckpoint) -> bool:
    """Says so if the run that is resumed has done all its steps."""
    steps = cli.config.trainer.max_steps
    if not (0 < steps <= base_checkpoint.step):
        return False
    run_dir.release()
    print(f"{run_dir.folder} is finished: step {base_checkpoint.step} of {steps}; a larger --trainer.max_steps goes on")
    return True


def train(cli: Any) -> None:
    """Trains, then prints a sample, what to do next and, as the last line, what was reached."""
    from lit_gpt.train.samples import SampleText
    from lit_gpt.train.stopping import StopOnSignal, StoppedBySignal

    trainer, run_dir = cli.trainer, cli.run_dir
    assert run_dir.folder is not None
    go_on = (
        f"`{resume_command(run_dir.folder)}` goes on from {run_dir.checkpoint}" if run_dir.checkpoint else signals.AGAIN
    )
    parts = {type(callback): callback for callback in trainer.callbacks}
    try:
        check_monitor(cli.config.best.monitor, cli.datamodule.val_names)
        check_sample(parts[SampleText], cli.model.net, cli.datamodule.tokenizer)
        if run_dir.checkpoint is None and cli.config.model.init_from is not None:
            with signals.doing("validating what is to be trained further", f"nothing was trained; {signals.AGAIN}"):
                measure_start(trainer, cli.model, cli.datamodule)
        with signals.doing("the training was about to begin", go_on):
            trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=run_dir.checkpoint, weights_only=True)
    except StoppedBySignal as stop:
        stop.go_on, stop.measure = f"`{resume_command(run_dir.folder)}`", f"`lit-gpt validate {run_dir.folder}`"
        raise
    except (ValueError, OSError, signals.Stopped) as error:
        if run_dir.claimed and trainer.global_step == 0:
            run_folder.discard(run_dir.folder)
        raise told_with_what_is_left(error, run_dir.folder) from error.__cause__
    if not trainer.is_global_zero:
        return parts[StopOnSignal].end()
    with signals.doing("telling of the run", f"the training is done, {run_dir.folder} holds what it reached"):
        parts[StopOnSignal].end()
        signals.check()  # one that came too late for the training
        tell(cli)


def told_with_what_is_left(error: BaseException, folder: Path) -> BaseException:
    """The error of a disk with what is still there to go on from; any other as it is."""
    if isinstance(error, OSError) and error.errno in atomic_io.DISK_ERRORS and error.filename is None:
        error = atomic_io.CannotWrite(folder, error)  # of a logger's file
    if isinstance(error, atomic_io.CannotWrite):
        whole, _ = manifest.newest_valid(folder / run_folder.CHECKPOINTS)
        begins = "" if error.errno not in atomic_io.DISK_FULL else "free some space and "
        error.hint = (
            f"{begins}`{resume_command(folder)}` goes on from {whole}"
            if whole
            else f"nothing was saved yet: {begins}{signals.AGAIN}"
        )
    return error


def tell(cli: Any) -> None:
    """Prints a sample, what to do next and, as the last line, what was reached."""
    from lit_gpt.train.samples import SampleText
    from lit_gpt.train.summary import RunSummary

    trainer, run_dir = cli.trainer, cli.run_dir
    parts = {type(callback): callback for callback in trainer.callbacks}
    print(f"\nsample:\n{parts[SampleText].generate(trainer, cli.model)}\n")
    if any((run_dir.folder / run_folder.CHECKPOINTS).glob("*.ckpt")):
        print(f"next:\n{next_commands(run_dir.folder, cli.model.config, asked(cli.datamodule.format))}\n")
    print(parts[RunSummary].final_line(), flush=True)


def check_sample(sample: Any, net: Any, tokenizer: Any) -> None:
    """Refuses now, and not at the first validation, a sample that the tokenizer or the net cannot write."""
    from lit_gpt.generate.text_generator import TextGenerator

    try:  # checks all arguments; nothing is written until it is iterated
        TextGenerator(net, tokenizer).stream(
            sample.prompt, max_new_tokens=sample.max_new_tokens, temperature=sample.temperature, top_k=sample.top_k
        )
    except ValueError as error:
        raise UserError(f"sample: {error}") from None


def check_monitor(monitor: str, val_names: list[str]) -> None:
    """Refuses a metric that no validation will bring, before hours are spent on finding out."""
    texts = [f"/{name}" if name else "" for name in val_names]
    known = [f"val_{metric}{text}" for text in texts for metric in ("loss", "perplexity", "bpb", "accuracy")]
    if monitor not in known:
        raise UserError(f"best.monitor {monitor!r} is no metric of this run; there are {', '.join(known)}")


def measure_start(trainer: Any, model: Any, data: Any) -> None:
    """Validates what fine-tuning starts from, so that what it brings can be seen; prints and logs it as step 0."""
    trainer.validate(model, datamodule=data, verbose=False)
    values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val_")}
    for logger in trainer.loggers:
        logger.log_metrics(values, 0)
    if trainer.is_global_zero:
        shown = "  ".join(
            f"{name} {values[name]:.4f}" for name in ("val_loss", "val_perplexity", "val_bpb") if name in values
        )
        print(f"before the first step  {shown}", flush=True)


def asked(format: Any) -> str:
    """The words of `lit-gpt generate` that give it something to go on from, in the format that the net has learned."""
    from lit_gpt.data.formats.chat import Chat

    if format.example is None:
        return '--prompt "..."'
    return '--chat "..."' if isinstance(format, Chat) else f"--record {shlex.quote(json.dumps(format.example))}"


def resume_command(folder: Path) -> str:
    """What to type to go on with a run that was stopped: its directory's name, unless another run asked for that.

    Packages of the user's that its config.yaml names are trusted by it.
    """
    file = folder / run_folder.CONFIG
    config = load_yaml(file.read_text(encoding="utf-8")) if file.is_file() else None
    root = [] if folder.parent == Path("runs") else ["--trainer.default_root_dir", str(folder.parent)]
    found = run_folder.to_resume(folder.parent, folder.name)
    name = folder.name if folder in found[:1] else str(run_folder.read_facts(folder).get("name", folder.name))
    return _trusting(config) + shlex.join(["lit-gpt", "fit", "--name", name, *root, "--resume"])


def next_commands(folder: Path, config: dict[str, Any], prompt: str = '--prompt "..."') -> str:
    """What to type after a run, one command a line; packages of the user's are named, so that they are trusted."""
    trust = _trusting({section: config.get(section) for section in ("model", "data")})
    return "\n".join(
        f"  {command}"
        for command in (
            f"{trust}lit-gpt generate {folder} {prompt}",
            f"{trust}lit-gpt validate {folder}",
            f"tensorboard --logdir {folder}",
        )
    )


def _trusting(config: Any) -> str:
    own = needed_trust(config)
    return f"LIT_GPT_TRUST={','.join(own)} " if own else ""
