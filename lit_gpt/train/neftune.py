"""NEFTune: noise on the token embeddings in fine-tuning. Letters: B batch, T tokens, C width."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn

from lit_gpt.errors import UserError
from lit_gpt.nn.loss import IGNORE
from lit_gpt.train.lean_callback import LeanCallback


class NEFTune(LeanCallback):
    """Adds noise to the token embeddings in training, for instruction fine-tuning (Jain et al. 2023, arXiv:2310.05914).

    Uniform from -1 to 1, times alpha / sqrt(L C), where L is the length of the token's segment, or of its row up to
    the last target. Sampled from the random state that checkpoints keep, as dropout is.

    Args:
        alpha: Scale of the noise; 5, 10 and 15 in the paper.
    """

    def __init__(self, alpha: float = 5.0) -> None:
        if alpha <= 0:
            raise UserError(f"alpha {alpha} of NEFTune is not positive; remove the callback for no noise")
        self.alpha = alpha
        self._scale: Tensor | None = None  # (B, T, 1) or (B, 1, 1), of the current batch
        self._hook: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Not later: a compiled net ignores hooks that are registered afterwards.
        if stage == "fit" and self._hook is None:
            embedding: nn.Module = pl_module.net.embedding  # type: ignore[assignment,union-attr]
            self._hook = embedding.register_forward_hook(self._add)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        width: int = pl_module.net.embedding.embedding_dim  # type: ignore[assignment,union-attr]
        self._scale = self.alpha * (text_lengths(batch.targets, batch.segments) * width).rsqrt()[..., None]

    def _add(self, module: nn.Module, ids: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
        if not module.training or self._scale is None:
            return embedded
        return embedded + (2.0 * torch.rand_like(embedded) - 1.0) * self._scale.to(embedded.dtype)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._scale = None


def text_lengths(targets: Tensor, segments: Tensor | None) -> Tensor:
    """Tokens of each row up to its last target, or of each token's segment: (B, T) -> (B, 1) or (B, T) float."""
    if segments is None:
        places = torch.arange(1, targets.shape[1] + 1, device=targets.device)
        return ((targets != IGNORE) * places).amax(1, keepdim=True).clamp(min=1).float()
    number = torch.zeros_like(segments)
    number[:, 1:] = (segments[:, 1:] != segments[:, :-1]).cumsum(1)
    return torch.zeros_like(segments).scatter_add(1, number, torch.ones_like(segments)).gather(1, number).float()
