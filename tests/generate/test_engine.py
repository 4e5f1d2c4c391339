"""The engine against a loop without cache, rows against rows alone, windows, stops, seeds, refusals."""

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_only_rounded
from torch import Tensor

from lit_gpt.errors import UserError
from lit_gpt.generate.engine import TokenBuffer, TokenSampler, generate, last_logits
from lit_gpt.generate.logits_processors import LogitsProcessor, Temperature, TopK
from lit_gpt.model import GPT
from lit_gpt.nn import ALiBi, Learned, NoPosition, RoPE, Sinusoidal
from lit_gpt.nn.attention import SelfAttention
from lit_gpt.nn.cache import Cache

POSITIONS = [Learned, RoPE, ALiBi, Sinusoidal, NoPosition]
PROMPTS = [[5, 1, 9, 30], [7], [3] * 11, [2, 40, 2, 40, 8, 8, 1]]


def small(position=Learned, context: int = 24, **options) -> GPT:
    """A random net whose logits lie far enough apart for greedy choices to be beyond rounding."""
    net = GPT(48, width=32, depth=2, heads=4, context=context, position=position, seed=1, **options)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return net


def plain_loop(net: GPT, prompt: Sequence[int], steps: int, limit: int | None) -> list[int]:
    """What the engine should say, one whole pass a token; a window that is outgrown goes on from its last half."""
    ids, begin = list(prompt), 0
    for _ in range(steps):
        if limit is not None and len(ids) - begin > limit:
            begin = len(ids) - limit // 2
        with torch.no_grad():
            ids.append(int(net(torch.tensor([ids[begin:]]))[0, -1].argmax()))
    return ids[len(prompt) :]


def rows_of(steps) -> list[list[int]]:
    """Each row's ids, the None of finished rows left out."""
    return [[id for id in row if id is not None] for row in zip(*steps, strict=True)]


class Watch(LogitsProcessor):
    """Notes the logits that logits_processors are shown."""

    samples = False

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def __call__(self, logits: Tensor, ids: Tensor) -> Tensor:
        self.seen.append(logits.clone())
        return logits


@pytest.mark.parametrize("position", POSITIONS)
def test_with_cache_as_without(position) -> None:
    net = small(position)
    for prompt in PROMPTS:
        assert rows_of([*generate(net, [prompt], max_new_tokens=13)]) == [plain_loop(net, prompt, 13, 24)]


@pytest.mark.parametrize("position", POSITIONS)
def test_goes_on_past_the_context(position) -> None:
    net = small(position)
    assert rows_of([*generate(net, [[5, 1, 9]], max_new_tokens=90)]) == [plain_loop(net, [5, 1, 9], 90, 24)]


@pytest.mark.parametrize("context", [1, 2, 3, 5])
def test_goes_on_past_tiny_contexts(context: int) -> None:
    net = small(context=context)
    assert len(rows_of([*generate(net, [[5]], max_new_tokens=9)])[0]) == 9


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("attention", [SelfAttention, lambda sizes: SelfAttention(sizes, kv_heads=2, window=5)])
def test_a_ragged_batch_is_each_row_alone(position, attention) -> None:
    net = small(position, attention=attention)
    together = Watch()
    batch = rows_of([*generate(net, PROMPTS, max_new_tokens=40, logits_processors=[together])])
    for row, prompt in enumerate(PROMPTS):
        alone = Watch()
        assert rows_of([*generate(net, [prompt], max_new_tokens=40, logits_processors=[alone])]) == [batch[row]]
        for ours, reference in zip(together.seen, alone.seen, strict=True):
            assert_only_rounded(ours[row], reference[0], depth=2, width=32)


@pytest.mark.parametrize("position", POSITIONS)
def test_sampled_rows_stay_the_same_when_neighbors_finish(position) -> None:
    net = small(position)
    free = rows_of([*generate(net, PROMPTS, max_new_tokens=50, logits_processors=[Temperature(2.0)], seed=3)])
    stop = free[2][6]
    stopped = [
        *generate(net, PROMPTS, max_new_tokens=50, logits_processors=[Temperature(2.0)], seed=3, stop_ids={stop})
    ]
    for row, ids in enumerate(rows_of(stopped)):
        end = free[row].index(stop) + 1 if stop in free[row] else 50
        assert ids == free[row][:end]
        assert [step[row] for step in stopped[end:]] == [None] * (len(stopped) - end)


def test_the_longest_row_leaves_and_the_others_outlast_its_columns() -> None:
    """The cache holds the padding of a row that is gone; learned positions must not run out for it."""
    net = small(Learned)
    prompts = [[9] * 23, [5, 1]]
    finished: set[int] = set()
    ids = []
    for step in generate(net, prompts, max_new_tokens=60, finished=finished):
        finished.add(0)
        ids.append(step[1])
    assert ids == plain_loop(net, [5, 1], 60, 24)


def test_rows_given_up_by_the_caller_are_dropped() -> None:
    finished: set[int] = set()
    steps = generate(small(), PROMPTS, max_new_tokens=10, finished=finished)
    first = next(steps)
    finished.update({0, 2})
    second = next(steps)
    assert None not in first and second[0] is second[2] is None and second[1] is not None
    finished.update({1, 3})
    assert [*steps] == []


def test_a_long_prompt_is_fed_whole_where_positions_go_on() -> None:
    net, prompt = small(RoPE), [*range(40)]
    assert rows_of([*generate(net, [prompt], max_new_tokens=20)]) == [plain_loop(net, prompt, 20, None)]


def test_a_narrower_window() -> None:
    net = small(RoPE)
    assert rows_of([*generate(net, [[5, 1]], max_new_tokens=30, window=8)]) == [plain_loop(net, [5, 1], 30, 8)]


def test_same_seed_same_text_and_another_seed_another() -> None:
    net = small()

    def write(seed: int | None, prompts=PROMPTS) -> list[list[int]]:
        return rows_of([*generate(net, prompts, max_new_tokens=12, logits_processors=[Temperature(3.0)], seed=seed)])

    assert write(1) == write(1) != write(2)
    assert write(None) != write(None)
    assert write(1, PROMPTS[:1]) == write(1)[:1], "the first row alone draws as in a batch"
    same = write(1, [[5, 1]] * 3)
    assert same[0] != same[1] != same[2] != same[0], "rows draw for themselves"


def test_the_global_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    [*generate(small(), [[1]], max_new_tokens=3, logits_processors=[Temperature(1.0)])]
    assert torch.equal(before, torch.get_rng_state())


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([[0.1, 0.6, -9.0, 0.05, 0.25]]).clamp(min=1e-30).log()
    logits[0, 2] = -torch.inf
    draw = TokenSampler(1, 0, torch.device("cpu"))
    counts = torch.bincount(torch.cat([draw(logits, [0]) for _ in range(4000)]), minlength=5) / 4000
    assert counts[2] == 0
    torch.testing.assert_close(counts, logits[0].exp(), atol=0.03, rtol=0)


def test_the_ends_of_the_uniform_number_draw_no_impossible_token(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]])
    for uniform, expected in [(0.0, 2), (1 - 2**-53, 1)]:
        monkeypatch.setattr(
            torch, "rand", lambda *_, value=uniform, **__: torch.full((1, 1), value, dtype=torch.float64)
        )
        assert TokenSampler(1, 0, torch.device("cpu"))(logits, [0]).tolist() == [expected]


def test_top_k_alone_samples() -> None:
    net = small()
    texts = {
        tuple(rows_of([*generate(net, [[5]], max_new_tokens=8, logits_processors=[TopK(20)], seed=s)])[0])
        for s in range(5)
    }
    assert len(texts) > 1


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_net_returns(training: bool) -> None:
    net = small(dropout=0.5).train(training)
    steps = generate(net, [[5]], max_new_tokens=5)
    next(steps)
    assert not net.training and not torch.is_inference_mode_enabled()
    steps.close()
    assert net.training is training
    assert rows_of([*generate(net, [[5]], max_new_tokens=9)]) == rows_of([*generate(net, [[5]], max_new_tokens=9)])
    assert net.training is training


@pytest.mark.parametrize("position", POSITIONS)
def test_training_goes_on_after_generation(position) -> None:
    """Tables that grew while generating must still serve a backward pass."""
    net = small(position).train()
    prompt = [1] * (24 if position is Learned else 100)
    [*generate(net, [prompt], max_new_tokens=3)]
    net(torch.tensor([prompt[:24]])).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_a_compiled_net_is_not_compiled_for_each_length() -> None:
    compiled = []

    def backend(module: torch.fx.GraphModule, inputs: list) -> Callable:
        compiled.append(module)
        return module.forward

    net = small(RoPE)
    expected = rows_of([*generate(net, [[5, 1]], max_new_tokens=20)])
    net.compile(backend=backend)
    net(torch.tensor([[5, 1, 2]]))
    assert len(compiled) == 1
    assert rows_of([*generate(net, [[5, 1]], max_new_tokens=20)]) == expected
    net(torch.tensor([[5, 1, 2]]))
    assert len(compiled) == 1


def test_steps_end_where_they_should() -> None:
    net = small()
    assert [*generate(net, [[5]], max_new_tokens=0)] == []
    assert len([*generate(net, [[5]], max_new_tokens=1)]) == 1
    first = next(generate(net, [[5]], max_new_tokens=1))[0]
    assert [*generate(net, [[5]], max_new_tokens=9, stop_ids={first})] == [[first]]


def test_the_soft_cap_is_applied() -> None:
    net, watch = small(logit_softcap=0.5), Watch()
    next(generate(net, [[5, 1]], max_new_tokens=1, logits_processors=[watch]))
    torch.testing.assert_close(watch.seen[0], net(torch.tensor([[5, 1]]))[:, -1].detach())
    assert watch.seen[0].abs().max() <= 0.5


def test_double_nets_stay_double() -> None:
    watch = Watch()
    next(generate(small().double(), [[5, 1]], max_new_tokens=1, logits_processors=[watch]))
    assert watch.seen[0].dtype == torch.float64


def test_logits_of_the_last_position_are_those_of_the_whole_pass() -> None:
    net, ids = small(RoPE), torch.tensor(PROMPTS[2:3])
    torch.testing.assert_close(net(ids, cache=Cache(2), reduce=last_logits), net(ids)[:, -1])


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 9), st.integers(1, 30))
def test_windows_hold_the_last_tokens_of_each_row(lengths: list[int], limit: int, steps: int) -> None:
    text = TokenBuffer([[1] * length for length in lengths], limit, torch.device("cpu"))
    for step in range(steps):
        text.slide()
        ids, segments = text.window()
        held = (torch.ones_like(ids) if segments is None else segments).sum(1).tolist()
        for length, tokens in zip(lengths, held, strict=True):
            assert tokens == length + step if length > limit else tokens <= min(limit, length + step)
            assert tokens >= min(length + step, max(1, limit // 2))
        text.append(torch.ones(len(lengths), dtype=torch.int64))


def test_logits_that_are_not_numbers_are_refused() -> None:
    net = small()
    with torch.no_grad():
        net.embedding.weight[5].fill_(torch.nan)
    for logits_processors in ([], [Temperature(1.0)]):
        with pytest.raises(ValueError, match="not finite"):
            [*generate(net, [[5]], max_new_tokens=2, logits_processors=logits_processors)]
    assert net.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompts": []}, "prompts is empty; give"),
        ({"prompts": [[1], []]}, r"prompts\[1\] is empty; give"),
        ({"prompts": [[1, 48]]}, r"prompts\[0\] holds the id 48; this net knows ids from 0 to 47"),
        ({"prompts": [[-1]]}, r"prompts\[0\] holds the id -1"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1; give"),
        ({"window": 0}, "window is 0; give"),
        ({"window": 25}, "window is 25; give at least 1 and at most 24"),
    ],
)
def test_bad_values_are_refused_at_the_call(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(small(), **{"prompts": [[1]], "max_new_tokens": 3} | options)


def test_a_prompt_longer_than_learned_positions_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="25 tokens.*end at 24.*shorten") as caught:
        generate(small(), [[1] * 25], max_new_tokens=3)
    assert "\n" not in str(caught.value)
    assert len([*generate(small(), [[1] * 24], max_new_tokens=30)]) == 30
