"""LitGPT under the Trainer against a loop written by hand, and what its options do."""

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.plugins import MixedPrecision
from standins import VOCABULARY, Batch, Letters, Rows, TinyData, collate, tiny, trainer
from torch.nn import functional

from lit_gpt import checkpoint
from lit_gpt.errors import UserError
from lit_gpt.model import GPT
from lit_gpt.train.objectives import NextToken
from lit_gpt.train.schedules import WarmupLinear
from lit_gpt.train.step_metrics import StepMetrics


def weights_of(net: GPT) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def by_hand(steps: int, batch_size: int, accumulate: int, rows: int, clip: float | None) -> torch.Tensor:
    """The plainest loop: mean over all scored tokens of a window of micro-batches, clip, AdamW, linear schedule."""
    net = tiny().net
    tables = [net.positions[0].table.weight]
    vectors = [p for p in net.parameters() if p.ndim < 2]
    rest = [p for p in net.parameters() if p.ndim >= 2 and p is not tables[0]]
    free = {"params": tables + vectors, "weight_decay": 0.0}
    optimizer = torch.optim.AdamW([{"params": rest}, free], lr=1e-3, weight_decay=0.01)
    text = Rows(rows, 16, 1, masked=True)
    windows = [range(k, min(k + batch_size, rows)) for k in range(0, rows, batch_size)]
    groups = [windows[k : k + accumulate] for k in range(0, len(windows), accumulate)]
    for step in range(steps):
        batch = collate([text[k] for window in groups[step % len(groups)] for k in window])
        rise = (step + 1) / 3 if step < 2 else 1 - (step - 2) / (steps - 2)
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * rise
        optimizer.zero_grad()
        functional.cross_entropy(net(batch.inputs).flatten(0, 1), batch.targets.flatten()).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()
    return weights_of(net)


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "rows", "clip"),
    # the last two: a last window of fewer micro-batches, and a last micro-batch of fewer rows
    [(4, 1, 64, None), (4, 1, 64, 0.5), (4, 4, 64, 0.5), (4, 3, 64, 0.5), (4, 3, 30, None)],
)
def test_gradients_are_divided_by_all_scored_tokens_once(
    batch_size: int, accumulate: int, rows: int, clip: float | None
) -> None:
    model = tiny()
    fit = trainer(max_steps=12, accumulate_grad_batches=accumulate, gradient_clip_val=clip)
    fit.fit(model, datamodule=TinyData(batch_size, rows=rows, masked=True))
    wanted = by_hand(12, batch_size, accumulate, rows, clip)
    torch.testing.assert_close(weights_of(model.net), wanted, rtol=1e-4, atol=2e-6)


def test_clipping_by_value() -> None:
    model = tiny(
        optimizer=lambda groups: torch.optim.SGD(groups, lr=1.0),
        schedule=lambda optimizer, steps: torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0),
    )
    trainer(max_steps=1, gradient_clip_val=1e-3, gradient_clip_algorithm="value").fit(model, datamodule=TinyData())
    moved = (weights_of(model.net) - weights_of(tiny().net)).abs()
    assert moved.max() == pytest.approx(1e-3, rel=1e-3)
    assert (moved > 0.999e-3).sum() > 100  # by norm one value at most could be as large


def test_validation_metrics_equal_a_computation_by_hand() -> None:
    model, data = tiny(), TinyData(masked=True)
    (logged,) = trainer().validate(model, datamodule=data, verbose=False)
    batch = collate([Rows(16, 16, 2, masked=True)[k] for k in range(16)])
    logits = model.net(batch.inputs).detach().double().flatten(0, 1)
    targets = batch.targets.flatten()
    nats = functional.cross_entropy(logits, targets, reduction="none")
    scored = targets != -100
    lengths = torch.tensor(data.tokenizer.byte_lengths())[targets.clamp(min=0)] * scored
    mean = float(nats.sum() / scored.sum())
    wanted = {
        "val_loss": mean,
        "val_perplexity": math.exp(mean),
        "val_accuracy": float((logits.argmax(-1) == targets)[scored].double().mean()),
        "val_bpb": float(nats[lengths > 0].sum() / math.log(2) / lengths.sum()),
    }
    assert logged == pytest.approx(wanted, rel=1e-5)


def test_another_text_is_scored_with_its_own_bytes() -> None:
    class Longer(TinyData):
        def __init__(self) -> None:
            super().__init__()
            self.tokenizer.byte_lengths = lambda: [2 * n for n in Letters().byte_lengths()]  # type: ignore[method-assign]

        def test_dataloader(self) -> Any:
            return self.val_dataloader()

    model, fit = tiny(), trainer()
    (one,) = fit.validate(model, datamodule=TinyData(), verbose=False)
    (two,) = fit.validate(model, datamodule=Longer(), verbose=False)
    (test,) = fit.test(model, datamodule=Longer(), verbose=False)
    assert two["val_bpb"] == test["test_bpb"] == pytest.approx(one["val_bpb"] / 2)
    assert two["val_loss"] == one["val_loss"]


def test_label_smoothing_is_learned_with_and_not_validated_with() -> None:
    net = tiny().net
    batch = collate([Rows(4, 16, 1, masked=True)[k] for k in range(4)])
    (total, count), _ = NextToken(net.sizes, label_smoothing=0.2)(net, batch)
    wanted = functional.cross_entropy(
        net(batch.inputs).flatten(0, 1), batch.targets.flatten(), reduction="sum", label_smoothing=0.2
    )
    assert total.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert int(count) == int((batch.targets != -100).sum())
    smooth, plain = (NextToken(net.sizes, s).evaluate(net, batch).nats for s in (0.2, 0.0))
    assert torch.equal(smooth, plain)


@pytest.mark.parametrize("label_smoothing", [-0.1, 1.0])
def test_impossible_label_smoothing_is_named(label_smoothing: float) -> None:
    with pytest.raises(UserError, match="label_smoothing is"):
        NextToken(tiny().net.sizes, label_smoothing)


def test_a_batch_without_a_scored_target_changes_nothing() -> None:
    class Nothing(TinyData):
        def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
            return batch._replace(targets=torch.full_like(batch.targets, -100)) if self.trainer.training else batch

    model = tiny(param_groups={"*": {"weight_decay": 0.0}})
    trainer(max_steps=3, log_every_n_steps=2, callbacks=[StepMetrics()]).fit(model, datamodule=Nothing())
    assert torch.equal(weights_of(model.net), weights_of(tiny().net))


def test_the_first_speed_counts_the_steps_alone() -> None:
    class Slow(Callback):
        def on_train_start(self, *_: Any) -> None:
            time.sleep(1.0)

    meter = StepMetrics()
    trainer(max_steps=5, log_every_n_steps=5, callbacks=[meter, Slow()]).fit(tiny(), datamodule=TinyData())
    assert meter.latest["tokens_per_second"] > 5 * 64 / 1.0


@pytest.mark.parametrize("length", [{"max_steps": 3}, {"max_steps": -1, "max_epochs": 1}])
def test_without_a_logging_interval_the_end_is_read(length: dict[str, int]) -> None:
    meter = StepMetrics()
    trainer(log_every_n_steps=0, callbacks=[meter], **length).fit(tiny(), datamodule=TinyData(rows=12))
    assert meter.latest["tokens"] == 3 * 64


def test_bf16_mixed_learns_with_clipping_and_fused_adamw() -> None:
    model, meter = tiny(), StepMetrics()
    fit = trainer(precision="bf16-mixed", max_steps=20, gradient_clip_val=1.0, log_every_n_steps=5, callbacks=[meter])
    fit.fit(model, datamodule=TinyData())
    assert fit.optimizers[0].param_groups[0]["fused"] is True
    assert meter.latest["train_loss"] < math.log(VOCABULARY)


@pytest.mark.filterwarnings("ignore:.*AMP with fp16")
def test_16_mixed_on_a_cpu_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="16-mixed needs a GPU"):
        model = tiny()
        model.config = {"trainer": {"precision": "16-mixed"}}
        trainer(precision="16-mixed").fit(model, datamodule=TinyData())


def test_the_length_of_the_run_comes_from_steps_or_from_epochs() -> None:
    def steps(**options: Any) -> int:
        seen: list[int] = []
        model = tiny(schedule=lambda optimizer, n: seen.append(n) or WarmupLinear(optimizer, n))
        trainer(**({"fast_dev_run": False} | options)).fit(model, datamodule=TinyData(rows=36))  # 9 batches
        return seen[0]

    assert steps(max_steps=3) == 3
    assert steps(max_steps=-1, max_epochs=2) == 18
    assert steps(max_steps=-1, max_epochs=2, accumulate_grad_batches=4) == 6
    assert steps(max_steps=-1, max_epochs=2, limit_train_batches=5) == 10
    assert steps(max_steps=-1, max_epochs=1, limit_train_batches=0.5) == 4
    assert steps(max_steps=5, max_epochs=1) == 5


def test_a_compiled_net_trains_in_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[Any] = []

    def count(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    monkeypatch.setattr(GPT, "compile", lambda self: torch.nn.Module.compile(self, backend=count, fullgraph=True))
    model = tiny(compile=True)
    trainer(max_steps=6, limit_val_batches=0).fit(model, datamodule=TinyData())
    plain = tiny()
    trainer(max_steps=6, limit_val_batches=0).fit(plain, datamodule=TinyData())
    assert len(graphs) == 1
    assert not any("_orig_mod" in name for name in model.state_dict())
    torch.testing.assert_close(weights_of(model.net), weights_of(plain.net), rtol=1e-4, atol=1e-6)


def saved(folder: Path, model: Any) -> Path:
    fit = trainer(max_steps=2)
    fit.fit(model, datamodule=TinyData())
    fit.save_checkpoint(folder / "base.ckpt")
    return folder / "base.ckpt"


def test_init_from_takes_the_weights_and_nothing_else(tmp_path: Path) -> None:
    base = tiny(seed=3)
    path = saved(tmp_path, base)
    model = tiny(seed=4, init_from=str(path))
    assert torch.equal(weights_of(model.net), weights_of(base.net))
    model.config = {"model": {"init_from": str(path), "compile": False}}
    path.rename(tmp_path / "gone.ckpt")
    fit = trainer(max_steps=1)
    fit.fit(model, datamodule=TinyData())
    assert fit.global_step == 1
    fit.save_checkpoint(tmp_path / "tuned.ckpt")
    written = checkpoint.read(tmp_path / "tuned.ckpt")
    assert written.config == {"model": {"init_from": None, "compile": False}}
    assert model.config["model"]["init_from"] == str(path)


def test_init_from_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, tiny())
    from lit_gpt.train.module import LitGPT

    other = GPT(16, width=16, depth=2, heads=2, context=16, seed=0)
    with pytest.raises(UserError, match="vocabulary of 32, this net one of 16"):
        LitGPT(other, init_from=str(path))


def test_a_net_made_by_hand_is_not_pickled_into_its_checkpoint(tmp_path: Path) -> None:
    written = torch.load(saved(tmp_path, tiny()), weights_only=True)
    assert "hyper_parameters" not in written
    assert written["tokenizer"] == {"class_path": "letters"}
    assert written["tokens"] == 2 * 4 * 16
    assert all(name.startswith(("net.", "objective.")) for name in written["state_dict"])


class Scaled16Bits(MixedPrecision):
    """16-mixed with its scaler as on a GPU; torch has both on the CPU too, where Lightning does not offer them."""

    def __init__(self, scale: float) -> None:
        super().__init__("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))


@pytest.mark.parametrize("fused", [True, False])
def test_16_mixed_divides_the_loss_scale_out_before_clipping(fused: bool) -> None:
    def trained(**options: Any) -> tuple[torch.Tensor, float]:
        model = tiny(optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e-3, fused=None if fused else False))
        fit = trainer(
            max_steps=6, gradient_clip_val=0.3, log_every_n_steps=1, callbacks=[meter := StepMetrics()], **options
        )
        fit.fit(model, datamodule=TinyData(masked=True))
        return weights_of(model.net), meter.latest["grad_norm"]

    (got, norm), (wanted, true_norm) = trained(plugins=[Scaled16Bits(2.0**10)]), trained()
    assert norm == pytest.approx(true_norm, rel=2e-2)
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-3)


def test_16_mixed_skips_a_step_that_overflows_and_goes_on() -> None:
    plugin = Scaled16Bits(2.0**40)  # no gradient fits until it has come down
    model, meter = tiny(), StepMetrics()
    trainer(max_steps=40, log_every_n_steps=1, plugins=[plugin], callbacks=[meter]).fit(model, datamodule=TinyData())
    assert plugin.scaler.get_scale() < 2.0**40
    assert torch.isfinite(weights_of(model.net)).all()
    assert not torch.equal(weights_of(model.net), weights_of(tiny().net))
