"""Noise on embeddings: how large, where, and that a resumed run draws the same."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from standins import TinyData, tiny, trainer
from torch.optim.lr_scheduler import ConstantLR

from lit_gpt.errors import UserError
from lit_gpt.train.checkpointing import LastCheckpoint, VerifiedIO
from lit_gpt.train.exact_resume import ExactResume
from lit_gpt.train.neftune import NEFTune, text_lengths

pytestmark = pytest.mark.filterwarnings("ignore:.*dataloader is not resumable")


class Listener(Callback):
    """What the embedding gives besides the rows of its matrix, with the batch, in training and in validation."""

    def __init__(self) -> None:
        self.noise: dict[bool, list[torch.Tensor]] = {True: [], False: []}
        self.lengths: list[torch.Tensor] = []
        self.losses: list[float] = []

    def on_train_start(self, fit: Any, module: Any) -> None:
        def listen(embedding: Any, ids: Any, out: torch.Tensor) -> None:
            self.noise[embedding.training].append((out - embedding.weight[ids[0]]).detach().clone())

        module.net.embedding.register_forward_hook(listen)

    def on_train_batch_end(self, fit: Any, module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))
        self.lengths.append(text_lengths(batch.targets, batch.segments))


def run(
    folder: Path, steps: int, alpha: float | None = 5.0, resume: bool = False, compile: bool = False
) -> tuple[dict[str, torch.Tensor], Listener]:
    noise = [] if alpha is None else [NEFTune(alpha)]
    listener = Listener()
    fit = trainer(
        max_steps=steps,
        enable_checkpointing=True,
        callbacks=[
            ExactResume(),
            *noise,
            *([] if compile else [listener]),
            LastCheckpoint(folder, every_n_train_steps=4),
        ],
        plugins=[VerifiedIO()],
        val_check_interval=3,
        check_val_every_n_epoch=None,
        accumulate_grad_batches=2,
    )
    torch.manual_seed(99 if resume else 0)
    # A run of half the steps has to be the first half of a whole one.
    model = tiny(dropout=0.1, schedule=lambda optimizer, steps: ConstantLR(optimizer, 1.0))
    if compile:
        model.net.compile(backend="aot_eager", fullgraph=True)
    path = str(folder / "last.ckpt") if resume else None
    fit.fit(model, datamodule=TinyData(rows=80, masked=True), ckpt_path=path, weights_only=True)
    return {name: tensor.clone() for name, tensor in model.net.state_dict().items()}, listener


def test_noise_is_as_large_as_the_paper_says_and_only_in_training(tmp_path: Path) -> None:
    _, listener = run(tmp_path, 4)
    assert listener.noise[False] and all(not noise.any() for noise in listener.noise[False])
    for noise, lengths in zip(listener.noise[True], listener.lengths, strict=True):
        largest = 5.0 / (lengths * 16).sqrt()  # (B, 1)
        size = noise.abs().flatten(1)
        assert (size <= largest + 1e-6).all() and (size.amax(1) > 0.9 * largest[:, 0]).all()
        assert (size.mean(1) / largest[:, 0] - 0.5).abs().max() < 0.1


def test_a_resumed_run_draws_the_same_noise(tmp_path: Path) -> None:
    whole, listener = run(tmp_path / "whole", 8)
    run(tmp_path / "parts", 4)
    resumed, rest = run(tmp_path / "parts", 8, resume=True)
    assert rest.losses == listener.losses[8:] and len(rest.losses) == 8
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    without, _ = run(tmp_path / "without", 8, alpha=None)
    assert any(not torch.equal(tensor, without[name]) for name, tensor in whole.items())


def test_compiled_nets_get_it_too_and_keep_nothing_of_it(tmp_path: Path) -> None:
    torch._dynamo.reset()
    compiled, _ = run(tmp_path / "compiled", 2, compile=True)
    eager, _ = run(tmp_path / "eager", 2)
    without, _ = run(tmp_path / "without", 2, alpha=None)
    name = "embedding.weight"
    torch.testing.assert_close(compiled[name], eager[name], rtol=0, atol=1e-5)
    assert (compiled[name] - without[name]).abs().max() > 1e-4


def test_lengths_are_those_of_segments_or_of_what_is_learned() -> None:
    targets = torch.tensor([[1, 2, -100, 3, -100], [-100] * 5])
    assert text_lengths(targets, None).tolist() == [[4.0], [1.0]]
    segments = torch.tensor([[0, 0, 0, 1, 1], [7, 7, 7, 7, 2]])
    assert text_lengths(targets, segments).tolist() == [[3, 3, 3, 2, 2], [4, 4, 4, 4, 1]]


def test_no_noise_is_no_noise() -> None:
    with pytest.raises(UserError, match="alpha 0 of NEFTune"):
        NEFTune(0)
