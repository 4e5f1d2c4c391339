"""What an objective hands to the training: the net's own losses are learned from and not logged as cross-entropy."""

from functools import partial
from typing import Any

import pytest
import torch
from standins import VOCABULARY, Rows, TinyData, collate, trainer
from torch.nn import functional

from lit_gpt.model import GPT
from lit_gpt.nn import MoE
from lit_gpt.train.module import LitGPT
from lit_gpt.train.objectives import NextToken
from lit_gpt.train.step_metrics import StepMetrics


def experts(**options: Any) -> GPT:
    layer = partial(MoE, experts=4, aux_loss_coef=0.5, z_loss_coef=0.1, **options)
    return GPT(VOCABULARY, width=16, depth=2, heads=2, context=16, feedforward=layer, seed=0)


@pytest.mark.parametrize("pooled", [False, True])
def test_the_nets_own_loss_counts_once_for_each_token(pooled: bool) -> None:
    net = experts(pooled=pooled).double()
    batch = collate([Rows(4, 16, 1, masked=True)[k] for k in range(4)])
    (loss, count), parts = NextToken(net.sizes)(net, batch)
    aux = net(batch.inputs, reduce=lambda hidden, weight, softcap, aux: aux)
    mean = functional.cross_entropy(net(batch.inputs).flatten(0, 1), batch.targets.flatten())
    torch.testing.assert_close(loss / count, mean + aux)
    torch.testing.assert_close(parts["aux"], (aux * count).detach())
    assert aux > 0.5  # 0.5 K for two layers, were they even
    scored = NextToken(net.sizes).evaluate(net, batch)
    torch.testing.assert_close(scored.nats.sum() / count, mean)


def test_gradients_and_train_loss_over_micro_batches() -> None:
    """Two micro-batches with unequal numbers of targets are one step. A fused optimizer would divide in its kernel."""
    model = LitGPT(experts(), optimizer=partial(torch.optim.SGD, lr=0.0, fused=False))
    meter = StepMetrics()
    fit = trainer(max_steps=1, accumulate_grad_batches=2, callbacks=[meter], limit_val_batches=0, log_every_n_steps=1)
    fit.fit(model, TinyData(masked=True))
    net = experts()
    rows = Rows(64, 16, 1, masked=True)
    batches = [collate([rows[k] for k in group]) for group in (range(4), range(4, 8))]
    counts = [int((b.targets != -100).sum()) for b in batches]
    assert counts[0] != counts[1]
    cross, weighted = torch.zeros(()), torch.zeros(())
    for batch, count in zip(batches, counts, strict=True):
        nats = functional.cross_entropy(net(batch.inputs).flatten(0, 1), batch.targets.flatten(), reduction="sum")
        aux = net(batch.inputs, reduce=lambda hidden, weight, softcap, aux: aux)
        cross, weighted = cross + nats, weighted + aux * count
    ((cross + weighted) / sum(counts)).backward()
    for (name, own), parameter in zip(model.net.named_parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(own.grad, parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
    assert meter.latest["train_loss"] == pytest.approx(cross.item() / sum(counts), abs=1e-5)
