"""Learning rate as a function of the optimizer step.

Knows the number of steps of the run and nothing of the model. Every class is a factory argument of LitGPT: it is
called with (optimizer, steps). An argument name means the same in all of them: `warmup` counts steps, `floor` is the
fraction of the peak rate below which none goes. Each parameter group keeps its own peak.
"""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_gpt.errors import UserError


class Schedule(LRScheduler):
    """Base of the schedules: linear warm-up, then what `after` says.

    Args:
        optimizer: Its groups' rates are the peaks.
        steps: Optimizer steps of the whole run.
        warmup: Steps of linear rise; step 0 has 1 / (warmup + 1) of the peak.
        floor: Lowest rate after the warm-up, as a fraction of the peak.
    """

    def __init__(self, optimizer: Optimizer, steps: int, warmup: int = 100, floor: float = 0.0) -> None:
        if warmup < 0:
            raise UserError(f"schedule: warmup is {warmup}; give 0 or more steps")
        if not 0.0 <= floor <= 1.0:
            raise UserError(f"schedule: floor is {floor}; give a fraction of the peak rate from 0 to 1")
        self.steps, self.warmup, self.floor = steps, warmup, floor
        super().__init__(optimizer)

    def after(self, progress: float) -> float:
        """Fraction of the peak at `progress` (0 at the end of the warm-up, 1 at the last step)."""
        raise NotImplementedError

    def fraction(self, step: int) -> float:
        """Fraction of the peak rate used by optimizer step `step`, counted from 0."""
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return max(self.floor, self.after(min(1.0, progress)))

    def get_lr(self) -> list[float]:  # type: ignore[override]
        fraction = self.fraction(self.last_epoch)
        return [float(peak) * fraction for peak in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        # Where the run stands, and nothing else: on resume length and shape come from the user's settings, so that a
        # longer run really gets a longer schedule.
        return {"last_epoch": self.last_epoch, "_step_count": self._step_count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.last_epoch, self._step_count = state_dict["last_epoch"], state_dict["_step_count"]

    def refresh(self, peaks: list[float]) -> None:
        """Set the groups' peaks and bring their rates to where the schedule stands (after a resume)."""
        self.base_lrs = list(peaks)
        for group, peak, rate in zip(self.optimizer.param_groups, peaks, self.get_lr(), strict=True):
            group["initial_lr"], group["lr"] = peak, rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


class WarmupCosine(Schedule):
    """Linear warm-up, then half a cosine down to the floor (Loshchilov & Hutter 2017; nanoGPT's to the letter).

    Args:
        optimizer: Its groups' rates are the peaks.
        steps: Optimizer steps of the whole run.
        warmup: Steps of linear rise; step 0 has 1 / (warmup + 1) of the peak.
        floor: Lowest rate after the warm-up, as a fraction of the peak.
    """

    def after(self, progress: float) -> float:
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


class WarmupLinear(Schedule):
    """Linear warm-up, then a straight line down to the floor.

    Args:
        optimizer: Its groups' rates are the peaks.
        steps: Optimizer steps of the whole run.
        warmup: Steps of linear rise; step 0 has 1 / (warmup + 1) of the peak.
        floor: Lowest rate after the warm-up, as a fraction of the peak.
    """

    def after(self, progress: float) -> float:
        return 1.0 - (1.0 - self.floor) * progress


class WarmupStep(Schedule):
    """Linear warm-up, then the rate is multiplied by `gamma` at each of the drops.

    Args:
        optimizer: Its groups' rates are the peaks.
        steps: Optimizer steps of the whole run.
        warmup: Steps of linear rise; step 0 has 1 / (warmup + 1) of the peak.
        floor: Lowest rate after the warm-up, as a fraction of the peak.
        drops: Where the rate falls, as fractions of the way from the end of the warm-up to the last step.
        gamma: Factor of each fall.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        warmup: int = 100,
        floor: float = 0.0,
        drops: tuple[float, ...] = (0.6, 0.85),
        gamma: float = 0.1,
    ) -> None:
        if not 0.0 < gamma <= 1.0 or any(not 0.0 <= drop <= 1.0 for drop in drops):
            raise UserError(f"WarmupStep: gamma is {gamma}, drops are {list(drops)}; give fractions between 0 and 1")
        self.drops, self.gamma = tuple(drops), gamma
        super().__init__(optimizer, steps, warmup, floor)

    def after(self, progress: float) -> float:
        return self.gamma ** sum(progress >= drop for drop in self.drops)


class WarmupExponential(Schedule):
    """Linear warm-up, then exponential decay.

    Args:
        optimizer: Its groups' rates are the peaks.
        steps: Optimizer steps of the whole run.
        warmup: Steps of linear rise; step 0 has 1 / (warmup + 1) of the peak.
        floor: Lowest rate after the warm-up, as a fraction of the peak.
        halving: The rate halves each time this fraction of the way from the warm-up to the last step is done.
    """

    def __init__(
        self, optimizer: Optimizer, steps: int, warmup: int = 100, floor: float = 0.0, halving: float = 0.15
    ) -> None:
        if halving <= 0.0:
            raise UserError(f"WarmupExponential: halving is {halving}; give a fraction of the run above 0")
        self.halving = halving
        super().__init__(optimizer, steps, warmup, floor)

    def after(self, progress: float) -> float:
        return 0.5 ** (progress / self.halving)


class WarmupStableDecay(Schedule):
    """Linear warm-up, a plateau at the peak, then a straight line down to the floor (WSD; Hu et al. 2024, MiniCPM).

    Args:
        optimizer: Its groups' rates are the peaks.
        steps: Optimizer steps of the whole run.
        warmup: Steps of linear rise; step 0 has 1 / (warmup + 1) of the peak.
        floor: Lowest rate after the warm-up, as a fraction of the peak.
        decay: Fraction of all steps, at the end of the run, over which the rate falls.
    """

    def __init__(
        self, optimizer: Optimizer, steps: int, warmup: int = 100, floor: float = 0.0, decay: float = 0.65
    ) -> None:
        if not 0.0 <= decay <= 1.0:
            raise UserError(f"WarmupStableDecay: decay is {decay}; give the fraction of the run from 0 to 1")
        self.decay = decay
        super().__init__(optimizer, steps, warmup, floor)

    def fraction(self, step: int) -> float:
        rise = (step + 1) / (self.warmup + 1) if step < self.warmup else 1.0
        return min(rise, self.after(min(1.0, step / max(1, self.steps))))

    def after(self, progress: float) -> float:
        left = 1.0 if self.decay == 0.0 else min(1.0, (1.0 - progress) / self.decay)
        return self.floor + (1.0 - self.floor) * left
