"""Batches that are skipped: exactly those, and all others where they were."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from lit_gpt.data import Packed, Prompts, TextFiles, TokenBudget, TokenData
from lit_gpt.data.samplers.samplers import RankBatches
from lit_gpt.data.samplers.skipping import SkippedBatches
from lit_gpt.data.sequences.datasets import IGNORED, Windows
from lit_gpt.data.tokenizers.byte_and_char import Byte
from lit_gpt.errors import UserError
from lit_gpt.model import GPT
from lit_gpt.train.exact_resume import ExactResume
from lit_gpt.train.module import LitGPT


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for n in range(30):
        (folder / f"{n:02}.txt").write_text("".join(chr(97 + k * n % 23) for k in range(9 + n % 7)))
    return folder


def data(text: Path, skip: Any = None, **options: Any) -> TokenData:
    made = TokenData(TextFiles(str(text)), **{"tokenizer": Byte, "context": 8, "batch_size": 4, "seed": 7} | options)
    made.skip = SkippedBatches(skip)
    return made


@pytest.mark.parametrize(
    ("ranges", "numbers"),
    [(None, []), (3, [3]), ([2, [5, 7]], [2, 5, 6, 7]), ([[4, 4], [4, 5]], [4, 5]), ([1, 2], [1, 2])],
)
def test_ranges_hold_their_ends(ranges: Any, numbers: list[int]) -> None:
    assert [number for number in range(10) if number in SkippedBatches(ranges)] == numbers


@pytest.mark.parametrize("ranges", [0, [-1], [[5, 3]], [[0, 3]], [[1, 2, 3]], ["a"], [True], [[1.5, 2]], [[]]])
def test_what_is_no_range_is_refused(ranges: Any) -> None:
    with pytest.raises(UserError, match="skip_batches"):
        SkippedBatches(ranges)


def test_numbers_go_on_over_epochs_and_are_the_same_on_all_ranks() -> None:
    def skipped(rank: int, world: int, batch_size: int, start: tuple[int, int] = (0, 0)) -> list[tuple[int, int]]:
        batches = RankBatches(22, batch_size, world, rank, start, skip=SkippedBatches([2, [6, 8]]))
        found = []
        for epoch in range(3):
            batches.set_epoch(epoch)
            found += [(slots.epoch, slots.first or 0) for slots in batches if slots.skipped]
        return found

    # Six batches of four an epoch: number 6 is the last of the first epoch, 7 and 8 begin the second.
    wanted = [(0, 4), (0, 20), (1, 0), (1, 4)]
    assert skipped(0, 1, 4) == skipped(0, 2, 2) == skipped(1, 2, 2) == wanted
    assert skipped(0, 1, 4, start=(0, 8)) == wanted[1:]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "options",
    [
        {"sequences": Windows},
        {"sequences": Packed},
        {"sequences": Prompts, "context": 32},
        {"sequences": Prompts, "context": 32, "sampler": lambda: TokenBudget(64)},
    ],
)
def test_skipped_batches_are_empty_and_no_other_moves(text: Path, options: dict[str, Any], workers: int) -> None:
    whole = list(data(text, **options).train_dataloader())
    some = list(data(text, [2, [4, 5]], num_workers=workers, **options).train_dataloader())
    assert len(some) == len(whole) > 5
    for number, (batch, full) in enumerate(zip(some, whole, strict=True), 1):
        if number in (2, 4, 5):
            assert not (batch.targets != IGNORED).any()
        else:
            assert torch.equal(batch.inputs, full.inputs) and torch.equal(batch.targets, full.targets)


class Watch(Callback):
    """The weights and the losses after every micro-batch; a checkpoint after one of them."""

    def __init__(self, file: Path | None = None, step: int = 0) -> None:
        self.weights: list[Tensor] = []
        self.losses: list[float] = []
        self.file, self.step = file, step

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.weights.append(torch.cat([one.detach().flatten().clone() for one in module.net.parameters()]))
        self.losses.append(float(outputs["loss"]))

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:
        if self.file and trainer.global_step == self.step and not self.file.exists():
            trainer.save_checkpoint(self.file)


def fit(text: Path, skip: Any, accumulate: int, watch: Watch, resume: Path | None = None, **options: Any) -> LitGPT:
    torch.manual_seed(3)
    model = LitGPT(GPT(256, width=16, depth=1, heads=2, context=8, dropout=0.1, seed=1), **options)
    trainer = Trainer(
        accelerator="cpu", max_steps=8, accumulate_grad_batches=accumulate, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0,
        limit_val_batches=1, val_check_interval=accumulate, check_val_every_n_epoch=None,
        callbacks=[ExactResume(), watch],
    )  # fmt: skip
    trainer.fit(model, data(text, skip), ckpt_path=str(resume) if resume else None, weights_only=True)
    return model


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, lambda groups: torch.optim.SGD(groups, 0.1, momentum=0.9)])
def test_a_step_whose_batches_are_all_skipped_changes_nothing(text: Path, optimizer: Any) -> None:
    watch, whole = Watch(), Watch()
    unbroken = fit(text, None, 1, whole, optimizer=optimizer)
    model = fit(text, [[3, 4]], 1, watch, optimizer=optimizer)
    assert all(torch.equal(watch.weights[k], whole.weights[k]) for k in (0, 1))
    assert torch.equal(watch.weights[1], watch.weights[3]) and not torch.equal(watch.weights[3], watch.weights[4])
    assert watch.losses[:2] == whole.losses[:2] and watch.losses[2:4] == [0.0, 0.0]
    assert model.trainer.global_step == 8 and model.accumulators is not None and unbroken.accumulators is not None
    assert model.accumulators.total_tokens() == unbroken.accumulators.total_tokens() - 2 * 4 * 8


def test_a_window_trains_on_what_of_it_is_left(text: Path) -> None:
    # Two micro-batches of which one is skipped are one batch alone: the mean is over the tokens that are there.
    watch, alone = Watch(), Watch()
    fit(text, [[2, 100]], 1, alone)
    fit(text, [2, [3, 100]], 2, watch)
    torch.testing.assert_close(watch.weights[1], alone.weights[0], rtol=0, atol=1e-6)
    assert all(torch.equal(watch.weights[1], later) for later in watch.weights[2:])


def test_a_resume_with_skipped_batches_is_exact(text: Path, tmp_path: Path) -> None:
    skip, whole, again = [2, [7, 8], 13], Watch(tmp_path / "a.ckpt", 3), Watch()
    fit(text, skip, 2, whole)
    fit(text, skip, 2, again, tmp_path / "a.ckpt")
    assert again.losses == whole.losses[-len(again.losses) :] and len(again.losses) == 10
    assert torch.equal(again.weights[-1], whole.weights[-1])
