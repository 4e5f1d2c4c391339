"""Gradient averaging over the tokens of a step, gradient clipping, and skipping of steps that are not finite.

With a fused optimizer no value is read back from a GPU; others can skip a step only by waiting for the device.
"""

import torch
from torch import Tensor
from torch.optim import Optimizer

from lit_gpt.train.optimizers import trained


def takes_scale(optimizer: Optimizer) -> bool:
    """Whether the optimizer divides by `grad_scale` and skips on `found_inf`, as torch's fused kernels do."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def finish_gradients(
    optimizer: Optimizer,
    divisor: Tensor,
    clip: float | None = None,
    by_value: bool = False,
    loss_scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Divide the gradients, clip them, and skip the step where they are not finite.

    With a fused optimizer division, clipping by norm and skipping happen inside its kernel.

    Args:
        optimizer: The gradients of its parameters are sums over tokens.
        divisor: Scalar that turns the sums into means over the tokens that are not masked.
        clip: Largest norm, or largest absolute value; None for no gradient clipping.
        by_value: Clip each value instead of the norm.
        loss_scale: Factor of the GradScaler that is still in the gradients of a fused optimizer, which divides it out
            and skips overflowing steps itself.

    Returns:
        Gradient norm before clipping, and 1.0 where the step is skipped, else 0.0; scalars on the device.
    """
    gradients = [p.grad for p in trained(optimizer) if p.grad is not None]
    if not gradients:
        return divisor.new_zeros(()), divisor.new_zeros(())
    norm = torch.nn.utils.get_total_norm(gradients, foreach=None)
    if hasattr(norm, "full_tensor"):  # sharded parameters
        norm = norm.full_tensor()
    norm = norm.float() / (divisor if loss_scale is None else divisor * loss_scale)
    skip = (~torch.isfinite(norm)).float()
    scale = divisor
    if clip and not by_value:
        scale = divisor / (clip / (norm + 1e-6)).clamp(max=1.0)
    if clip and by_value:
        torch._foreach_div_(gradients, divisor)
        if loss_scale is not None:
            torch._foreach_div_(gradients, loss_scale)
        torch._foreach_clamp_min_(gradients, -clip)
        torch._foreach_clamp_max_(gradients, clip)
        if loss_scale is not None:
            # Infinities are clamped by now; the GradScaler, which checks later, must still find the overflow.
            torch._foreach_mul_(gradients, torch.where(skip.bool(), torch.full_like(loss_scale, torch.nan), loss_scale))
        scale = torch.ones_like(divisor)
    if takes_scale(optimizer):
        optimizer.grad_scale = scale  # type: ignore[attr-defined]
        if loss_scale is None:
            # On a CPU the value is at hand; without the flag the kernel need not undo the step counters.
            optimizer.found_inf = None if skip.is_cpu and not skip else skip  # type: ignore[attr-defined]
        return norm, skip
    if scale is divisor or (clip and not by_value):
        torch._foreach_div_(gradients, scale)
    if loss_scale is None and skip:  # other optimizers step only where there are gradients
        optimizer.zero_grad(set_to_none=True)
    return norm, skip
