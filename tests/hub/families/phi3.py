"""Phi-3's odd options."""

ARCHITECTURE = "Phi3ForCausalLM"
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
LONG = {
    "rope_type": "longrope", "rope_theta": 1e4,
    "short_factor": [1.0 + 0.1 * i for i in range(6)], "long_factor": [2.0 + 0.7 * i for i in range(6)],
}  # fmt: skip
CASES = {
    "window": SIZES | {"sliding_window": 24},
    "grouped, part of a head, tied": SIZES
    | {
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
    },
    "LongRoPE past the original length": SIZES
    | {
        "original_max_position_embeddings": 32,
        "max_position_embeddings": 128,
        "rope_parameters": LONG | {"partial_rotary_factor": 0.75},
    },
    "LongRoPE below the original length": SIZES
    | {
        "original_max_position_embeddings": 100,
        "max_position_embeddings": 200,
        "rope_parameters": LONG | {"partial_rotary_factor": 0.75},
    },
}
