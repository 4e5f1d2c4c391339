"""Private names of libraries that the package leans on: each is listed here, and still exists in what is installed.

A failure after an update of Lightning, jsonargparse, torch or tiktoken means that a private name has moved. Read what
the library does instead, adapt the files that `grep -rn NAME lit_gpt` finds, and correct the entry here; until then pin
the older version in constraints.txt.
"""

import argparse
import ast
import importlib
import inspect
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "lit_gpt"
LOOP = "lightning.pytorch.loops.training_epoch_loop:_TrainingEpochLoop"
HYPERPARAMETERS = "lightning.pytorch.core.mixins.hparams_mixin:_given_hyperparameters"
LAUNCHER = "lightning.pytorch.strategies.launchers.subprocess_script:_SubprocessScriptLauncher"
SIGNALS = "lightning.pytorch.trainer.connectors.signal_connector:_SignalConnector"
WORKERS = "torch.utils.data._utils.signal_handling"
# The name, where it is found ("module" or "module:attribute"), and what of it is relied on.
NAMES = {
    "_TrainingEpochLoop": (LOOP, "boundaries.StepLoop is this loop with other boundaries"),
    "_should_check_val_fx": (LOOP, "StepLoop overrides it to validate at optimizer steps alone"),
    "_should_check_val_epoch": (LOOP, "StepLoop asks it whether this epoch is validated"),
    "_should_accumulate": (LOOP, "boundaries.between_steps negates it"),
    "_num_ready_batches_reached": (LOOP, "ValidateAtEnd asks it for the last batch of an epoch"),
    "_batches_that_stepped": (LOOP, "counted back where a checkpoint is made inside an accumulation window"),
    "_data_fetcher": ("lightning.pytorch.loops.fit_loop:_FitLoop", "the argument of _should_check_val_fx"),
    "_val_check_time_interval": ("lightning.pytorch.loops.training_epoch_loop", "set for intervals by time"),
    "_checkpoint_connector": ("lightning.pytorch.trainer.trainer:Trainer", "restores a second fit of one module"),
    "_loaded_checkpoint": (
        "lightning.pytorch.trainer.connectors.checkpoint_connector:_CheckpointConnector",
        "what is put there is restored when fit starts",
    ),
    "_SignalConnector": (SIGNALS, "replaced, since it raises in the middle of accumulation"),
    "_signal_connector": ("lightning.pytorch.trainer.trainer:Trainer", "where the replacement is put"),
    "_SubprocessScriptLauncher": (LAUNCHER, "ends the other ranks after a second signal"),
    "_given_hyperparameters": (HYPERPARAMETERS, "holds the plain configuration for save_hyperparameters"),
    "_actions": (argparse.ArgumentParser, "the arguments of a parser"),
    "_option_string_actions": (argparse.ArgumentParser, "the options of a parser"),
    "_common": ("jsonargparse._common:parsing_settings", "settings that set_parsing_settings changes are put back"),
    "_subclasses": ("torch._subclasses.fake_tensor:FakeTensorMode", "lays out checkpoints and counts without memory"),
    "_cdata": ("torch:Tensor", "the identity of a storage that has no memory"),
    "_checkpoint_offset": ("torch.serialization", "where a tensor lies in a file"),
    "_compiled_call_impl": ("torch.nn:Module", "whether a module is compiled"),
    "_foreach_clamp_max_": ("torch:_foreach_clamp_max_", "clips all gradients at once"),
    "_foreach_clamp_min_": ("torch:_foreach_clamp_min_", "clips all gradients at once"),
    "_foreach_div_": ("torch:_foreach_div_", "divides all gradients at once"),
    "_foreach_mul_": ("torch:_foreach_mul_", "scales all gradients at once"),
    "_get_scale_async": ("torch.amp:GradScaler", "the scale without waiting for the device"),
    "_step_supports_amp_scaling": ("torch.amp.grad_scaler", "says that an optimizer unscales by itself"),
    "_workers": ("torch.utils.data.dataloader:_MultiProcessingDataLoaderIter", "the processes of a loader"),
    "_utils": (f"{WORKERS}:_error_if_any_worker_fails", "tells a dead worker"),
    "_error_if_any_worker_fails": (WORKERS, "tells a dead worker"),
    "_mergeable_ranks": ("tiktoken.core", "the vocabulary of an encoding"),
    "_pat_str": ("tiktoken.core", "the pattern of an encoding"),
}
# Public though they begin with an underscore: of NamedTuple and os.
PUBLIC = {"_replace", "_asdict", "_fields", "_exit", "_make"}


def found_in(where: object) -> str:
    """The source, names and all, of what an entry points at."""
    if isinstance(where, str):
        module, _, attribute = where.partition(":")
        where = importlib.import_module(module)
        if attribute:
            where = getattr(where, attribute)
    try:
        return " ".join(dir(where)) + inspect.getsource(where)  # type: ignore[arg-type]
    except (TypeError, OSError):  # written in C
        return " ".join(dir(where)) + getattr(where, "__name__", "")


@pytest.mark.parametrize("name", NAMES)
def test_a_private_name_is_still_there(name: str) -> None:
    where, used = NAMES[name]
    if str(where).startswith("tiktoken"):
        pytest.importorskip("tiktoken")
    try:
        there = name in f"{where} {found_in(where)}"
    except (ImportError, AttributeError):
        there = False
    assert there, f"{name} is no longer in {where} ({used}); {__doc__}"


def private_names() -> dict[str, str]:
    """Each private name that no file of the package defines, with one place where it is used."""
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in sorted(PACKAGE.rglob("*.py"))}
    defined, used = set(PUBLIC), dict[str, str]()
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                    defined.add(node.attr)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                defined.add(node.id)
    for file, tree in trees.items():
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Attribute):
                names = [node.attr] if node.attr not in defined else []
            elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("lit_gpt"):
                names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            for name in names:
                if name.startswith("_") and not name.startswith("__"):
                    used[name] = f"{file.relative_to(PACKAGE)}:{node.lineno}"
    return used


def test_every_private_name_is_listed() -> None:
    missing = {name: place for name, place in private_names().items() if name not in NAMES}
    assert not missing, "private names of libraries; use a public one, or list them in NAMES above"


def test_no_listed_name_is_unused() -> None:
    overridden = {"_should_check_val_fx"}
    assert NAMES.keys() - private_names().keys() - overridden == set()
