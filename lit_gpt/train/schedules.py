"""Learning-rate schedules with linear warmup: cosine, linear, step, exponential and warmup-stable-decay (WSD).

Each class is a factory argument of LitGPT, called with (optimizer, steps). Each parameter group keeps its own peak.
"""

import math
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_gpt.errors import UserError, not_implemented


class Schedule(LRScheduler):
    """Base of the learning rate schedules: linear warmup, then `decay`.

    Args:
        optimizer: The learning rates of its parameter groups are the peaks.
        steps: Optimizer steps of the whole run.
        warmup_steps: Steps of linear rise; step 0 has 1 / (warmup_steps + 1) of the peak.
        min_lr_ratio: Lowest learning rate after the warmup, as a fraction of the peak.
    """

    def __init__(self, optimizer: Optimizer, steps: int, warmup_steps: int = 100, min_lr_ratio: float = 0.0) -> None:
        if warmup_steps < 0:
            raise UserError(f"schedule: warmup_steps is {warmup_steps}; give 0 or more steps")
        if not 0.0 <= min_lr_ratio <= 1.0:
            raise UserError(f"schedule: min_lr_ratio is {min_lr_ratio}; give a fraction of the peak from 0 to 1")
        self.steps, self.warmup_steps, self.min_lr_ratio = steps, warmup_steps, min_lr_ratio
        super().__init__(optimizer)

    def decay(self, progress: float) -> float:
        """Fraction of the peak at `progress` (0 at the end of the warmup, 1 at the last step)."""
        raise not_implemented(self, "decay")

    def lr_factor(self, step: int) -> float:
        """Fraction of the peak learning rate used by optimizer step `step`, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return max(self.min_lr_ratio, self.decay(min(1.0, progress)))

    def get_lr(self) -> list[float]:  # type: ignore[override]
        factor = self.lr_factor(self.last_epoch)
        return [float(peak) * factor for peak in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        # The position alone: on resume length and shape come from the user's config, so that a longer run gets a
        # longer schedule.
        return {"last_epoch": self.last_epoch, "_step_count": self._step_count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.last_epoch, self._step_count = state_dict["last_epoch"], state_dict["_step_count"]

    def refresh(self, peaks: list[float]) -> None:
        """Set the peak of each parameter group and recompute the current learning rates (after a resume)."""
        self.base_lrs = list(peaks)
        for group, peak, lr in zip(self.optimizer.param_groups, peaks, self.get_lr(), strict=True):
            group["initial_lr"], group["lr"] = peak, lr
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


class WarmupCosine(Schedule):
    """Linear warmup, then cosine decay to the minimum (Loshchilov & Hutter 2017), as in nanoGPT."""

    def decay(self, progress: float) -> float:
        return self.min_lr_ratio + (1.0 - self.min_lr_ratio) * 0.5 * (1.0 + math.cos(math.pi * progress))


class WarmupLinear(Schedule):
    """Linear warmup, then linear decay to the minimum."""

    def decay(self, progress: float) -> float:
        return 1.0 - (1.0 - self.min_lr_ratio) * progress


class WarmupStep(Schedule):
    """Linear warmup, then the learning rate is multiplied by `gamma` at each milestone.

    Args:
        optimizer: The learning rates of its parameter groups are the peaks.
        steps: Optimizer steps of the whole run.
        warmup_steps: Steps of linear rise; step 0 has 1 / (warmup_steps + 1) of the peak.
        min_lr_ratio: Lowest learning rate after the warmup, as a fraction of the peak.
        milestones: Where the learning rate falls, as fractions of the way from the end of the warmup to the last step.
        gamma: Factor of each fall.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        warmup_steps: int = 100,
        min_lr_ratio: float = 0.0,
        milestones: tuple[float, ...] = (0.6, 0.85),
        gamma: float = 0.1,
    ) -> None:
        if not 0.0 < gamma <= 1.0 or any(not 0.0 <= milestone <= 1.0 for milestone in milestones):
            given = f"gamma is {gamma}, milestones are {list(milestones)}"
            raise UserError(f"WarmupStep: {given}; give fractions between 0 and 1")
        self.milestones, self.gamma = tuple(milestones), gamma
        super().__init__(optimizer, steps, warmup_steps, min_lr_ratio)

    def decay(self, progress: float) -> float:
        return self.gamma ** sum(progress >= milestone for milestone in self.milestones)


class WarmupExponential(Schedule):
    """Linear warmup, then exponential decay.

    Args:
        optimizer: The learning rates of its parameter groups are the peaks.
        steps: Optimizer steps of the whole run.
        warmup_steps: Steps of linear rise; step 0 has 1 / (warmup_steps + 1) of the peak.
        min_lr_ratio: Lowest learning rate after the warmup, as a fraction of the peak.
        half_life: Fraction of the way from the warmup to the last step over which the learning rate halves.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        warmup_steps: int = 100,
        min_lr_ratio: float = 0.0,
        half_life: float = 0.15,
    ) -> None:
        if half_life <= 0.0:
            raise UserError(f"WarmupExponential: half_life is {half_life}; give a fraction of the run above 0")
        self.half_life = half_life
        super().__init__(optimizer, steps, warmup_steps, min_lr_ratio)

    def decay(self, progress: float) -> float:
        return 0.5 ** (progress / self.half_life)


class WarmupStableDecay(Schedule):
    """Linear warmup, a plateau at the peak, then linear decay to the minimum (WSD; Hu et al. 2024, MiniCPM).

    Args:
        optimizer: The learning rates of its parameter groups are the peaks.
        steps: Optimizer steps of the whole run.
        warmup_steps: Steps of linear rise; step 0 has 1 / (warmup_steps + 1) of the peak.
        min_lr_ratio: Lowest learning rate after the warmup, as a fraction of the peak.
        decay_fraction: Fraction of all steps, at the end of the run, over which the learning rate falls.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        warmup_steps: int = 100,
        min_lr_ratio: float = 0.0,
        decay_fraction: float = 0.65,
    ) -> None:
        if not 0.0 <= decay_fraction <= 1.0:
            raise UserError(f"WarmupStableDecay: decay_fraction is {decay_fraction}; give a fraction from 0 to 1")
        self.decay_fraction = decay_fraction
        super().__init__(optimizer, steps, warmup_steps, min_lr_ratio)

    def lr_factor(self, step: int) -> float:
        rise = (step + 1) / (self.warmup_steps + 1) if step < self.warmup_steps else 1.0
        return min(rise, self.decay(min(1.0, step / max(1, self.steps))))

    def decay(self, progress: float) -> float:
        left = 1.0 if self.decay_fraction == 0.0 else min(1.0, (1.0 - progress) / self.decay_fraction)
        return self.min_lr_ratio + (1.0 - self.min_lr_ratio) * left
