"""Mistral's odd options."""

ARCHITECTURE = "MistralForCausalLM"
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
CASES = {
    "window": SIZES | {"num_key_value_heads": 2, "sliding_window": 24},
    "no window, own head size, tied": SIZES
    | {
        "num_hidden_layers": 3, "num_key_value_heads": 4, "sliding_window": None, "head_dim": 24,
        "tie_word_embeddings": True,
    },
    "window, YaRN": SIZES
    | {
        "num_key_value_heads": 1,
        "sliding_window": 40,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1e5, "factor": 2.0, "original_max_position_embeddings": 48,
            "beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 0.9,
        },
    },
}  # fmt: skip
