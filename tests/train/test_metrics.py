"""Metrics against hand computation in float64."""

import math

import pytest
import torch

from lit_gpt.train.metrics import BitsPerByte, Perplexity, TokenAccuracy, TokenLoss
from lit_gpt.train.objectives import TokenScores

LENGTHS = [0, 1, 2, 3, 1, 4]  # id 0 is special


def batches() -> list[TokenScores]:
    draw = torch.Generator().manual_seed(0)
    made = []
    for rows in (4, 4, 1):  # a last short batch must weigh by its tokens
        targets = torch.randint(0, 6, (rows, 7), generator=draw)
        targets[0, :3] = -100
        nats = torch.rand(rows, 7, generator=draw) * 5 * (targets != -100)
        correct = torch.rand(rows, 7, generator=draw) < 0.5
        made.append(TokenScores(nats, correct, targets))
    return made


def by_hand() -> dict[str, float]:
    nats = scored = correct = text_nats = text_bytes = 0.0
    for batch in batches():
        for loss, right, target in zip(
            batch.nats.flatten().tolist(),
            batch.correct.flatten().tolist(),
            batch.targets.flatten().tolist(),
            strict=True,
        ):
            if target == -100:
                continue
            nats, scored, correct = nats + loss, scored + 1, correct + right
            if LENGTHS[target]:
                text_nats, text_bytes = text_nats + loss, text_bytes + LENGTHS[target]
    return {
        "loss": nats / scored,
        "perplexity": math.exp(nats / scored),
        "accuracy": correct / scored,
        "bpb": text_nats / math.log(2) / text_bytes,
        "bpb of text": text_nats / math.log(2) / 1000,
    }


@pytest.mark.parametrize("name", ["loss", "perplexity", "accuracy", "bpb", "bpb of text"])
def test_equals_hand_computation(name: str) -> None:
    metric = {
        "loss": TokenLoss,
        "perplexity": Perplexity,
        "accuracy": TokenAccuracy,
        "bpb": lambda: BitsPerByte(LENGTHS),
        "bpb of text": lambda: BitsPerByte([int(n > 0) for n in LENGTHS], text_bytes=1000),
    }[name]()
    for _ in range(2):  # the second time after a reset
        metric.reset()
        for batch in batches():
            metric.update(batch)
        assert float(metric.compute()) == pytest.approx(by_hand()[name], rel=1e-12)


def test_a_uniform_guess_over_bytes_costs_eight_bits() -> None:
    metric = BitsPerByte([1] * 256)
    metric.update(TokenScores(torch.full((2, 50), math.log(256.0)), torch.zeros(2, 50), torch.zeros(2, 50, dtype=int)))
    assert float(metric.compute()) == pytest.approx(8.0, rel=1e-6)


def test_sums_do_not_lose_small_losses_in_a_long_split() -> None:
    metric = TokenLoss()
    scores = TokenScores(torch.full((100, 100), 0.1), torch.zeros(100, 100), torch.ones(100, 100, dtype=int))
    for _ in range(300):
        metric.update(scores)
    assert float(metric.compute()) == pytest.approx(float(torch.tensor(0.1)), rel=1e-12)
