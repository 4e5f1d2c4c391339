"""Schedules against closed formats, nanoGPT's written out again, and what a resume may and may not change."""

import inspect
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_gpt.errors import UserError
from lit_gpt.train.schedules import (
    Schedule,
    WarmupCosine,
    WarmupExponential,
    WarmupLinear,
    WarmupStableDecay,
    WarmupStep,
)

ALL = [WarmupCosine, WarmupLinear, WarmupStep, WarmupExponential, WarmupStableDecay]
PEAK = 1e-3


def rates(
    new: Callable[..., Schedule], steps: int, lrs: tuple[float, ...] = (PEAK,), **options: float
) -> list[list[float]]:
    """The rates that the optimizer's steps 0 ... steps - 1 really use, by group."""
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in lrs]
    optimizer = torch.optim.SGD([{"params": [p], "lr": lr} for p, lr in zip(parameters, lrs, strict=True)])
    schedule = new(optimizer, steps, **options)
    used = []
    for _ in range(steps):
        used.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return used


def test_cosine_is_nanogpts_to_the_letter() -> None:
    warmup_iters, lr_decay_iters, min_lr = 100, 2000, 1e-4

    def get_lr(it: int) -> float:  # as nanoGPT's train.py computes it
        if it < warmup_iters:
            return PEAK * (it + 1) / (warmup_iters + 1)
        if it > lr_decay_iters:
            return min_lr
        ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
        return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (PEAK - min_lr)

    ours = [rate for (rate,) in rates(WarmupCosine, 2000, warmup_steps=100, min_lr_ratio=0.1)]
    assert ours == pytest.approx([get_lr(it) for it in range(2000)], rel=1e-12)


def test_closed_forms_after_the_warmup() -> None:
    steps, warmup_steps = 110, 10
    x = [(s - warmup_steps) / (steps - warmup_steps) for s in range(warmup_steps, steps)]
    expected = {
        WarmupLinear: [1 - 0.8 * v for v in x],
        WarmupStep: [max(0.2, 0.5 ** ((v >= 0.3) + (v >= 0.6) + (v >= 0.9))) for v in x],
        WarmupExponential: [max(0.2, 2 ** (-v / 0.25)) for v in x],
        WarmupStableDecay: [min(1, 0.2 + 0.8 * (1 - s / steps) / 0.5) for s in range(warmup_steps, steps)],
    }
    options = {
        WarmupStep: {"milestones": (0.3, 0.6, 0.9), "gamma": 0.5},
        WarmupExponential: {"half_life": 0.25},
        WarmupStableDecay: {"decay_fraction": 0.5},
    }
    for new, fractions in expected.items():
        ours = [
            rate for (rate,) in rates(new, steps, warmup_steps=warmup_steps, min_lr_ratio=0.2, **options.get(new, {}))
        ]
        assert ours[:warmup_steps] == pytest.approx([PEAK * (s + 1) / (warmup_steps + 1) for s in range(warmup_steps)])
        if new is WarmupStableDecay:  # the plateau, then the straight line over the last half
            fractions = [
                1.0 if s < steps / 2 else 0.2 + 0.8 * (1 - s / steps) / 0.5 for s in range(warmup_steps, steps)
            ]
        assert ours[warmup_steps:] == pytest.approx([PEAK * f for f in fractions]), new


@given(
    new=st.sampled_from(ALL),
    steps=st.integers(1, 300),
    warmup_steps=st.integers(0, 400),
    min_lr_ratio=st.floats(0, 1),
    step=st.integers(0, 700),
)
def test_fractions_stay_between_floor_and_peak(
    new: type[Schedule], steps: int, warmup_steps: int, min_lr_ratio: float, step: int
) -> None:
    schedule = new(
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))]),
        steps,
        warmup_steps=warmup_steps,
        min_lr_ratio=min_lr_ratio,
    )
    factor = schedule.lr_factor(step)
    assert 0.0 <= factor <= 1.0
    if step >= warmup_steps:
        assert factor >= min_lr_ratio - 1e-12
        assert schedule.lr_factor(step + 1) <= factor + 1e-12


def test_each_group_keeps_its_own_peak() -> None:
    for small, large in rates(WarmupCosine, 50, lrs=(1e-3, 1e-2), warmup_steps=5):
        assert large == pytest.approx(10 * small)


@pytest.mark.parametrize("new", ALL)
def test_a_longer_run_gets_a_longer_schedule_on_resume(new: type[Schedule]) -> None:
    def fresh(steps: int) -> Schedule:
        return new(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK), steps, warmup_steps=2)

    short, long = fresh(20), fresh(40)
    for _ in range(15):
        short.optimizer.step()
        short.step()
    long.load_state_dict(short.state_dict())
    long.refresh([PEAK])
    assert long.optimizer.param_groups[0]["lr"] == pytest.approx(PEAK * fresh(40).lr_factor(15))


def test_one_argument_name_has_one_default_in_all_siblings() -> None:
    defaults: dict[str, set[object]] = {}
    for new in ALL:
        for name, parameter in inspect.signature(new).parameters.items():
            defaults.setdefault(name, set()).add(parameter.default)
    assert {name: values for name, values in defaults.items() if len(values) > 1} == {}


@pytest.mark.parametrize(
    ("new", "options", "said"),
    [
        (WarmupCosine, {"warmup_steps": -1}, "warmup_steps is -1"),
        (WarmupLinear, {"min_lr_ratio": 1.5}, "min_lr_ratio is 1.5"),
        (WarmupStep, {"gamma": 0.0}, "gamma is 0.0"),
        (WarmupExponential, {"half_life": 0.0}, "half_life is 0.0"),
        (WarmupStableDecay, {"decay_fraction": 2.0}, "decay_fraction is 2.0"),
    ],
)
def test_impossible_arguments_are_named(new: type[Schedule], options: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        rates(new, 10, **options)
