"""A callback that writes config.yaml and run.json of a run directory and holds its lock while the run writes."""

import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lit_gpt import atomic_io
from lit_gpt.config.yaml_values import dump_yaml
from lit_gpt.train import run_folder
from lit_gpt.train.lean_callback import LeanCallback
from lit_gpt.train.run_folder import RunDirectory


class RunRecord(LeanCallback):
    """Writes config.yaml at the start of a run, and run.json at its start and its end.

    Args:
        run_dir: The run directory.
        settings: The resolved configuration as plain data.
        argv: The command line after `fit`.
    """

    def __init__(self, run_dir: RunDirectory, settings: dict[str, Any], argv: Sequence[str]) -> None:
        self.run_dir, self.settings, self.argv = run_dir, settings, list(argv)
        assert run_dir.folder is not None
        self.folder = run_dir.folder
        self._began = False  # in this process: a second fit continues the first

    def __getstate__(self) -> dict[str, Any]:
        # The lock stays with the process that holds it.
        return {**self.__dict__, "run_dir": dataclasses.replace(self.run_dir, lock=None)}

    @rank_zero_only
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self.run_dir.lock = self.run_dir.lock or run_folder.lock(self.folder)
        text = dump_yaml(self.settings, sort_keys=False)
        now = run_folder.facts(["fit", *self.argv], torch.get_num_threads())
        now["name"] = self.run_dir.name or self.folder.name
        command = " ".join(now["command"].split())  # a comment has one line
        old = run_folder.read_facts(self.folder)
        if old and (self.run_dir.checkpoint is not None or self._began):
            if self.run_dir.checkpoint is not None:
                now["resumed_from"] = str(self.run_dir.checkpoint)
            old = {key: value for key, value in old.items() if key not in ("ended", "steps", "tokens")}
            now = {**old, "resumes": [*old.get("resumes", []), now]}
        atomic_io.write_bytes(self.folder / run_folder.CONFIG, f"# {command}\n{text}".encode())
        self._began = True
        self._write(now, "running")
        for note in self.run_dir.notes:
            print(note)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end("done", trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        stopped = isinstance(exception, KeyboardInterrupt) or hasattr(exception, "exit_code")
        with suppress(atomic_io.CannotWrite):  # the error that ended the run is reported
            self._end("stopped" if stopped else "failed", trainer)

    @rank_zero_only
    def _end(self, state: str, trainer: Trainer) -> None:
        facts = run_folder.read_facts(self.folder)
        facts |= {"ended": run_folder.now(), "steps": trainer.global_step}
        accumulators: Any = trainer.lightning_module.accumulators  # None where training never began
        if accumulators is not None and trainer.world_size == 1:  # others' tokens since the last log are not known here
            facts["tokens"] = accumulators.total_tokens()
        try:
            self._write(facts, state)
        finally:
            self.run_dir.release()

    def _write(self, facts: dict[str, Any], state: str) -> None:
        run_folder.write_facts(self.folder, {**facts, "state": state})
