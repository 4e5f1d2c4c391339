"""Sizes of the whole net that a component may need to know: width, heads, depth, context, vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """What a part may need to know of the whole net; the one argument that every component's factory is called with."""

    width: int
    heads: int
    depth: int
    context: int
    vocab_size: int
    dropout: float = 0.0
    head_size: int = 0  # 0: width / heads; attention may choose another and the position is built with that one

    def replace(self, **changes: Any) -> Sizes:
        """The same sizes with some of them changed (a norm over one head has ``width=head_size``)."""
        return replace(self, **changes)
