"""Fingerprints of text and tokenizer, compared when a run resumes."""

from collections.abc import Mapping
from typing import Any

from lit_gpt.data.progress import say
from lit_gpt.errors import UserError

_NAMES = {"train": "training text", "val": "validation text"}


def fingerprints(data: Any) -> dict[str, Any]:
    """What changes whenever an id of the training or validation text, or the tokenizer, does; of a TokenData."""
    text = {split: data.corpus(split).fingerprint for split in _NAMES}
    return {"tokenizer": data.tokenizer.fingerprint(), "text": text}


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, named as a user knows it, with the beginnings of both fingerprints.

    Args:
        before: `fingerprints` of a checkpoint; what an earlier version did not write is no difference.
        now: Those of the data at hand.
    """
    old = before.get("text", {})
    pairs = [(name, old.get(split), now["text"].get(split)) for split, name in _NAMES.items()]
    pairs.append(("tokenizer", before.get("tokenizer"), now["tokenizer"]))
    return [f"{name} ({a[:8]} to {b[:8]})" for name, a, b in pairs if a is not None and b is not None and a != b]


def refuse_changes(data: Any, before: Mapping[str, Any], speak: bool = True) -> None:
    """Refuses to train on with other text than a run was trained on, unless `data.allow_changed_text`; then it is said.

    Args:
        data: A TokenData.
        before: `fingerprints` of the run's checkpoint.
        speak: Whether a difference that is allowed is said.

    Raises:
        UserError: naming each text that differs, and what would do.
    """
    changed = ", ".join(changes(before, fingerprints(data)))
    if changed and not data.allow_changed_text:
        raise UserError(
            f"the text is not what this run was trained on so far: changed {changed}; give it as it was, start a new "
            "run with --model.init_from, or go on with what there is now by --data.allow_changed_text true"
        )
    if changed and speak and (data.trainer is None or data.trainer.is_global_zero):
        say(f"this resume is not exact: the text is not what the run was trained on so far: changed {changed}")
