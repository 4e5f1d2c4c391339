"""Limits of numeric values: numbers out of range, NaN and infinity are refused by name before anything is built.

Limits of the trainer's and the optimizers' arguments, which their own classes check late or not at all. What a class of
this package checks itself is not repeated here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lit_gpt.config.class_paths import locate
from lit_gpt.errors import UserError


@dataclass(frozen=True)
class Limit:
    """What a number may be.

    Args:
        least: The lowest value.
        most: The highest one.
        above: Whether `least` itself is too low.
        below: Whether `most` itself is too high.
        also: Further values, such as Lightning's -1 for no end.
        share: A number with a fraction may be at most 1: it is a share, where a whole number is a count.
    """

    least: float = 0
    most: float = math.inf
    above: bool = False
    below: bool = False
    also: tuple[float, ...] = ()
    share: bool = False

    def allows(self, value: float) -> bool:
        """Whether a finite number is within."""
        if value in self.also:
            return True
        low = value > self.least if self.above else value >= self.least
        high = value < self.most if self.below else value <= self.most
        return low and high and not (self.share and isinstance(value, float) and value > 1)

    def __str__(self) -> str:
        low = f"above {self.least:g}" if self.above else f"of at least {self.least:g}"
        high = f" and {'below' if self.below else 'at most'} {self.most:g}" if self.most < math.inf else ""
        share = ", or a share of at most 1.0" if self.share else ""
        also = "".join(f", or {value:g}" for value in self.also)
        return f"a number {low}{high}{share}{also}"


NOT_NEGATIVE, POSITIVE, COUNT = Limit(), Limit(above=True), Limit(1)
FRACTION, PROBABILITY = Limit(0, 1, below=True), Limit(0, 1)

#: By `section.key`, or by the argument of a class of this package or of torch; of lists and dicts each value counts.
LIMITS: dict[str, Limit] = {
    "seed_everything": Limit(0, 2**32 - 1),
    "trainer.num_nodes": COUNT,
    "trainer.max_epochs": Limit(1, also=(-1,)),
    "trainer.min_epochs": NOT_NEGATIVE,
    "trainer.max_steps": Limit(1, also=(-1,)),
    "trainer.min_steps": NOT_NEGATIVE,
    "trainer.fast_dev_run": NOT_NEGATIVE,
    "trainer.limit_train_batches": Limit(0, above=True, share=True),
    "trainer.limit_val_batches": Limit(share=True),
    "trainer.limit_test_batches": Limit(share=True),
    "trainer.limit_predict_batches": Limit(share=True),
    "trainer.overfit_batches": Limit(share=True),
    "trainer.val_check_interval": Limit(0, above=True, share=True),
    "trainer.check_val_every_n_epoch": COUNT,
    "trainer.num_sanity_val_steps": Limit(also=(-1,)),
    "trainer.log_every_n_steps": NOT_NEGATIVE,
    "trainer.accumulate_grad_batches": COUNT,
    "trainer.gradient_clip_val": NOT_NEGATIVE,
    "trainer.reload_dataloaders_every_n_epochs": NOT_NEGATIVE,
    "model.param_groups": NOT_NEGATIVE,
    "data.val_fraction": FRACTION,
    "data.test_fraction": FRACTION,
    "sample.max_new_tokens": NOT_NEGATIVE,
    # of optimizers
    "lr": NOT_NEGATIVE,
    "betas": FRACTION,
    "eps": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "momentum": NOT_NEGATIVE,
    "ns_steps": COUNT,
    # of objectives, initial weights, texts
    "label_smoothing": FRACTION,
    "base_std": NOT_NEGATIVE,
    "matrix_gain": NOT_NEGATIVE,
    "embedding_std": NOT_NEGATIVE,
    "head_std": NOT_NEGATIVE,
    "limit": COUNT,
    "train_chars": COUNT,
    "character_coverage": Limit(0, 1, above=True),
    "rate": PROBABILITY,
    "spm_rate": PROBABILITY,
    "stride": COUNT,
    "dropout": FRACTION,
    "scale": POSITIVE,
    "factor": POSITIVE,
    "low_freq_factor": POSITIVE,
    "high_freq_factor": POSITIVE,
    "original_context": COUNT,
    "beta_fast": POSITIVE,
    "beta_slow": POSITIVE,
    "mscale": NOT_NEGATIVE,
    "mscale_all_dim": NOT_NEGATIVE,
}


def check(values: Mapping[str, Any], sections: Mapping[str, type], where: Callable[[str], str]) -> None:
    """Refuses the first number that is out of range.

    Args:
        values: Settings as plain data, nested, with `class_path` and `init_args`.
        sections: The class whose arguments a section holds, by the section's name.
        where: Says of a dotted key where it was typed.

    Raises:
        UserError: naming the key, where it was typed, what it may be and what it is.
    """
    for section, cls in sections.items():
        if isinstance(values.get(section), Mapping):
            _arguments(values[section], cls, section, where)
    for key, value in values.items():
        if key not in sections:
            _value(value, key, LIMITS.get(key), where)


def _arguments(given: Mapping[str, Any], cls: Any, path: str, where: Callable[[str], str]) -> None:
    ours = str(getattr(cls, "__module__", "")).partition(".")[0] in ("lit_gpt", "torch")
    for name, value in given.items():
        key = f"{path}.{name}"
        _value(value, key, LIMITS.get(key, LIMITS.get(name) if ours else None), where)


def _value(value: Any, key: str, limit: Limit | None, where: Callable[[str], str]) -> None:
    if isinstance(value, Mapping) and "class_path" in value:
        _arguments(value.get("init_args") or {}, locate(str(value["class_path"])), key, where)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            _value(inner, f"{key}.{name}", limit, where)
    elif isinstance(value, list | tuple):
        for inner in value:
            _value(inner, key, limit, where)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise UserError(f"{where(key)}: expected {limit or 'a finite number'}, got {value}")
        if limit is not None and not limit.allows(value):
            raise UserError(f"{where(key)}: expected {limit}, got {value}")
