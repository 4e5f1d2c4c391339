"""Feed-forward layers against their formulas, and sizes that make them comparable."""

import pytest
import torch
import torch.nn.functional as F

from lit_gpt.nn import MLP, FeedForward, GeGLU, ReLUSquared, Sizes, SwiGLU

SIZES = Sizes(width=48, heads=2, depth=1, context=4, vocab_size=5)


def test_squared_relu_and_its_gradient() -> None:
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(ReLUSquared()(x), F.relu(x) ** 2, rtol=0, atol=0)
    assert torch.autograd.gradcheck(ReLUSquared(), x)


@pytest.mark.parametrize(("layer", "act"), [(SwiGLU, F.silu), (GeGLU, F.gelu)])
def test_gated_layers_equal_their_formulas(layer: type[FeedForward], act) -> None:
    made = layer(SIZES)
    x = torch.randn(2, 3, 48)
    for linear in (made.gate, made.up, made.down):
        torch.nn.init.normal_(linear.weight)
    expected = (act(x @ made.gate.weight.T) * (x @ made.up.weight.T)) @ made.down.weight.T
    y, aux = made(x)
    torch.testing.assert_close(y, expected)
    assert aux == 0.0


def test_gated_layers_have_as_many_parameters_as_the_mlp() -> None:
    def weights(layer: FeedForward) -> int:
        return sum(p.numel() for p in layer.parameters())

    assert weights(SwiGLU(SIZES)) == weights(MLP(SIZES))
    assert weights(SwiGLU(SIZES, hidden=10)) == 3 * 10 * 48
    with pytest.raises(ValueError, match="hidden must be at least 1"):
        MLP(SIZES, hidden=0)


@pytest.mark.parametrize("layer", [MLP, SwiGLU, GeGLU])
def test_invalid_ratio_is_refused(layer: type[FeedForward]) -> None:
    with pytest.raises(ValueError, match="ratio must be above 0"):
        layer(SIZES, ratio=0.0)
