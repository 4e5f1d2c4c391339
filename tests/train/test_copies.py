"""A module that was built from a config can be copied, pickled, averaged and sent to other processes."""

import copy
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse._instantiation import call_without_instantiate_context as through_parser
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch.nn import Linear
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lit_gpt.cli import Run, build
from lit_gpt.config.factories import unwrap
from lit_gpt.train.module import LitGPT

NET = ["--model.net.width=16", "--model.net.depth=2", "--model.net.heads=2", "--model.net.context=8"]


def words(folder: Path, text_file: Path, *more: str) -> list[str]:
    return [
        *(*NET, "--model.net.norm=RMSNorm", "--data.tokenizer=Byte", f"--data.source.paths={text_file}"),
        *(
            "--data.augment=ReplaceTokens",
            "--data.filters=Length",
            "--data.filters.min_chars=1",
            "--model.schedule.warmup_steps=3",
        ),
        *(f"--trainer.default_root_dir={folder}", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
        *("--trainer.max_steps=6", "--trainer.limit_val_batches=1", "--sample.max_new_tokens=2", *more),
    ]


@pytest.fixture
def run(tmp_path: Path, text_file: Path) -> Run:
    return build(None, words(tmp_path, text_file))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copy", "pickle"])
def test_a_built_module_and_its_data_can_be_copied(run: Run, copied: Any) -> None:
    model, data = copied(run.model), copied(run.data)
    assert isinstance(model, LitGPT)
    for (name, ours), (_, theirs) in zip(model.named_parameters(), run.model.named_parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours is not theirs, name
    assert data.train_tokens == run.data.train_tokens
    optimizer = model.new_optimizer(model.parameters())
    assert (type(optimizer), optimizer.defaults["betas"]) == (torch.optim.AdamW, (0.9, 0.95))
    assert model.new_schedule(optimizer, 10).warmup_steps == 3
    assert model.config == run.model.config


def test_a_trained_module_can_be_copied_and_goes_on_training(run: Run) -> None:
    run.trainer.fit(run.model, run.data)
    twin, data = copy.deepcopy(run.model), copy.deepcopy(run.data)
    assert data.trainer is None and data.val_tokens == run.data.val_tokens
    assert twin.accumulators is not None and run.model.accumulators is not None
    assert twin.accumulators.total_tokens() == run.model.accumulators.total_tokens()
    assert pickle.loads(pickle.dumps(run.model)).net.vocab_size == run.model.net.vocab_size


def test_averages_of_weights_can_be_kept(tmp_path: Path, text_file: Path) -> None:
    run = build(None, words(tmp_path, text_file))
    average = AveragedModel(run.model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    swa = StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=1, annealing_epochs=1)
    run.trainer.callbacks.append(swa)  # type: ignore[attr-defined]
    run.trainer.fit_loop.max_epochs = 2
    run.trainer.fit(run.model, run.data)
    average.update_parameters(run.model)
    average.update_parameters(run.model)
    assert all(torch.isfinite(p).all() for p in average.parameters())


def test_factories_lose_the_parser_however_deep_they_are() -> None:
    class Instantiator:
        def __call__(self, kind: type, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError("the parser was asked")

    inner = partial(through_parser, Instantiator(), Linear, out_features=3)
    made = unwrap({"one": [inner], "two": partial(dict, norm=inner), "three": 3})
    assert made["one"][0](4).out_features == 3
    assert made["two"]()["norm"](4).out_features == 3
    assert made["three"] == 3
