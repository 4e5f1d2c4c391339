"""The chunked loss against torch's own on whole logits, in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_gpt.nn import linear_cross_entropy, score_tokens


def reference(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, softcap: float | None, s: float):
    logits = hidden @ weight.T
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return F.cross_entropy(logits, targets, reduction="sum", label_smoothing=s)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 40),
    vocabulary=st.integers(2, 30),
    chunk=st.integers(1, 300),
    softcap=st.sampled_from([None, 0.7, 15.0]),
    smoothing=st.sampled_from([0.0, 0.1, 0.9]),
    seed=st.integers(0, 99),
)
def test_chunked_cross_entropy_equals_torch(
    rows: int, vocabulary: int, chunk: int, softcap: float | None, smoothing: float, seed: int
) -> None:
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, 6, dtype=torch.float64, generator=g, requires_grad=True)
    weight = torch.randn(vocabulary, 6, dtype=torch.float64, generator=g, requires_grad=True)
    targets = torch.randint(vocabulary, (rows,), generator=g)
    targets[torch.rand(rows, generator=g) < 0.3] = -100
    loss = linear_cross_entropy(hidden, weight, targets, softcap, smoothing, chunk_elements=chunk)
    expected = reference(hidden, weight, targets, softcap, smoothing)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    got = torch.autograd.grad(loss * 0.37, (hidden, weight))
    want = torch.autograd.grad(expected * 0.37, (hidden, weight))
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("chunk", [50, 10**6])
def test_chunked_cross_entropy_under_bf16_autocast(chunk: int) -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(64, 32, requires_grad=True), torch.randn(50, 32, requires_grad=True)
    targets = torch.randint(50, (64,))
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, targets, chunk_elements=chunk)
    loss.backward()
    exact = [t.detach().requires_grad_() for t in (hidden, weight)]
    reference(*exact, targets, None, 0.0).backward()
    assert loss.dtype == torch.float32 and weight.grad.dtype == torch.float32
    for mine, its in zip((hidden, weight), exact, strict=True):
        assert (mine.grad - its.grad).norm() / its.grad.norm() < 0.02  # bf16 has 8 bits


def test_many_rows_of_few_words_do_not_overflow_in_float16() -> None:
    hidden = torch.full((70_000, 4), 3.0, requires_grad=True)
    weight = torch.zeros(256, 4, requires_grad=True)
    with torch.autocast("cpu", torch.float16):
        loss = linear_cross_entropy(hidden, weight, torch.zeros(70_000, dtype=torch.long))
    loss.backward()
    torch.testing.assert_close(weight.grad[0], torch.full((4,), -3.0 * 70_000 * 255 / 256), rtol=2e-3, atol=0)


def test_many_chunks_in_bf16_sum_as_exactly_as_one() -> None:
    torch.manual_seed(0)
    targets = torch.randint(100, (4096,))
    weight = torch.randn(100, 32, dtype=torch.bfloat16, requires_grad=True)
    hidden = torch.randn(4096, 32, dtype=torch.bfloat16)
    exact = weight.detach().double().requires_grad_()
    reference(hidden.double(), exact, targets, None, 0.0).backward()
    linear_cross_entropy(hidden, weight, targets, chunk_elements=800).backward()  # 512 chunks
    assert weight.grad.dtype == torch.bfloat16
    assert (weight.grad - exact.grad).norm() / exact.grad.norm() < 0.005  # 0.028 when summed in bf16


@pytest.mark.parametrize("chunk", [37, 10**6])
def test_score_tokens_gives_losses_and_hits(chunk: int) -> None:
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(40, 8), torch.randn(30, 8), torch.randint(30, (40,))
    targets[5] = -100
    losses, correct = score_tokens(hidden, weight, targets, 15.0, chunk_elements=chunk)
    logits = 15 * torch.tanh(hidden @ weight.T / 15)
    torch.testing.assert_close(losses, F.cross_entropy(logits, targets, reduction="none"))
    assert torch.equal(correct, logits.argmax(-1) == targets)
    assert losses[5] == 0 and not correct[5]


def test_logits_of_a_batch_are_never_held_at_once() -> None:
    """8,192 rows of 10,000 words are 328 MB of logits; the largest tensor made must be one chunk of 4 MB."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for t in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(t, torch.Tensor):
                    largest = max(largest, t.numel())
            return out

    hidden, weight = torch.randn(8192, 4, requires_grad=True), torch.randn(10_000, 4, requires_grad=True)
    with Watch():
        linear_cross_entropy(hidden, weight, torch.zeros(8192, dtype=torch.long), chunk_elements=10**6).backward()
    assert largest <= 10**6
