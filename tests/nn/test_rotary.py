"""Rotary positions and their scalings against transformers, in float64, and what the net may rely on."""

from __future__ import annotations

import inspect
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rounding import EPS
from torch import Tensor
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers_float64 import Float64

from lit_gpt import checkpoint, nn
from lit_gpt.cli import build
from lit_gpt.model import GPT
from lit_gpt.nn import Cache, DynamicNTK, LinearScaling, Llama3Scaling, LongRoPE, RoPE, Scaling, SelfAttention, YaRN
from lit_gpt.nn.rotary import Sizes

LONG = {"short_factor": [1.0, 1.0, 1.1, 1.5, 2.0, 3.0, 5.0, 7.5], "long_factor": [1.5**i for i in range(8)]}
YARN = {"factor": 4.0, "original_context": 64}
# Ours; their rope_type, and what it is told beside the original length.
SETTINGS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "linear": (partial(LinearScaling, factor=2.5), "linear", {"factor": 2.5}),
    "dynamic": (partial(DynamicNTK, factor=2.0, original_context=64), "dynamic", {"factor": 2.0}),
    "dynamic, large": (partial(DynamicNTK, factor=8.0, original_context=64), "dynamic", {"factor": 8.0}),
    "llama3": (
        partial(Llama3Scaling, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=64),
        "llama3",
        {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
    ),
    "llama3, other bounds": (
        partial(Llama3Scaling, factor=32.0, low_freq_factor=0.5, high_freq_factor=2.0, original_context=64),
        "llama3",
        {"factor": 32.0, "low_freq_factor": 0.5, "high_freq_factor": 2.0},
    ),
    "yarn": (partial(YaRN, **YARN), "yarn", {"factor": 4.0}),
    "yarn, betas": (
        partial(YaRN, **YARN, beta_fast=6.0, beta_slow=0.5), "yarn", {"factor": 4.0, "beta_fast": 6.0, "beta_slow": 0.5}
    ),
    "yarn, not truncated": (partial(YaRN, **YARN, truncate=False), "yarn", {"factor": 4.0, "truncate": False}),
    "yarn, attention factor": (
        partial(YaRN, **YARN, attention_factor=0.7), "yarn", {"factor": 4.0, "attention_factor": 0.7}
    ),
    "yarn, mscales": (
        partial(YaRN, **YARN, mscale=1.0, mscale_all_dim=0.5), "yarn",
        {"factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.5},
    ),
    "longrope": (partial(LongRoPE, **LONG, original_context=64), "longrope", LONG),
    "longrope, attention factor": (
        partial(LongRoPE, **LONG, original_context=64, attention_factor=1.3), "longrope",
        LONG | {"attention_factor": 1.3},
    ),
}  # fmt: skip
LISTS = ("short_factor", "long_factor")


def sizes(head_size: int = 16, context: int = 256) -> Sizes:
    return Sizes(width=4 * head_size, heads=4, depth=2, context=context, vocab_size=50, head_size=head_size)


def theirs(kind: str, told: dict[str, Any], base: float, partial_rotary_factor: float, head_size: int) -> LlamaConfig:
    rope = {"rope_type": kind, "rope_theta": base, "partial_rotary_factor": partial_rotary_factor} | told
    if kind != "dynamic":
        rope["original_max_position_embeddings"] = 64
    return LlamaConfig(
        hidden_size=4 * head_size, num_attention_heads=4, head_dim=head_size, rope_parameters=rope,
        max_position_embeddings=64 if kind == "dynamic" else 256,
    )  # fmt: skip


def trimmed(scaling: Any, told: dict[str, Any], pairs: int) -> tuple[Any, dict[str, Any]]:
    """The same with lists of as many numbers as pairs turn."""
    if "long_factor" not in told:
        return scaling, told
    lists = {name: told[name][:pairs] for name in LISTS}
    return partial(scaling, **lists), told | lists


@pytest.mark.parametrize("length", [20, 64, 65, 300])
@pytest.mark.parametrize(("base", "share", "head_size"), [(10_000.0, 1.0, 16), (500_000.0, 0.5, 16), (1e4, 0.75, 8)])
@pytest.mark.parametrize("name", SETTINGS)
def test_angles_equal_transformers(name: str, base: float, share: float, head_size: int, length: int) -> None:
    scaling, kind, told = SETTINGS[name]
    scaling, told = trimmed(scaling, told, int(share * head_size) // 2)
    rope = RoPE(sizes(head_size), base, share, scaling).double()
    rope.reach(length)
    at = torch.arange(length)
    cos, sin = rope.gather(at, length)
    with Float64():
        frequencies, gain = ROPE_INIT_FUNCTIONS[kind](theirs(kind, told, base, share, head_size), "cpu", length)
    assert frequencies.dtype == torch.float64
    angles = at[:, None] * torch.cat((frequencies, frequencies))
    torch.testing.assert_close(cos, gain * angles.cos(), rtol=0, atol=1e-11)
    half = len(frequencies)
    torch.testing.assert_close(sin[:, half:], gain * angles.sin()[:, half:], rtol=0, atol=1e-11)
    assert torch.equal(sin[:, :half], -sin[:, half:])
    plain, _ = RoPE(sizes(head_size), base, share).double().gather(at[:20], 20)
    beyond = kind not in ("dynamic", "longrope") or length > 64
    assert not beyond or not torch.allclose(cos[:20], plain), "the setting changes nothing"


@pytest.mark.parametrize("name", ["dynamic", "longrope"])
def test_rotations_of_a_growing_text_equal_transformers(name: str) -> None:
    """A prompt, then token by token beyond the original length, then a short text again. Their base is computed in
    float32 here, of a tensor for the length: some eps of an angle of 90."""
    scaling, kind, told = SETTINGS[name]
    rope = RoPE(sizes(), scaling=scaling).double()
    with Float64():
        reference = LlamaRotaryEmbedding(theirs(kind, told, 10_000.0, 1.0, 16))
        for begin, end in ((0, 60), (60, 64), (64, 65), (65, 66), (66, 90), (90, 91), (0, 30)):
            at = torch.arange(begin, end)
            cos, sin = reference(torch.zeros(1, dtype=torch.float64), at[None])
            rope.reach(end)
            ours = rope.gather(at, end)
            torch.testing.assert_close(ours[0], cos[0], rtol=0, atol=4 * 90 * EPS)
            torch.testing.assert_close(ours[1][:, 8:], sin[0][:, 8:], rtol=0, atol=4 * 90 * EPS)


@torch.no_grad()
@pytest.mark.parametrize("name", ["dynamic", "longrope"])
def test_output_depends_on_this_pass_alone(name: str) -> None:
    position = partial(RoPE, scaling=SETTINGS[name][0])
    net, fresh = (GPT(50, width=64, context=256, position=position, seed=1).eval() for _ in range(2))
    ids = torch.randint(50, (1, 100))
    long = net(ids)
    assert torch.equal(net(ids[:, :20]), fresh(ids[:, :20]))
    assert torch.equal(net(ids), long)
    cache = Cache(net.sizes.depth)
    net(ids[:, :70], cache=cache)
    asked = []
    gather = net.positions[0].gather
    net.positions[0].gather = lambda at, length: asked.append((at.tolist(), length)) or gather(at, length)
    net(ids[:, 70:72], cache=cache)
    assert asked == [([70, 71], 72)]


def test_dynamic_scaling_changes_nothing_within_the_original_length() -> None:
    plain = RoPE(sizes())
    at = torch.arange(64)
    assert torch.equal(RoPE(sizes(), scaling=SETTINGS["dynamic"][0]).gather(at, 64)[0], plain.gather(at, 64)[0])


def turn(rope: RoPE, x: Tensor, at: Tensor) -> Tensor:
    class ForwardContext:
        tables = rope.gather(at, len(at))

    return rope.rotate(x, x, ForwardContext)[0]


def test_partial_rotary_rotates_the_first_dimensions() -> None:
    x = torch.randn(2, 4, 9, 16, dtype=torch.float64)
    part, small = RoPE(sizes(16), partial_rotary_factor=0.25).double(), RoPE(sizes(4)).double()
    at = torch.arange(9)
    turned = turn(part, x, at)
    assert torch.equal(turned[..., :4], turn(small, x[..., :4], at))
    assert torch.equal(turned[..., 4:], x[..., 4:])


class Louder(RoPE):
    """A user's own, with one more setting and nothing said of sharing."""

    def __init__(self, sizes: Sizes, base: float = 10_000.0, loudness: float = 1.0):
        super().__init__(sizes, base)
        self.loudness = loudness


def test_tables_are_shared_where_all_settings_are_equal() -> None:
    linear, more = partial(LinearScaling, factor=2.0), partial(LinearScaling, factor=3.0)
    component = [
        RoPE, partial(RoPE, partial_rotary_factor=1.0), partial(RoPE, partial_rotary_factor=0.5),
        partial(RoPE, scaling=linear),
        partial(RoPE, scaling=more), partial(RoPE, scaling=partial(LinearScaling, factor=2.0)), Louder,
        partial(Louder, loudness=2.0), partial(Louder, base=10_000.0),
    ]  # fmt: skip
    assert GPT(50, depth=9, position=component).position_of == [0, 0, 1, 2, 3, 2, 4, 5, 4]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (partial(RoPE, base=-5.0), "base must be above 1, got -5.0"),
        (partial(RoPE, base=float("nan")), "base must be above 1, got nan"),
        (partial(nn.Sinusoidal, base=1.0), "base must be above 1, got 1.0"),
        (partial(RoPE, partial_rotary_factor=0.0), "partial_rotary_factor must be above 0"),
        (partial(RoPE, partial_rotary_factor=1.5), "at most 1, got 1.5"),
        (partial(RoPE, partial_rotary_factor=0.2), "0.2 of which is 3"),
        (partial(RoPE, partial_rotary_factor=0.05), "0.05 of which is 0"),
        (partial(RoPE, scaling=partial(LinearScaling, factor=0.5)), "factor must be at least 1, got 0.5"),
        (partial(RoPE, scaling=partial(DynamicNTK, factor=2.0, original_context=0)), "original_context must be"),
        (partial(RoPE, scaling=partial(Llama3Scaling, 8.0, 4.0, 4.0, 64)), "low_freq_factor must be above 0 and below"),
        (partial(RoPE, scaling=partial(YaRN, **YARN, beta_fast=1.0, beta_slow=2.0)), "beta_slow must be"),
        (partial(RoPE, scaling=partial(YaRN, **YARN, mscale=1.0)), "mscale and mscale_all_dim belong together"),
        (partial(RoPE, scaling=partial(YaRN, **YARN, attention_factor=0.0)), "attention_factor must be above 0"),
        (
            partial(RoPE, scaling=partial(LongRoPE, [1.0], [1.0], 64)),
            "short_factor has 1 numbers; RoPE rotates 8 pairs",
        ),
        (partial(RoPE, scaling=partial(LongRoPE, [1.0] * 8, [], 64)), "long_factor must be a list of numbers above 0"),
    ],
)
def test_rope_refuses_invalid_arguments(made: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(sizes())


SCALINGS = Scaling.__subclasses__()


def test_scalings_agree_on_arguments_and_say_what_they_do() -> None:
    known: dict[str, tuple[Any, Any]] = {}
    for cls in SCALINGS:
        for name, parameter in inspect.signature(cls.__init__).parameters.items():
            if name != "self":
                assert known.setdefault(name, (parameter.default, parameter.annotation)) == (
                    parameter.default,
                    parameter.annotation,
                ), (cls, name)
                assert f"    {name}: " in (cls.__doc__ or ""), (cls, name)


WORDS = {
    "yarn": [
        "--model.net.position=RoPE", "--model.net.position.scaling=YaRN", "--model.net.position.scaling.factor=4",
        "--model.net.position.scaling.original_context=16", "--model.net.position.partial_rotary_factor=0.5",
    ],
    "longrope": [
        "--model.net.position={class_path: RoPE, init_args: {scaling: {class_path: LongRoPE, init_args: "
        "{short_factor: [1, 1.5, 2, 2], long_factor: [1, 2, 3, 4], original_context: 16}}}}"
    ],
    "tiled": [
        "--model.net.position=[RoPE, {class_path: RoPE, init_args: {scaling: {class_path: DynamicNTK, init_args: "
        "{factor: 2, original_context: 16}}}}]"
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", WORDS)
def test_words_become_a_scaling_and_a_file_rebuilds_it(name: str, tmp_path: Path, text_file: Path) -> None:
    run = build(
        None,
        [
            *("--model.net.width=32", "--model.net.depth=2", "--model.net.context=32", "--data.tokenizer=Byte"),
            *(f"--data.source.paths={text_file}", f"--trainer.default_root_dir={tmp_path}", "--trainer.max_steps=1"),
            *("--trainer.limit_val_batches=1", "--trainer.enable_progress_bar=false", "--sample.max_new_tokens=1"),
            *("--trainer.accelerator=cpu", *WORDS[name]),
        ],
    )
    run.trainer.fit(run.model, run.data)
    again, _ = checkpoint.load(tmp_path / "run" / "checkpoints" / "last.ckpt")
    scalings = [again.positions[i].scaling for i in again.position_of]
    assert {"yarn": YaRN, "longrope": LongRoPE, "tiled": DynamicNTK}[name] is type(scalings[1])
    assert repr(again) == repr(run.model.net)
    ids = torch.randint(50, (1, 30))
    assert torch.equal(again(ids), run.model.net.eval()(ids))


def test_a_head_of_one_pair_can_be_scaled() -> None:
    attention = partial(SelfAttention, head_size=2)
    position = partial(RoPE, scaling=partial(DynamicNTK, factor=2.0, original_context=4))
    assert GPT(50, attention=attention, position=position)(torch.zeros(1, 9, dtype=torch.long)).isfinite().all()


def test_angles_are_exact_far_out() -> None:
    """Angles of a float32 net are computed in float64: far positions lose nothing but the rounding of the table."""
    rope = RoPE(sizes(context=100_000))
    at = torch.tensor([99_999])
    angle = 99_999 * 10_000 ** (-2 / 16)
    assert rope.gather(at, 100_000)[0][0, 1].item() == pytest.approx(math.cos(angle), abs=1e-7)
