"""Train a GPT or resume training: `lit-gpt fit`."""

import functools
import shlex
from pathlib import Path
from typing import Any

from lit_gpt import atomic_io, signals
from lit_gpt.checkpoint import manifest
from lit_gpt.commands.generate import prompt_option
from lit_gpt.commands.import_cli import import_cli
from lit_gpt.config.base_checkpoint import BaseCheckpoint, check_run_folder
from lit_gpt.config.class_paths import needed_trust
from lit_gpt.config.command_line import CommandLine
from lit_gpt.config.yaml_files import flat, load_yaml, read, short
from lit_gpt.errors import UserError
from lit_gpt.train import run_folder
from lit_gpt.train.run_folder import RunDirectory


def main(argv: list[str]) -> int:
    """Run `lit-gpt fit`; return its exit code."""
    command_line = CommandLine(argv)
    if str(command_line.get("trainer.max_steps")) == "0":
        raise UserError("trainer.max_steps is 0, so nothing would be trained; `lit-gpt validate RUN` measures a run")
    run_dir, base_checkpoint = resumed(command_line)
    try:
        front = import_cli()
        front.quiet()
        cli = front.CLI("fit", command_line, run_dir, base_checkpoint)
        if cli.config.get("show_batch"):
            from lit_gpt.data.reporting import describe_batch

            print(describe_batch(cli.datamodule))
        elif run_dir.checkpoint is None or base_checkpoint is None or not is_finished(cli, run_dir, base_checkpoint):
            train(cli)
    finally:
        run_dir.release()  # also after an error before the run began
    return 0


def resumed(command_line: CommandLine) -> tuple[RunDirectory, BaseCheckpoint | None]:
    """The run that `--resume` continues, locked: the newest of its name with a valid checkpoint.

    A directory is locked before its checkpoint is chosen, as a running process may save another one at any time.
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
                f"{folder} is an imported model, not a run to resume; train from it with another --name "
                f"and --model.init_from {folder}"
            )
        unsaved = not any((folder / run_folder.CHECKPOINTS).glob("*.ckpt"))
        if resume != "auto" and unsaved and run_folder.running(folder):
            skipped.append(f"{folder} is being written by another run, which has saved nothing yet")
            continue
        run_dir = RunDirectory(folder, lock=run_folder.lock(folder) if front.is_first() else None, name=name)
        run_dir.checkpoint, why = manifest.newest_valid(folder / run_folder.CHECKPOINTS)
        skipped += why
        if run_dir.checkpoint is not None:
            run_dir.notes += [*skipped, f"resume from {run_dir.checkpoint}"]
            try:
                if not command_line.files:
                    check = functools.partial(check_run_folder, folder=folder, trust=command_line.trust)
                    command_line.add_file(folder / run_folder.CONFIG, check)
                return run_dir, BaseCheckpoint.read(run_dir.checkpoint, command_line.trust)
            except UserError:
                run_dir.release()
                raise
        if resume == "auto" and run_folder.never_saved(folder):
            run_dir.notes += [*skipped, f"{folder} has no checkpoint: this run starts afresh in it"]
            return run_dir, None
        run_dir.release()
    if resume == "auto":
        return RunDirectory(notes=skipped), None
    there = "; ".join(skipped) or f"{folders[0] if folders else root / name} has no checkpoint"
    raise UserError(
        f"nothing to resume: {there}; `--resume auto` starts afresh, `lit-gpt runs {root}` lists what there is"
    )


def _settle_rank(command_line: CommandLine, folders: list[Path]) -> None:
    """Find the rank of this process from the command line or, without a config file, from that of the run."""
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
    """Report if the resumed run has done all its steps."""
    steps = cli.config.trainer.max_steps
    if not (0 < steps <= base_checkpoint.step):
        return False
    run_dir.release()
    print(
        f"{run_dir.folder} is finished: step {base_checkpoint.step} of {steps}; a larger --trainer.max_steps extends it"
    )
    return True


def train(cli: Any) -> None:
    """Train, then print a sample, the next commands and, as the last line, the results."""
    from lit_gpt.train.samples import SampleText
    from lit_gpt.train.stopping import StopOnSignal, StoppedBySignal

    trainer, run_dir = cli.trainer, cli.run_dir
    assert run_dir.folder is not None
    go_on = (
        f"`{resume_command(run_dir.folder)}` resumes from {run_dir.checkpoint}" if run_dir.checkpoint else signals.AGAIN
    )
    parts = {type(callback): callback for callback in trainer.callbacks}
    try:
        check_monitor(cli.config.best.monitor, cli.datamodule.val_names)
        check_sample(parts[SampleText], cli.model.net, cli.datamodule.tokenizer)
        if run_dir.checkpoint is None and cli.config.model.init_from is not None:
            with signals.doing("validating the base model", f"nothing was trained; {signals.AGAIN}"):
                measure_start(trainer, cli.model, cli.datamodule)
        with signals.doing("starting the training", go_on):
            trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=run_dir.checkpoint, weights_only=True)
    except StoppedBySignal as stop:
        stop.resume_command = f"`{resume_command(run_dir.folder)}`"
        stop.validate_command = f"`lit-gpt validate {run_dir.folder}`"
        raise
    except (ValueError, OSError, signals.Stopped) as error:
        if run_dir.claimed and trainer.global_step == 0:
            run_folder.discard(run_dir.folder)
        raise with_resume_hint(error, run_dir.folder) from error.__cause__
    if not trainer.is_global_zero:
        return parts[StopOnSignal].end()
    with signals.doing("reporting the run", f"training is done, {run_dir.folder} has the results"):
        parts[StopOnSignal].end()
        signals.check()  # a signal after the last step
        report(cli)


def with_resume_hint(error: BaseException, folder: Path) -> BaseException:
    """Add to a disk error the command that resumes the run; any other error as it is."""
    if isinstance(error, OSError) and error.errno in atomic_io.DISK_ERRORS and error.filename is None:
        error = atomic_io.CannotWrite(folder, error)  # of a logger's file
    if isinstance(error, atomic_io.CannotWrite):
        valid, _ = manifest.newest_valid(folder / run_folder.CHECKPOINTS)
        first = "" if error.errno not in atomic_io.DISK_FULL else "free some space and "
        error.hint = (
            f"{first}`{resume_command(folder)}` resumes from {valid}"
            if valid
            else f"nothing was saved yet: {first}{signals.AGAIN}"
        )
    return error


def report(cli: Any) -> None:
    """Print a sample, the next commands and, as the last line, the results."""
    from lit_gpt.train.samples import SampleText
    from lit_gpt.train.summary import RunSummary

    trainer, run_dir = cli.trainer, cli.run_dir
    parts = {type(callback): callback for callback in trainer.callbacks}
    print(f"\nsample:\n{parts[SampleText].generate(trainer, cli.model)}\n")
    if any((run_dir.folder / run_folder.CHECKPOINTS).glob("*.ckpt")):
        print(f"next:\n{next_commands(run_dir.folder, cli.model.config, prompt_option(cli.datamodule.format))}\n")
    print(parts[RunSummary].final_line(), flush=True)


def check_sample(sample: Any, net: Any, tokenizer: Any) -> None:
    """Refuse a sample that the tokenizer or the net cannot generate now, not at the first validation."""
    from lit_gpt.generate.text_generator import TextGenerator

    try:  # checks all arguments; nothing is generated before iteration
        TextGenerator(net, tokenizer).stream(
            sample.prompt, max_new_tokens=sample.max_new_tokens, temperature=sample.temperature, top_k=sample.top_k
        )
    except ValueError as error:
        raise UserError(f"sample: {error}") from None


def check_monitor(monitor: str, val_names: list[str]) -> None:
    """Refuse a metric that no validation computes before training starts."""
    texts = [f"/{name}" if name else "" for name in val_names]
    known = [f"val_{metric}{text}" for text in texts for metric in ("loss", "perplexity", "bpb", "accuracy")]
    if monitor not in known:
        raise UserError(f"best.monitor {monitor!r} is no metric of this run; there are {', '.join(known)}")


def measure_start(trainer: Any, model: Any, data: Any) -> None:
    """Validate the base model of a fine-tuning run; print and log the metrics as step 0."""
    trainer.validate(model, datamodule=data, verbose=False)
    values = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val_")}
    for logger in trainer.loggers:
        logger.log_metrics(values, 0)
    if trainer.is_global_zero:
        shown = "  ".join(
            f"{name} {values[name]:.4f}" for name in ("val_loss", "val_perplexity", "val_bpb") if name in values
        )
        print(f"before the first step  {shown}", flush=True)


def resume_command(folder: Path) -> str:
    """The command that resumes a stopped run, with the packages that its config.yaml needs as trusted."""
    file = folder / run_folder.CONFIG
    config = load_yaml(file.read_text(encoding="utf-8")) if file.is_file() else None
    root = [] if folder.parent == Path("runs") else ["--trainer.default_root_dir", str(folder.parent)]
    found = run_folder.to_resume(folder.parent, folder.name)
    name = folder.name if folder in found[:1] else str(run_folder.read_facts(folder).get("name", folder.name))
    return _trusting(config) + shlex.join(["lit-gpt", "fit", "--name", name, *root, "--resume"])


def next_commands(folder: Path, config: dict[str, Any], prompt: str = '--prompt "..."') -> str:
    """Commands to use the run, one a line, with the packages that they need as trusted."""
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
