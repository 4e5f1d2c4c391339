"""Device-side accumulators for loss, tokens and gradient norm, so that a training step needs no synchronization."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Reading:
    """The values of the accumulators on the host."""

    loss: float  # mean over the tokens since the last read, nats; nan if there were none
    grad_norm: float
    tokens: int  # trained on since the start of the run, all ranks
    skipped: int  # steps since the last read that were skipped for a gradient that was not finite
    seconds: float  # of training since the last read, without pauses
    new_tokens: int  # trained on since the last read, all ranks


def widest_float(device: torch.device) -> torch.dtype:
    """float64, exact for counts up to 2**53; float32 on MPS, which has no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


class Accumulators:
    """Loss, tokens, gradient norm and skipped steps of a run.

    Args:
        device: Device of the sums.
        reduce: Sums a tensor over the ranks; None for a single process.
    """

    def __init__(self, device: torch.device, reduce: Callable[[Tensor], Tensor] | None = None) -> None:
        self.tokens = 0  # of the run, all ranks, up to the last read
        self.lr = 0.0  # of the first parameter group in the last step
        self._reduce = reduce
        self._dtype = widest_float(device)
        self._device = device
        self._loss = torch.zeros((), dtype=self._dtype, device=device)
        self._count = torch.zeros((), dtype=torch.int64, device=device)
        self._skipped = torch.zeros((), device=device)
        self._norm = torch.zeros((), device=device)
        # Of the current gradient accumulation window: a checkpoint has the state after the last optimizer step.
        self._window: Tensor | None = None
        self._window_loss = torch.zeros((), dtype=self._dtype, device=device)
        self._begun = time.perf_counter()
        self._elapsed = 0.0  # seconds of the resumed run since its last read
        self._paused = 0.0

    def begin(self) -> None:
        """Start the clock of the training time."""
        self._begun, self._paused = time.perf_counter() - self._elapsed, 0.0

    def add(self, loss: Tensor, count: Tensor) -> None:
        """Add the sum of losses and the number of tokens of one micro-batch of this rank."""
        self._window_loss += loss.detach()
        self._window = count if self._window is None else self._window + count

    def close_window(self) -> Tensor:
        """Tokens of the micro-batches since the last optimizer step, over all ranks, at least 1."""
        assert self._window is not None, "an optimizer step without a training step"
        window = self._window if self._reduce is None else self._reduce(self._window.clone())
        self._window = None
        self._count += window
        self._loss += self._window_loss
        self._window_loss.zero_()
        return window.clamp(min=1)

    def close_step(self, norm: Tensor, skipped: Tensor) -> None:
        """Add the gradient norm of an optimizer step and whether it was skipped."""
        self._norm = norm
        self._skipped += skipped

    def read(self) -> Reading:
        """Copy the sums to the host and reset them; all ranks must take part."""
        loss, skipped = self._loss, self._skipped
        if self._reduce is not None:
            loss = self._reduce(loss.clone())
        numbers = torch.stack([x.to(self._dtype) for x in (loss, self._count, skipped, self._norm)]).tolist()
        now = time.perf_counter()
        seconds = now - self._begun - self._paused
        tokens = int(numbers[1])
        self.tokens += tokens
        self._loss.zero_()
        self._count.zero_()
        self._skipped.zero_()
        self._begun, self._paused = now, 0.0
        mean = numbers[0] / tokens if tokens else float("nan")
        return Reading(mean, numbers[3], self.tokens, int(numbers[2]), seconds, tokens)

    def total_tokens(self) -> int:
        """Tokens trained on in the run so far, all ranks; synchronizes with the device."""
        return self.tokens + int(self._count)

    def state(self) -> dict[str, float]:
        """The sums, for a checkpoint; all ranks must take part."""
        loss = self._loss if self._reduce is None else self._reduce(self._loss.clone())
        seconds = time.perf_counter() - self._begun - self._paused
        return {"tokens": self.tokens, "loss": float(loss), "count": int(self._count), "seconds": seconds}

    def restore(self, state: dict[str, float], main: bool) -> None:
        """Load `state`; the sum of losses on the main rank alone, as reading sums over ranks."""
        self.tokens = int(state["tokens"])
        self._loss.fill_(state["loss"] if main else 0.0)
        self._count.fill_(int(state["count"]))
        self._elapsed = state.get("seconds", 0.0)

    @property
    def unhealthy(self) -> bool:
        """Whether a step was skipped since the last read; synchronizes with the device."""
        return bool(self._skipped)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time inside from the training time."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self._paused += time.perf_counter() - before
