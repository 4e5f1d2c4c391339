"""Qwen2's odd options."""

ARCHITECTURE = "Qwen2ForCausalLM"
SIZES = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96}
CASES = {
    "as published": SIZES | {"num_key_value_heads": 2},
    "windows above, tied": SIZES
    | {
        "num_key_value_heads": 4,
        "use_sliding_window": True,
        "sliding_window": 24,
        "max_window_layers": 1,
        "tie_word_embeddings": True,
    },
    "windows by layer, YaRN": SIZES
    | {
        "num_key_value_heads": 1,
        "use_sliding_window": True,
        "sliding_window": 20,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 24,
        },
    },
}  # fmt: skip
