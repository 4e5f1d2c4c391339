"""Parameter groups from a table, and one division, clip and skip in the optimizer's own kernel."""

import pytest
import torch

from lit_gpt.errors import UserError
from lit_gpt.model import GPT
from lit_gpt.train.gradients import finish_gradients
from lit_gpt.train.optimizers import apply_factors, kinds_of, parameter_groups, prefer_fused


def net(tie_embeddings: bool = True) -> GPT:
    return GPT(32, width=16, depth=2, heads=2, context=8, tie_embeddings=tie_embeddings, seed=0)


def decay_of(model: GPT, table: dict[str, dict[str, float]] | None = None) -> dict[str, float]:
    optimizer = torch.optim.AdamW(parameter_groups(model, table), lr=1e-3, weight_decay=0.1)
    by_id = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    return {name: by_id[id(p)] for name, p in model.named_parameters()}


def test_default_decays_matrices_but_not_tables_norms_and_biases() -> None:
    decay = decay_of(net(tie_embeddings=False))
    assert decay["head.weight"] == 0.1
    assert decay["embedding.weight"] == 0.0
    assert all(d == 0.1 for n, d in decay.items() if "blocks" in n and "norm" not in n)
    assert all(d == 0.0 for n, d in decay.items() if "norm" in n)
    assert any("norm" in n for n in decay)
    assert decay["positions.0.table.weight"] == 0.0


def test_a_tied_matrix_counts_as_the_head() -> None:
    assert kinds_of(net(tie_embeddings=True))["embedding.weight"] == "matrices"
    assert kinds_of(net(tie_embeddings=False))["embedding.weight"] == "embeddings"


def test_all_matrices_decayed_as_nanogpt_does() -> None:
    model = net(tie_embeddings=False)
    decay = decay_of(model, {"embeddings": {"weight_decay": 0.1}})
    for name, parameter in model.named_parameters():
        assert decay[name] == (0.1 if parameter.ndim >= 2 else 0.0)


def test_globs_factors_and_the_last_line_wins() -> None:
    model = net()
    table = {"blocks.*": {"lr": 0.5}, "blocks.1.*": {"lr": 2.0, "weight_decay": 0.3}}
    optimizer = torch.optim.AdamW(parameter_groups(model, table), lr=1e-3, weight_decay=0.1)
    apply_factors(optimizer)
    rate = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        factor = 2.0 if name.startswith("blocks.1.") else 0.5 if name.startswith("blocks.") else 1.0
        assert rate[id(parameter)] == pytest.approx(1e-3 * factor)
    assert set(decay_of(model, table).values()) == {0.0, 0.1, 0.3}


def test_every_trained_parameter_is_in_exactly_one_group() -> None:
    model = net()
    model.blocks[0].requires_grad_(False)
    grouped = [id(p) for g in parameter_groups(model, {"blocks.1.*": {"lr": 2.0}}) for p in g["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"bloks.*": {"lr": 1.0}}, "matches no parameter"),
        ({"matrices": {"decay": 1.0}}, "sets 'decay'"),
        ({"matrices": {"lr": -1.0}}, "lr of 'matrices' is -1.0"),
    ],
)
def test_mistakes_in_the_table_are_named(table: dict[str, dict[str, float]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        parameter_groups(net(), table)


def test_fused_unless_the_user_said_otherwise() -> None:
    def of(**options: object) -> torch.optim.Optimizer:
        optimizer = torch.optim.AdamW(net().parameters(), **options)  # type: ignore[arg-type]
        prefer_fused(optimizer)
        return optimizer

    assert of().param_groups[0]["fused"] is True
    assert of(fused=False).param_groups[0]["fused"] is False
    assert of(foreach=True).param_groups[0]["fused"] is None
    plain = torch.optim.Rprop(net().parameters())
    prefer_fused(plain)
    assert "fused" not in plain.param_groups[0]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("clip", "by_value"), [(None, False), (0.5, False), (100.0, False), (0.01, True)])
def test_one_step_equals_dividing_and_clipping_by_hand(fused: bool, clip: float | None, by_value: bool) -> None:
    torch.manual_seed(0)
    start = [torch.randn(5, 3), torch.randn(7)]
    sums = [torch.randn(5, 3) * 100, torch.randn(7) * 100]
    divisor = torch.tensor(37.0)

    def stepped(ours: bool) -> tuple[list[torch.Tensor], float]:
        parameters = [torch.nn.Parameter(p.clone()) for p in start]
        optimizer = torch.optim.AdamW(parameters, lr=0.1, fused=fused)
        for _ in range(2):
            for p, g in zip(parameters, sums, strict=True):
                p.grad = g.clone() if ours else g / divisor
            norm = torch.cat([(g / divisor).flatten() for g in sums]).norm()
            if ours:
                norm, skipped = finish_gradients(optimizer, divisor, clip, by_value)
                assert skipped == 0
            elif clip is not None and by_value:
                torch.nn.utils.clip_grad_value_(parameters, clip)
            elif clip is not None:
                torch.nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
        return [p.detach() for p in parameters], float(norm)

    (got, norm), (wanted, true_norm) = stepped(True), stepped(False)
    assert norm == pytest.approx(true_norm, rel=1e-6)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("fused", [True, False])
def test_a_gradient_that_is_not_finite_changes_nothing(fused: bool) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, fused=fused)
    for gradient, moves in ([1.0, 1.0, 1.0], True), ([1.0, float("nan"), 1.0], False), ([1.0, 1.0, 1.0], True):
        before, state = parameter.detach().clone(), optimizer.state_dict()["state"]
        steps = float(state[0]["step"]) if state else 0.0
        parameter.grad = torch.tensor(gradient)
        _, skipped = finish_gradients(optimizer, torch.tensor(1.0), 1.0)
        optimizer.step()
        assert bool(skipped) is not moves
        assert torch.equal(before, parameter) is not moves
        assert float(optimizer.state_dict()["state"][0]["step"]) == steps + moves
        assert torch.isfinite(parameter).all()


@pytest.mark.parametrize("by_value", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_an_overflow_under_a_loss_scale_is_still_found_after_clipping(fused: bool, by_value: bool) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    for gradient, moves in ([1.0, 2.0, 3.0], True), ([1.0, float("inf"), 1.0], False):
        before = parameter.detach().clone()
        scaler.scale(torch.tensor(1.0))  # makes the scale, as a loss does
        parameter.grad = torch.tensor(gradient) * 8.0
        if not fused:
            scaler.unscale_(optimizer)
        finish_gradients(optimizer, torch.tensor(2.0), 0.5, by_value, scaler._get_scale_async() if fused else None)
        if moves and by_value:
            wanted = torch.full((3,), 0.5) * (8.0 if fused else 1.0)
            torch.testing.assert_close(parameter.grad, wanted)
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(before, parameter) is not moves
        assert torch.isfinite(parameter).all()
    assert scaler.get_scale() == 4.0
