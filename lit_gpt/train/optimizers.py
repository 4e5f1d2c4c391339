"""Parameter groups with their own learning rate and weight decay, and fused optimizers."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

from lit_gpt.errors import UserError

Groups = dict[str, dict[str, float]]

KINDS = ("matrices", "embeddings", "vectors")
# Gains of norms and biases are vectors. Weight decay would shrink embeddings of rare tokens, which get no gradient.
DEFAULT_GROUPS: Groups = {"embeddings": {"weight_decay": 0.0}, "vectors": {"weight_decay": 0.0}}


def kinds_of(module: nn.Module) -> dict[str, str]:
    """The kind of each parameter, by name: matrices, embeddings or vectors.

    An embedding that is tied to the head is a matrix: all its rows get a gradient at every step.
    """
    tables = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
    heads = {id(part.weight) for part in module.modules() if isinstance(part, nn.Linear)}
    kinds = {}
    for name, parameter in module.named_parameters():
        if id(parameter) in tables and id(parameter) not in heads:
            kinds[name] = "embeddings"
        else:
            kinds[name] = "matrices" if parameter.ndim >= 2 else "vectors"
    return kinds


def parameter_groups(module: nn.Module, table: Groups | None = None) -> list[dict[str, Any]]:
    """Parameter groups of an optimizer, each with `lr_factor` and, where the table sets it, `weight_decay`.

    The table extends the default one, which decays matrices alone. Its keys are a kind (matrices, embeddings, vectors)
    or a glob over parameter names such as `net.blocks.0.*`; later entries override earlier ones. Of the values `lr`
    multiplies the optimizer's learning rate, `weight_decay` replaces its weight decay. With
    `{embeddings: {weight_decay: 0.1}}` all matrices are decayed, as in nanoGPT. Frozen parameters are in no group.

    Raises:
        UserError: A key matches no parameter, or a value is neither lr nor weight_decay.
    """
    kinds = kinds_of(module)
    for pattern, settings in (table or {}).items():
        if unknown := settings.keys() - {"lr", "weight_decay"}:
            raise UserError(f"param_groups: {pattern!r} sets {sorted(unknown)[0]!r}; a group sets lr or weight_decay")
        for key, value in settings.items():
            if value < 0:
                raise UserError(f"param_groups: {key} of {pattern!r} is {value}; give 0 or more")
        if pattern not in KINDS and not any(fnmatchcase(name, pattern) for name in kinds):
            raise UserError(
                f"param_groups: {pattern!r} matches no parameter; give {', '.join(KINDS)} or a glob over names such as "
                f"{next(iter(kinds))!r}"
            )
    rules = [*DEFAULT_GROUPS.items(), *(table or {}).items()]
    gathered: dict[tuple[float, float | None], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        chosen: dict[str, float] = {}
        for pattern, settings in rules:
            if kinds[name] == pattern if pattern in KINDS else fnmatchcase(name, pattern):
                chosen |= settings
        gathered.setdefault((chosen.get("lr", 1.0), chosen.get("weight_decay")), []).append(parameter)
    if not gathered:
        raise UserError("no parameter is left to train: all are frozen")
    groups = []
    for (factor, decay), parameters in gathered.items():
        group: dict[str, Any] = {"params": parameters, "lr_factor": factor}
        groups.append(group if decay is None else group | {"weight_decay": decay})
    return groups


def apply_factors(optimizer: Optimizer) -> None:
    """Multiply the learning rate of each group by its `lr_factor`; before the schedule takes them as peaks."""
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * group.get("lr_factor", 1.0)


def prefer_fused(optimizer: Optimizer) -> None:
    """Switch an optimizer to its fused kernel where there is one, unless the user has set `fused` or `foreach`."""
    groups = optimizer.param_groups
    undecided = all("fused" in g and g["fused"] is None and not g.get("foreach") for g in groups)
    if not undecided or any(g.get("differentiable") for g in groups):
        return
    if not all(p.is_floating_point() and p.device.type in _FUSED_DEVICES for p in trained(optimizer)):
        return
    optimizer.defaults["fused"] = True
    for group in groups:
        group["fused"] = True
    optimizer._step_supports_amp_scaling = True  # type: ignore[attr-defined]  # as the constructor does for fused=True


def trained(optimizer: Optimizer) -> Iterable[nn.Parameter]:
    """All parameters of an optimizer."""
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


_FUSED_DEVICES = ("cpu", "cuda", "xpu", "mps")
