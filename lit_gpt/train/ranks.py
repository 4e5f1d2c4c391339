"""The rank of this process, as the strategy that will train has it.

Lightning's `rank_zero_only` takes it from the environment at import: a stale RANK or SLURM_PROCID would make a single
process rank 1, and no process would write its files.
"""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lit_gpt.errors import UserError

#: Options of the trainer that decide on which devices it trains and in how many processes.
PROCESSES = ("accelerator", "devices", "num_nodes", "strategy", "precision")


def is_first() -> bool:
    """Whether this process is rank 0, or the one that will start the others."""
    return not getattr(rank_zero_only, "rank", 0)


def settle_rank(options: Mapping[str, Any]) -> None:
    """Makes `is_first` and Lightning's `rank_zero_only` say what the trainer's strategy will.

    Args:
        options: Those of the trainer that are in PROCESSES; null or missing ones are Lightning's defaults.

    Raises:
        UserError: this machine cannot do what they ask for.
    """
    asked = {key: options[key] for key in PROCESSES if options.get(key) is not None}
    if not isinstance(asked.get("strategy", ""), str):
        # Made of a class, with arguments: which of several processes this is depends on their launcher alone.
        single = "SingleDevice" in str(asked["strategy"])
        asked["strategy"] = "auto" if single else "ddp"
    if not isinstance(asked.get("precision", ""), str | int):
        del asked["precision"]
    try:
        probe = Trainer(**asked, logger=False, enable_checkpointing=False)
    except (MisconfigurationException, TypeError, ValueError) as error:
        said = ", ".join(f"trainer.{key} {value}" for key, value in options.items() if value not in (None, "auto", 1))
        reason = str(error).split(". ")[0].rstrip(".!")
        raise UserError(f"this machine cannot do {said}: {reason}; leave them out to take what there is") from None
    rank_zero_only.rank = probe.global_rank  # type: ignore[attr-defined]
