"""Norms against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from rounding import assert_only_rounded

from lit_gpt.nn import LayerNorm, RMSNorm, Sizes

SIZES = Sizes(width=12, heads=2, depth=1, context=4, vocab_size=5)


@pytest.mark.parametrize("affine", [True, False])
def test_rms_norm_equals_torchs(affine: bool) -> None:
    norm = RMSNorm(SIZES, eps=1e-3, affine=affine).double()
    x = torch.randn(3, 5, 12, dtype=torch.float64, requires_grad=True)
    if affine:
        torch.nn.init.normal_(norm.weight)
    expected = F.rms_norm(x, (12,), norm.weight, 1e-3)
    torch.testing.assert_close(norm(x), expected, rtol=0, atol=1e-14)
    inputs = (x, norm.weight) if affine else (x,)
    got, want = (torch.autograd.grad(y.cos().sum(), inputs) for y in (norm(x), expected))
    torch.testing.assert_close(got, want, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_centered_rms_norm_equals_gemmas(dtype: torch.dtype) -> None:
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm

    norm, theirs = RMSNorm(SIZES, eps=1e-3, center=1.0).to(dtype), GemmaRMSNorm(12, eps=1e-3).to(dtype)
    assert torch.equal(norm.weight, theirs.weight)  # zeros
    torch.nn.init.normal_(norm.weight, std=0.01)
    theirs.weight.data.copy_(norm.weight)
    x = torch.randn(3, 5, 12, dtype=dtype)
    assert norm(x).dtype == theirs(x).dtype == dtype
    if dtype == torch.bfloat16:  # may round to the next number
        torch.testing.assert_close(norm(x), theirs(x), rtol=2**-7, atol=1e-6)
    else:  # theirs computes in float32
        assert_only_rounded(theirs(x).float(), norm(x), depth=1, width=12)


def test_a_center_is_the_same_norm_with_another_weight() -> None:
    plain, centered = RMSNorm(SIZES).double(), RMSNorm(SIZES, center=0.75).double()
    x = torch.randn(3, 12, dtype=torch.float64)
    assert torch.equal(centered.weight, torch.full((12,), 0.25, dtype=torch.float64))
    torch.testing.assert_close(plain(x), centered(x), rtol=0, atol=1e-15)
    torch.nn.init.normal_(centered.weight)
    plain.weight.data.copy_(centered.weight + 0.75)
    torch.testing.assert_close(plain(x), centered(x), rtol=0, atol=1e-14)
    centered.reset_parameters()
    assert (centered.weight == 0.25).all()
    assert torch.equal(RMSNorm(SIZES, affine=False, center=1.0)(x), RMSNorm(SIZES, affine=False)(x))
    with pytest.raises(ValueError, match="center must be a number, got nan"):
        RMSNorm(SIZES, center=float("nan"))


def test_rms_norm_of_zeros_is_zeros_with_a_finite_gradient() -> None:
    x = torch.zeros(2, 12, requires_grad=True)
    y = RMSNorm(SIZES)(x)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 12)) and x.grad.isfinite().all()


def test_sixteen_bit_inputs_are_summed_in_float32() -> None:
    x = torch.randn(4, 12).bfloat16()
    expected = F.rms_norm(x.float(), (12,), None, 1e-5)
    torch.testing.assert_close(RMSNorm(SIZES, affine=False)(x).float(), expected, rtol=2**-7, atol=1e-3)


def test_layer_norm_bias_is_optional() -> None:
    assert LayerNorm(SIZES).bias is None and LayerNorm(SIZES, affine=False).weight is None
    assert LayerNorm(SIZES, bias=True).bias.shape == (12,)
