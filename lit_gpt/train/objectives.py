"""Training objectives: next-token cross-entropy with a loss mask (targets of -100) and label smoothing.

Letters: B batch, T tokens, C width, V vocabulary, N = B T.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from lit_gpt.errors import UserError, not_implemented
from lit_gpt.model import GPT
from lit_gpt.nn import Sizes, linear_cross_entropy, score_tokens
from lit_gpt.nn.loss import IGNORE

if TYPE_CHECKING:
    from lit_gpt.data.module import Batch


class TokenScores(NamedTuple):
    """Loss and correctness of each target of a batch, from which the metrics are computed."""

    nats: Tensor  # (B, T) float, 0 where masked
    correct: Tensor  # (B, T) bool: the most likely token is the target
    targets: Tensor  # (B, T) int64, -100 where masked


class Objective(nn.Module):
    """Base of the objectives; may have parameters, such as the head of a task.

    Args:
        sizes: Sizes of the net.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()

    def forward(self, net: GPT, batch: Batch) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
        """Return ((sum of losses, number of tokens in it), parts of the sum by name).

        The part ``aux``, if any, is the auxiliary loss of the net, which is trained on and not logged as loss.
        """
        raise not_implemented(self, "forward")

    def evaluate(self, net: GPT, batch: Batch) -> TokenScores:
        """Score each target, without label smoothing or auxiliary losses."""
        targets = batch.targets

        def score(hidden: Tensor, weight: Tensor, softcap: float | None, aux: Tensor | float) -> TokenScores:
            nats, correct = score_tokens(hidden.flatten(0, 1), weight, targets.flatten(), softcap)
            return TokenScores(nats.view_as(targets), correct.view_as(targets), targets)

        return net(batch.inputs, segments=batch.segments, reduce=score)


class NextToken(Objective):
    """Cross-entropy of the next token in nats; auxiliary losses of the net count once per token.

    Args:
        sizes: Sizes of the net.
        label_smoothing: Probability that is spread uniformly over the vocabulary (Szegedy et al. 2015).
    """

    def __init__(self, sizes: Sizes, label_smoothing: float = 0.0) -> None:
        if not 0.0 <= label_smoothing < 1.0:
            raise UserError(f"NextToken: label_smoothing is {label_smoothing}; give a share from 0 to below 1")
        super().__init__(sizes)
        self.label_smoothing = label_smoothing

    def forward(self, net: GPT, batch: Batch) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
        targets, smoothing = batch.targets, self.label_smoothing
        count = (targets != IGNORE).sum()

        def loss(hidden: Tensor, weight: Tensor, softcap: float | None, aux: Tensor | float) -> tuple[Tensor, Any]:
            total = linear_cross_entropy(
                hidden.flatten(0, 1), weight, targets.flatten(), softcap=softcap, label_smoothing=smoothing
            )
            if not isinstance(aux, Tensor):
                return total, {}
            # A mean over tokens; times their number its weight does not depend on the size of the batches.
            added = aux * count
            return total + added, {"aux": added.detach()}

        total, parts = net(batch.inputs, segments=batch.segments, reduce=loss)
        return (total, count), parts
