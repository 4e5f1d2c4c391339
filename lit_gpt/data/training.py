"""What the data reads of a Lightning trainer: ranks, trained batches, limits. Does not import lightning."""

from typing import Any

import torch


def ranks(trainer: Any) -> tuple[int, int]:
    """Number of ranks that get different data, and which of them this is."""
    if trainer is not None:
        # Under tensor parallelism several processes share one batch: the strategy knows.
        kwargs = trainer.distributed_sampler_kwargs or {"num_replicas": 1, "rank": 0}
        return kwargs["num_replicas"], kwargs["rank"]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_world_size(), torch.distributed.get_rank()
    return 1, 0


def trained_batches(trainer: Any) -> int:
    """Batches of this rank that were trained on, in all epochs."""
    return 0 if trainer is None else int(trainer.fit_loop.epoch_loop.batch_progress.total.processed)


def limited_batches(whole: int, trainer: Any) -> int:
    """Batches of a rank in an epoch that has so many, as the trainer limits it."""
    limit = 1.0 if trainer is None else trainer.limit_train_batches
    return max(min(whole, limit) if isinstance(limit, int) else int(whole * limit), 1)


def batches_done(data: Any) -> tuple[int, int]:
    """Epoch, and batches of one process that a TokenData was trained on in it, in today's batch size (rounded up)."""
    epoch, slot = data.position()
    return epoch, -(-slot // data._epoch_shape().batch)


def set_batches_done(trainer: Any, done: int, ended: bool) -> None:
    """Tells a trainer that is within an epoch how many batches of it are done: it counted by another size of them.

    Args:
        trainer: That resumes.
        done: Batches of this rank.
        ended: They are all of the epoch.
    """
    progress = trainer.fit_loop.epoch_loop.batch_progress
    if not progress.current.processed:
        return
    more = done - progress.current.processed
    for name in ("ready", "started", "processed", "completed"):  # one that is behind the others stays so
        setattr(progress.current, name, getattr(progress.current, name) + more)
    progress.is_last_batch |= ended
