"""HFConfig of rotary positions: both generations of transformers find theirs; contradictions are refused."""

from typing import Any

import pytest

from lit_gpt.errors import UserError
from lit_gpt.hub import net_config
from lit_gpt.hub.families import family_of
from lit_gpt.hub.hf_config import HFConfig

PAIRS = 8
LONG = {
    "rope_type": "longrope", "short_factor": [1.0] * PAIRS, "long_factor": [2.0] * PAIRS,
    "original_max_position_embeddings": 32,
}  # fmt: skip
SIZES = {
    "vocab_size": 50, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
    "max_position_embeddings": 128,
}  # fmt: skip
FAMILIES = {
    "LlamaForCausalLM": {}, "MistralForCausalLM": {}, "MixtralForCausalLM": {"num_local_experts": 4},
    "Olmo2ForCausalLM": {}, "Qwen2ForCausalLM": {}, "Qwen3ForCausalLM": {"head_dim": 16}, "SmolLM3ForCausalLM": {},
    "Starcoder2ForCausalLM": {}, "Gemma2ForCausalLM": {"head_dim": 16},
    "Gemma3ForCausalLM": {"head_dim": 16, "sliding_window_pattern": 2},
    "GPTNeoXForCausalLM": {"rotary_pct": 1.0}, "Phi3ForCausalLM": {},
    "Qwen3MoeForCausalLM": {"head_dim": 16, "num_experts": 4, "moe_intermediate_size": 24, "num_experts_per_tok": 2},
}  # fmt: skip


def read(architecture: str, **fields: Any) -> Any:
    """What the fields say, as `layers` of a net."""
    values = SIZES | FAMILIES[architecture] | fields
    return net_config.layers(net_config.complete(family_of(architecture).read(HFConfig(values, "config.json"))))


@pytest.mark.parametrize("architecture", FAMILIES)
def test_longrope_tells_its_original_length_at_both_levels(architecture: str) -> None:
    given = {name: value for name, value in LONG.items() if name != "original_max_position_embeddings"}
    net = read(architecture, rope_scaling=given, original_max_position_embeddings=32)
    written = family_of(architecture).write(net)
    assert written["original_max_position_embeddings"] == 32
    if architecture == "Phi3ForCausalLM":  # which refuses a fourth field in transformers 4
        assert set(written["rope_scaling"]) == {"type", "short_factor", "long_factor"}
    else:
        assert written["rope_scaling"]["original_max_position_embeddings"] == 32
    assert net_config.differences(net, read(architecture, **written)) == []


@pytest.mark.parametrize("kind", ["linear", "dynamic"])
@pytest.mark.parametrize("architecture", [name for name in FAMILIES if name != "Phi3ForCausalLM"])
def test_simple_scalings_go_out_and_come_back(architecture: str, kind: str) -> None:
    net = read(architecture, rope_scaling={"rope_type": kind, "factor": 2.0})
    written = family_of(architecture).write(net)
    assert written["max_position_embeddings"] == 128
    name = "type" if architecture == "Olmo2ForCausalLM" else "rope_type"
    assert written["rope_scaling"] == {name: kind, "factor": 2.0}
    assert net_config.differences(net, read(architecture, **written)) == []


def test_phi3_keeps_an_attention_factor_of_its_own() -> None:
    """transformers 4 refuses it; left out it would be misread by all."""
    net = read("Phi3ForCausalLM", rope_scaling=LONG | {"attention_factor": 1.3}, original_max_position_embeddings=32)
    written = family_of("Phi3ForCausalLM").write(net)
    assert written["rope_scaling"]["attention_factor"] == 1.3
    assert net_config.differences(net, read("Phi3ForCausalLM", **written)) == []


YARN = {"rope_type": "yarn", "factor": 4.0}
CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "bases": (
        {"rope_theta": 1e4, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        "rope_theta is 1000000.0 in rope_parameters and 10000.0 in the config itself",
    ),
    "original lengths": (
        {"original_max_position_embeddings": 64, "rope_scaling": LONG},
        "original_max_position_embeddings is 32 in rope_scaling and 64 in the config itself",
    ),
    "older and newer": (
        {"rope_scaling": YARN, "rope_parameters": YARN | {"factor": 8.0}},
        "factor is 8.0 in rope_parameters and 4.0 in rope_scaling",
    ),
    # what happens where the older field is added by hand to a file of transformers 5
    "a base that would be lost": (
        {"rope_scaling": YARN, "rope_parameters": YARN | {"rope_theta": 1e6}},
        "rope_theta is 1000000.0 in rope_parameters and None in rope_scaling",
    ),
    "kinds": (
        {"rope_scaling": YARN, "rope_parameters": {"rope_type": "default"}},
        "factor is None in rope_parameters and 4.0 in rope_scaling",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_two_fields_that_contradict_each_other_are_refused(name: str) -> None:
    fields, message = CONTRADICTIONS[name]
    with pytest.raises(UserError, match=f"config.json contradicts itself: {message}; keep the right one"):
        read("Qwen2ForCausalLM", **fields)


def test_gemma3_refuses_bases_that_contradict_each_other() -> None:
    both = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    read("Gemma3ForCausalLM", rope_parameters=both, rope_theta=1e6)
    with pytest.raises(UserError, match="rope_theta is 10000.0 in rope_parameters and 20000.0 in the config itself"):
        read("Gemma3ForCausalLM", rope_parameters=both, rope_local_base_freq=2e4)


SCALED: dict[str, dict[str, Any]] = {
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "llama3": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    "yarn": {
        "factor": 4.0, "attention_factor": 1.0, "mscale": 1.0, "mscale_all_dim": 0.5, "beta_fast": 32, "beta_slow": 1,
        "truncate": True, "original_max_position_embeddings": 32,
    },
    "longrope": LONG | {"factor": 4.0, "attention_factor": 1.2},
}  # fmt: skip
ODD = ["x", True, [], ["a"] * PAIRS, {}, float("nan"), float("inf"), -1, 0, 1, [float("nan")] * PAIRS, [1.0] * 3, None]


@pytest.mark.parametrize("kind", SCALED)
def test_a_field_of_a_wrong_kind_is_refused_or_means_nothing(kind: str) -> None:
    """Never a traceback: alone, and where LongRoPE's own factor of attention is not there to help."""
    for less in ({}, {"attention_factor": None, "factor": None}):
        for name in SCALED[kind]:
            for odd in ODD:
                scaling = {"rope_type": kind} | SCALED[kind] | less | {name: odd}
                try:
                    fields = SIZES | {"rope_scaling": scaling}
                    net_config.make_net(
                        net_config.complete(family_of("LlamaForCausalLM").read(HFConfig(fields, "config.json")))
                    )
                except UserError:
                    continue
                except ValueError as refused:  # of the part itself, which an import gives the file's name
                    assert str(refused), (name, odd)


def test_gemma3_is_no_form_for_scaled_windows() -> None:
    """transformers 4 would read it and leave the scaling out."""
    both = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_type": "linear", "factor": 2.0}}
    net = read("Gemma3ForCausalLM", rope_parameters=both)
    again = read("Gemma3ForCausalLM", **family_of("Gemma3ForCausalLM").write(net))
    assert [name for name, _, _ in net_config.differences(net, again)] == ["position.scaling"]


def test_fields_that_agree_are_read() -> None:
    one = read("Qwen2ForCausalLM", rope_theta=1e6, rope_scaling=YARN | {"original_max_position_embeddings": 64})
    both = YARN | {"original_max_position_embeddings": 64}
    newer = {"rope_parameters": both | {"rope_theta": 1e6}, "rope_theta": 1e6, "rope_scaling": both}
    assert net_config.differences(one, read("Qwen2ForCausalLM", **newer, original_max_position_embeddings=64)) == []
