"""From the sum of gradients to what the optimizer takes: one division, clipping, and the check that all is finite.

Knows gradients and the optimizer; does not know the model. With a fused optimizer no value is read back to the host
on a GPU; others can leave a step out only by being told, which waits for the device.
"""

import torch
from torch import Tensor
from torch.optim import Optimizer

from lit_gpt.train.optimizers import trained


def takes_scale(optimizer: Optimizer) -> bool:
    """Whether the optimizer's kernel divides by `grad_scale` and skips on `found_inf` (torch's fused ones do)."""
    return bool(getattr(optimizer, "_step_supports_amp_scaling", False))


def finish_gradients(
    optimizer: Optimizer,
    divisor: Tensor,
    clip: float | None = None,
    by_value: bool = False,
    loss_scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Divide the gradients, clip them, and have the step skipped where they are not finite.

    With a fused optimizer division, clipping by norm and skipping all happen inside its kernel.

    Args:
        optimizer: Its parameters' `.grad` hold the sums.
        divisor: Scalar that turns the sums into the mean over the scored tokens.
        clip: Bound on the norm or on each value after the division; None for none.
        by_value: Bound each value instead of the norm.
        loss_scale: The GradScaler's factor that is still in the gradients of a fused optimizer; it divides it out and
            skips overflowing steps itself.

    Returns:
        Norm of the divided gradients before clipping; 1.0 where the step is skipped, else 0.0. Scalars on the device.
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
            # An infinite value is bounded by now; the GradScaler, which looks later, must still find the overflow.
            torch._foreach_mul_(gradients, torch.where(skip.bool(), torch.full_like(loss_scale, torch.nan), loss_scale))
        scale = torch.ones_like(divisor)
    if takes_scale(optimizer):
        optimizer.grad_scale = scale  # type: ignore[attr-defined]
        if loss_scale is None:
            # On a CPU the value is at hand, and the kernel without the flag saves undoing the step counters.
            optimizer.found_inf = None if skip.is_cpu and not skip else skip  # type: ignore[attr-defined]
        return norm, skip
    if scale is divisor or (clip and not by_value):
        torch._foreach_div_(gradients, scale)
    if loss_scale is None and skip:  # other optimizers step only where there are gradients
        optimizer.zero_grad(set_to_none=True)
    return norm, skip
