"""What a checkpoint could not be read back with is refused when it is written, and its owner is named."""

from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from lightning.pytorch import Callback
from standins import TinyData, tiny, trainer

from lit_gpt.errors import UserError
from lit_gpt.train.checkpointing import LastCheckpoint, VerifiedIO


class Keeps(Callback):
    """A callback with a state."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def state_dict(self) -> dict[str, Any]:
        return {"best": {"so far": [1, self.value]}}


class Odd:
    pass


@pytest.mark.parametrize(
    ("value", "kind"),
    [(numpy.float64(0.5), "numpy.float64"), (Odd(), "Odd"), (lambda: 0, "function"), (Path("a"), "Path")],
    ids=["numpy scalar", "object", "function", "path"],
)
def test_state_that_no_checkpoint_loads_is_refused_at_the_first_save(tmp_path: Path, value: Any, kind: str) -> None:
    last = LastCheckpoint(tmp_path, every_n_train_steps=2)
    options = {"max_steps": 4, "limit_val_batches": 0, "enable_checkpointing": True}
    fit = trainer(callbacks=[Keeps(value), last], plugins=[VerifiedIO()], **options)
    with pytest.raises(UserError) as refused:
        fit.fit(tiny(), datamodule=TinyData())
    said = str(refused.value)
    assert said.startswith("the state of the callback Keeps cannot be saved: callbacks.Keeps.best.so far.1 is a ")
    assert kind in said and "\n" not in said
    assert fit.global_step == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("checkpoint", "words"),
    [
        ({"lr_schedulers": [{"rate": numpy.float32(1)}]}, "the state of the schedule cannot be saved: lr_schedulers.0"),
        ({"mine": {numpy.int64(3): 1}}, "the state of mine cannot be saved: mine is a numpy.int64"),
        ({"callbacks": {"Best{'monitor': 'a'}": {1, Odd}}}, "the state of the callback Best cannot be saved"),
    ],
)
def test_the_owner_is_named(tmp_path: Path, checkpoint: dict[str, Any], words: str) -> None:
    old = tmp_path / "a.ckpt"
    VerifiedIO().save_checkpoint({"global_step": 1}, old)
    with pytest.raises(UserError) as refused:
        VerifiedIO().save_checkpoint({"global_step": 2, "state_dict": {"w": torch.ones(2)}, **checkpoint}, old)
    assert str(refused.value).startswith(words)
    assert VerifiedIO().load_checkpoint(old)["global_step"] == 1
