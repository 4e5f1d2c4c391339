"""From the command line, YAML or a notebook to objects: LightningCLI with this project's defaults and links.

Defines the config keys and the links between objects. `build()` returns what `lit-gpt fit` trains.
"""

import copy
import inspect
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from lit_gpt.config import limits
from lit_gpt.config.base_checkpoint import BaseCheckpoint, Vocabulary
from lit_gpt.config.class_paths import only_trusted
from lit_gpt.config.command_line import CommandLine, Option, from_values, with_text_files
from lit_gpt.config.errors import constructing
from lit_gpt.config.help_text import HELP
from lit_gpt.config.registry import import_components
from lit_gpt.config.schema import default_classes
from lit_gpt.config.validation import ConfigChecker
from lit_gpt.config.yaml_values import dump_yaml, parse_words
from lit_gpt.data.fingerprints import refuse_changes
from lit_gpt.data.module import TokenData
from lit_gpt.data.samplers.skipping import SkippedBatches
from lit_gpt.errors import UserError
from lit_gpt.model import GPT
from lit_gpt.train import run_folder
from lit_gpt.train.checkpointing import BestCheckpoint, LastCheckpoint, VerifiedIO
from lit_gpt.train.exact_resume import ExactResume
from lit_gpt.train.init_from import describe_growth, start_rows
from lit_gpt.train.loggers import CSVLog
from lit_gpt.train.loss_watch import LossWatch
from lit_gpt.train.module import LitGPT
from lit_gpt.train.neftune import NEFTune as NEFTune  # found by its short name
from lit_gpt.train.progress_bar import TrainingProgressBar
from lit_gpt.train.ranks import PROCESSES, is_first, settle_rank
from lit_gpt.train.run_folder import RunDirectory
from lit_gpt.train.run_record import RunRecord
from lit_gpt.train.samples import SampleText
from lit_gpt.train.step_metrics import StepMetrics
from lit_gpt.train.stopping import StopOnSignal, ValidateAtEnd
from lit_gpt.train.summary import RunSummary

ROOT = "runs"
# Tells the processes that a launcher starts which directory rank 0 has claimed.
_FOLDER_FOR_RANKS = "LIT_GPT_RUN_DIRECTORY"
_TRAINER_DEFAULTS = {
    "max_steps": 2000,
    "check_val_every_n_epoch": None,  # validation counts batches, not epochs
    "val_check_interval": 500,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 10,
    "gradient_clip_val": 1.0,
    "enable_model_summary": False,  # RunSummary says more
    "use_distributed_sampler": False,  # the data's own order shards itself; a second sharding would drop data silently
    "default_root_dir": ROOT,
}
_SECTIONS = {
    "model": LitGPT, "data": TokenData, "trainer": Trainer,
    "sample": SampleText, "best": BestCheckpoint, "last": LastCheckpoint,
}  # fmt: skip
_OPTIONS = {"name": str | None, "seed_everything": bool | int, "skip_batches": int | list[int | list[int]] | None}
_NOT_SAVED = ("config", "resume", "show_batch", "ckpt_path")


class Run(NamedTuple):
    """What `build` makes: `trainer.fit(model, data)` trains it."""

    trainer: Trainer
    model: LitGPT
    data: TokenData


def build(
    config: str | Path | Mapping[str, Any] | None = None, overrides: Sequence[str] | Mapping[str, Any] = ()
) -> Run:
    """The trainer, model and data that `lit-gpt fit` would use, in a run directory of their own.

    Args:
        config: A YAML file, or its values as a dict.
        overrides: What would be typed after it: `["--trainer.max_steps=100"]` or `{"trainer.max_steps": 100}`.

    Raises:
        UserError: in one line, what is wrong, where, and what would do.
    """
    if isinstance(overrides, Mapping):
        overrides = [f"--{key}={dump_yaml(value, default_flow_style=True).strip()}" for key, value in overrides.items()]
    files = [f"--config={config}"] if isinstance(config, str | Path) else []
    values = copy.deepcopy(dict(config)) if isinstance(config, Mapping) else None
    quiet()
    cli = CLI("fit", CommandLine([*files, *overrides], values))
    return Run(cli.trainer, cli.model, cli.datamodule)


def quiet() -> None:
    """Silences Lightning's tips and info messages."""
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
    warnings.filterwarnings("ignore", message=r".*(LeafSpec|treespec|lr_scheduler\.step\(\)).*")


class CLI(LightningCLI):
    """Parses, then builds trainer, model and data for one command.

    Args:
        command: fit, validate or test.
        command_line: What the user typed.
        run_dir: Where a resumed run goes on; None for a new one.
        base_checkpoint: The checkpoint that is resumed or measured; that of `init_from` is found here.
    """

    model: LitGPT
    datamodule: TokenData

    def __init__(
        self,
        command: str,
        command_line: CommandLine,
        run_dir: RunDirectory | None = None,
        base_checkpoint: BaseCheckpoint | None = None,
    ) -> None:
        self.command, self.command_line, self.base_checkpoint = command, command_line, base_checkpoint
        self.run_dir = run_dir or RunDirectory()
        self.resuming = self.run_dir.checkpoint is not None
        self.trust = set(command_line.trust)
        self.vocab: Vocabulary | None = None  # that of the base_checkpoint's net, with new tokens
        init_from = command_line.get("model.init_from")
        if command == "fit" and init_from and not self.resuming:
            self.base_checkpoint = BaseCheckpoint.read(str(init_from), command_line.trust)
        import_components()
        self.words = [] if command_line.asks_for_help() else self._checked_words()
        with only_trusted(self.trust, self.base_checkpoint and self.base_checkpoint.path):
            super().__init__(
                LitGPT, TokenData, save_config_callback=None,
                trainer_defaults=_TRAINER_DEFAULTS,
                seed_everything_default=1,
                parser_kwargs={
                    "exit_on_error": False,
                    "prog": f"lit-gpt {command}",
                    "usage": f"lit-gpt {command} [--config FILE ...] [--KEY VALUE ...]",  # argparse's takes 75 lines
                    "description": HELP[command],
                },
                run=False,
                auto_configure_optimizers=False,
            )  # fmt: skip

    # -- which keys there are ------------------------------------------------------------------------------------------

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        add = parser.add_argument
        add("--name", type=str | None, help="name of the run directory (default: that of the first config file)")
        if self.command == "fit":
            add(
                "--resume", type=bool | str | None, nargs="?", const=True, default=None, metavar="[auto]",
                help="go on with the newest run of this name; `auto` starts one if there is none",
            )  # fmt: skip
            add(
                "--show_batch", type=bool, nargs="?", const=True, default=False,
                help="print decoded batches as the model sees them, and train nothing",
            )  # fmt: skip
        else:
            add("--ckpt_path", type=str | None, help="the checkpoint or run directory; can be typed without the key")
        add(  # for all: a run's config.yaml can be typed for each of them
            "--skip_batches", type=int | list[int | list[int]] | None, default=None, metavar="[[FIRST, LAST], ...]",
            help="batches of the training order that fit does not train on, by number from 1 over all epochs",
        )  # fmt: skip
        super().add_default_arguments_to_parser(parser)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        defaults = {action.dest: action.default for action in parser._actions if inspect.isclass(action.default)}
        parser.set_defaults({key: _by_name(default) for key, default in defaults.items()})
        components = {name: _by_name(default) for name, default in default_classes(GPT).items()}
        parser.set_defaults({"model.net": {"class_path": "lit_gpt.model.GPT", "init_args": components}})
        adamw = {"lr": 1e-3, "betas": [0.9, 0.95], "weight_decay": 0.1}
        parser.set_defaults({"model.optimizer": {"class_path": "torch.optim.AdamW", "init_args": adamw}})
        parser.link_arguments(
            "data", "model.net.init_args.vocab_size", compute_fn=self.vocabulary, apply_on="instantiate"
        )
        parser.add_class_arguments(SampleText, "sample")
        parser.add_class_arguments(BestCheckpoint, "best", skip={"dirpath"}, instantiate=False)
        parser.add_class_arguments(LastCheckpoint, "last", skip={"dirpath"}, instantiate=False)

    def vocabulary(self, data: TokenData) -> int:
        """Ids that the net gets: the checkpoint's where there is one, else the tokenizer's, padded. Prepares data."""
        if self.base_checkpoint is None:
            return data.vocab_size
        self.vocab = self.base_checkpoint.hand_over(data, self.command == "fit" and not self.resuming)
        if self.resuming:
            refuse_changes(data, self.base_checkpoint.fingerprints, speak=False)
        return self.vocab.size

    # -- parsing -------------------------------------------------------------------------------------------------------

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        words = self.words or self.command_line.argv
        self.config = parse_words(parser, words)
        self._settle_numbers()
        if self.resuming and self.base_checkpoint is not None:  # keeps its net and tokenizer; all else is as typed
            asked = self.command_line.values("model.net", "data.tokenizer")
            self.run_dir.notes += self.base_checkpoint.notes_on_resume(asked, self._plain(parser))
        elif self.base_checkpoint is not None:
            start = dump_yaml(self.base_checkpoint.start())  # read again, for all defaults and one name for each class
            plain, inherited = self._plain(parser), self._plain(parser, parse_words(parser, ["--config", start]))
            self.run_dir.notes += self.base_checkpoint.refuse_conflicts(plain["model"]["net"], plain["data"], inherited)
            if self.command != "fit":
                self.base_checkpoint.refuse_another_split(plain["data"])
        limits.check(self._plain(parser), _SECTIONS, self.command_line.where)

    def _checked_words(self) -> list[str]:
        """Words for the parser: the checkpoint's values, what was typed, and on resume the checkpoint's net over it."""
        if self.command_line.has("model.net.vocab_size"):
            raise UserError("model.net.vocab_size is given by the data; type data.vocab_size to set it")
        below: list[dict[str, Any]] = []
        above: list[dict[str, Any]] = []
        if self.base_checkpoint is not None and self.resuming:
            above = [self.base_checkpoint.start()]
            above[0]["model"]["init_from"] = None
        elif self.base_checkpoint is not None:
            fits = self.command == "fit"
            below = [self.base_checkpoint.start() if fits else self.base_checkpoint.whole(self.command_line)]
        options = {
            "name": str | None,
            "seed_everything": bool | int,
            "skip_batches": int | list[int | list[int]] | None,
        }
        options |= (
            {"resume": bool | str | None, "show_batch": bool} if self.command == "fit" else {"ckpt_path": str | None}
        )
        checker = ConfigChecker(
            _SECTIONS, options, {"model.net": GPT},
            linked=("model.net.vocab_size", "best.dirpath", "last.dirpath"),
            flags=("help", "print_config", "resume", "show_batch"),
        )  # fmt: skip

        def listed(values: list[dict[str, Any]]) -> list[Option]:
            name = str(self.base_checkpoint.path if self.base_checkpoint else "")
            return [Option("config", None, from_values(one, name)) for one in values]

        words = checker.check([*listed(below), *with_text_files(self.command_line, *below), *listed(above)])
        checker.check_required()
        self.trust = {*self.command_line.trust, *checker.class_paths}
        return words

    def _plain(self, parser: LightningArgumentParser, config: Namespace | None = None) -> dict[str, Any]:
        """The parsed settings as plain data, null included, as it is a choice; not what belongs to this one start."""
        values = yaml.safe_load(parser.dump(config or self.config, skip_validation=True, skip_unset=False))
        return {key: value for key, value in values.items() if key not in _NOT_SAVED}

    def _settle_numbers(self) -> None:
        """Fills what one number says about another."""
        net, data, trainer = self.config.model.net.init_args, self.config.data, self.config.trainer
        if data.context is None:
            data.context = net.context
        if trainer.default_root_dir is None:
            trainer.default_root_dir = ROOT
        typed = self.command_line.has
        if typed("trainer.max_epochs") and not typed("trainer.max_steps"):
            trainer.max_steps = -1
        if typed("trainer.check_val_every_n_epoch") and not typed("trainer.val_check_interval"):
            trainer.val_check_interval = 1.0

    # -- building ------------------------------------------------------------------------------------------------------

    def before_instantiate_classes(self) -> None:
        """Finds mistakes that need no data before any text is prepared."""
        trainer = self.config.trainer
        if self.command == "fit" and not self.resuming and not self.config.get("show_batch"):
            run_folder.writable(Path(trainer.default_root_dir))
            run_name(self.command_line)
            SkippedBatches(self.config.skip_batches)
        settle_rank({key: trainer.get(key) for key in PROCESSES})
        longest = self._net_without_memory().longest
        if longest is not None and self.config.data.context > longest:
            raise UserError(
                f"data.context {self.config.data.context} is longer than the {longest} that the net's positions reach; "
                "set model.net.context, or use positions that go on for ever such as RoPE"
            )

    def _net_without_memory(self) -> GPT:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--net", type=GPT)
        net = copy.deepcopy(self.config.model.net)
        net.init_args.vocab_size = 64
        with torch.device("meta"), constructing():
            made: GPT = parser.instantiate(Namespace(net=net)).net
        return made

    def instantiate_classes(self) -> None:
        if self.command == "fit" and self.config.get("show_batch"):  # needs neither net nor trainer
            parser = ArgumentParser(exit_on_error=False)  # the whole parser would make a model of nothing
            parser.add_class_arguments(TokenData, "data")
            self.datamodule = parser.instantiate_classes(Namespace(data=self.config.data)).data
            self.vocabulary(self.datamodule)
            return
        with constructing():
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        if self.vocab is not None and self.vocab.new and self.base_checkpoint is not None:
            start_rows(self.model.net, list(self.vocab.new.values()), self.vocab.known)
            self.run_dir.notes.append(describe_growth(self.vocab.new, self.base_checkpoint.vocab_size, self.vocab.size))
        plain = self._plain(self.parser)
        plain["data"]["allow_changed_text"] = False  # one start's consent, not the next one's
        self.model.config = copy.deepcopy(plain)
        self.model.config["model"]["net"]["init_args"]["vocab_size"] = self.model.net.vocab_size
        options = {**self.config_init["trainer"], **kwargs}
        if self.command != "fit":
            options |= {"logger": False, "enable_checkpointing": False}
            options["plugins"] = [*_listed(options["plugins"]), VerifiedIO()]
            options["callbacks"] = [StopOnSignal(), *_listed(options["callbacks"])]
            if options["enable_progress_bar"] is not False:
                options["callbacks"].append(TrainingProgressBar())
            return Trainer(**options)
        self.datamodule.skip = SkippedBatches(self.config.get("skip_batches"))
        self._claim()
        try:
            trainer = Trainer(**self._fit_options(options, plain))
        except BaseException:
            if self.run_dir.claimed and self.run_dir.folder is not None:
                run_folder.discard(self.run_dir.folder)
                self.run_dir.release()
            raise
        return trainer

    def _claim(self) -> None:
        if self.run_dir.folder is not None:
            return
        root, name = Path(self.config.trainer.default_root_dir), run_name(self.command_line)
        if not is_first():  # writes nothing; rank 0 has claimed the directory
            self.run_dir.folder = Path(os.environ.get(_FOLDER_FOR_RANKS, root / name))
            return
        run_folder.sweep(root)
        run_dir = run_folder.claim(root, name)
        assert run_dir.folder is not None
        if run_dir.folder.name != name:
            self.run_dir.notes.append(f"{root / name} is taken; this run writes to {run_dir.folder}")
        os.environ[_FOLDER_FOR_RANKS] = str(run_dir.folder)
        run_dir.notes = self.run_dir.notes
        self.run_dir = run_dir

    def _fit_options(self, options: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
        folder = self.run_dir.folder
        assert folder is not None
        own: list[Callback] = [ExactResume(), ValidateAtEnd(), StepMetrics(), StopOnSignal(), RunSummary()]
        own += [LossWatch(folder), self.config_init["sample"]]
        if options["enable_progress_bar"] is not False:
            own.append(TrainingProgressBar())
        if options["enable_checkpointing"] is not False:
            checkpoints = folder / run_folder.CHECKPOINTS
            own.append(BestCheckpoint(dirpath=checkpoints, **self.config_init["best"]))
            own.append(LastCheckpoint(dirpath=checkpoints, **self.config_init["last"]))
        own.append(RunRecord(self.run_dir, plain, self.command_line.argv))
        loggers: list[Logger] = []
        if options["logger"] is not False:
            if not (self.resuming or self.run_dir.claimed) and is_first():
                run_folder.start_over(folder)
            # A resumed run logs what came after its checkpoint again: readers drop it (StepMetrics sees to the rows).
            purge = self.base_checkpoint.step + 1 if self.base_checkpoint is not None and self.resuming else None
            loggers = [TensorBoardLogger(save_dir=folder, name="", version="", purge_step=purge), CSVLog(folder=folder)]
            loggers += [one for one in _listed(options["logger"]) if isinstance(one, Logger)]
        return {
            **options,
            "callbacks": [*own, *_listed(options["callbacks"])],
            "logger": loggers or False,
            "plugins": [*_listed(options["plugins"]), VerifiedIO()],
        }


def _listed(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _by_name(part: type) -> dict[str, str]:
    """A class as the parser writes classes, so that arguments of a default class can be typed without naming it."""
    return {"class_path": f"{part.__module__}.{part.__qualname__}"}


def run_name(command_line: CommandLine) -> str:
    """The run directory's name: typed, else that of the first settings file, else `run`."""
    name = str(command_line.get("name") or command_line.name or "run")
    if "/" in name or name in (".", ".."):
        raise UserError(f"--name {name!r} must be one folder name; say where it goes with --trainer.default_root_dir")
    return name
