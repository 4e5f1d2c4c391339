"""Logits processors against those of transformers, an independent reference, and against their own definitions."""

import math

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lit_gpt.generate.logits_processors import (
    LogitsProcessor,
    MinP,
    RepetitionPenalty,
    SuppressTokens,
    Temperature,
    TopK,
    TopP,
    build_logits_processors,
)


def examples(seed: int, rows: int = 3, vocabulary: int = 1500, tokens: int = 12) -> tuple[Tensor, Tensor]:
    """Logits of three sharpnesses and ids with repetitions."""
    random = torch.Generator().manual_seed(seed)
    sharpness = torch.tensor([0.3, 2.0, 6.0])[:rows, None]
    logits = torch.randn(rows, vocabulary, generator=random) * sharpness
    return logits, torch.randint(0, vocabulary // 50, (rows, tokens), generator=random)


REFERENCES = [
    (Temperature(0.7), transformers.TemperatureLogitsWarper(0.7)),
    (Temperature(1.9), transformers.TemperatureLogitsWarper(1.9)),
    (TopK(1), transformers.TopKLogitsWarper(1)),
    (TopK(50), transformers.TopKLogitsWarper(50)),
    (TopK(5000), transformers.TopKLogitsWarper(5000)),
    (TopP(0.1), transformers.TopPLogitsWarper(0.1)),
    (TopP(0.9), transformers.TopPLogitsWarper(0.9)),
    (TopP(0.999), transformers.TopPLogitsWarper(0.999)),
    (TopP(1.0), transformers.TopPLogitsWarper(1.0)),
    (MinP(0.0), transformers.MinPLogitsWarper(0.0)),
    (MinP(0.05), transformers.MinPLogitsWarper(0.05)),
    (MinP(0.7), transformers.MinPLogitsWarper(0.7)),
    (RepetitionPenalty(1.3), transformers.RepetitionPenaltyLogitsProcessor(1.3)),
    (RepetitionPenalty(0.8), transformers.RepetitionPenaltyLogitsProcessor(0.8)),
]


@pytest.mark.parametrize(("processor", "reference"), REFERENCES, ids=lambda processor: type(processor).__name__)
def test_each_rule_equals_transformers(processor: LogitsProcessor, reference: transformers.LogitsProcessor) -> None:
    for seed in range(5):
        logits, ids = examples(seed)
        before = logits.clone()
        ours = processor(logits, ids)
        assert torch.equal(logits, before), "the processor wrote into its argument"
        torch.testing.assert_close(ours, reference(ids, logits.clone()), rtol=1e-6, atol=1e-6)


def test_the_usual_rules_together_equal_transformers_own_order() -> None:
    settings_ = {"temperature": 0.8, "top_k": 40, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.2}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=64, n_embd=8, n_layer=1, n_head=1))
    config = transformers.GenerationConfig(do_sample=True, **settings_)
    theirs = model._get_logits_processor(config, input_ids_seq_length=12)
    assert len(theirs) == 5
    for seed in range(5):
        logits, ids = examples(seed)
        ours = logits
        for processor in build_logits_processors(**settings_):
            ours = processor(ours, ids)
        torch.testing.assert_close(ours, theirs(ids, logits.clone()), rtol=1e-6, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.floats(0.01, 0.999), st.integers(2, 3000))
def test_the_nucleus_is_the_smallest_that_reaches_p(seed: int, top_p: float, vocabulary: int) -> None:
    logits = torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    kept = TopP(top_p)(logits, torch.zeros(1, 1, dtype=torch.int64))[0].isfinite()
    probabilities = logits[0].softmax(0)
    assert probabilities[kept].sum() >= top_p - 1e-12
    assert probabilities[kept].sum() - probabilities[kept].min() < top_p + 1e-12
    assert not (~kept).any() or probabilities[kept].min() >= probabilities[~kept].max()


def test_top_k_keeps_exactly_k_where_logits_tie() -> None:
    assert TopK(3)(torch.zeros(2, 10), torch.zeros(2, 1)).isfinite().sum(-1).tolist() == [3, 3]


def test_top_p_after_top_k_looks_at_what_is_left_only() -> None:
    logits, ids = examples(0)
    left = TopP(0.9)(TopK(4)(logits, ids), ids)
    assert (left.isfinite().sum(-1) <= 4).all() and (left.isfinite().sum(-1) >= 1).all()


def test_the_penalty_passes_over_the_filling_of_shorter_rows() -> None:
    logits, ids = examples(1)
    filled = ids.clone()
    filled[1, :7] = -1
    ours = RepetitionPenalty(1.5)(logits, filled)
    assert torch.equal(ours[0], RepetitionPenalty(1.5)(logits[:1], ids[:1])[0])
    assert torch.equal(ours[1], RepetitionPenalty(1.5)(logits[1:2], ids[1:2, 7:])[0])


def test_temperature_zero_leaves_the_likeliest() -> None:
    logits, ids = examples(2)
    cold = Temperature(0)(logits, ids)
    assert cold.isfinite().sum(-1).tolist() == [1, 1, 1]
    assert torch.equal(cold.argmax(-1), logits.argmax(-1))


def test_forbid_rules_out_and_nothing_else() -> None:
    logits, ids = examples(3)
    left = SuppressTokens([3, 3, 1499])(logits, ids)
    assert left[:, [3, 1499]].eq(-math.inf).all() and left.isfinite().sum() == 3 * 1498
    assert SuppressTokens()(logits, ids) is logits
    with pytest.raises(ValueError, match="ids holds 1500; the vocabulary ends at 1499"):
        SuppressTokens([1500])(logits, ids)


def test_temperature_zero_means_no_rule_samples() -> None:
    assert build_logits_processors(temperature=0, top_k=5, top_p=0.5, min_p=0.1) == []
    (processor,) = build_logits_processors(temperature=0, repetition_penalty=1.3)
    assert isinstance(processor, RepetitionPenalty) and not processor.samples
    assert [type(processor) for processor in build_logits_processors()] == [Temperature]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1), ("temperature", math.nan), ("temperature", math.inf),
        ("top_k", 0), ("top_k", -5), ("top_k", 2.5), ("top_k", True),
        ("top_p", 0.0), ("top_p", 1.1), ("top_p", math.nan),
        ("min_p", -0.1), ("min_p", 1.5), ("min_p", math.nan),
        ("repetition_penalty", 0.0), ("repetition_penalty", -1.0), ("repetition_penalty", math.nan),
    ],
)  # fmt: skip
def test_bad_values_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} is {value}; give "):
        build_logits_processors(**{name: value})
    if name != "temperature":  # also where greedy would not use them
        with pytest.raises(ValueError, match=f"^{name} is {value}; give "):
            build_logits_processors(**{"temperature": 0, name: value})
