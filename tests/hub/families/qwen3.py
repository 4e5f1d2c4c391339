"""Qwen3's odd options."""

ARCHITECTURE = "Qwen3ForCausalLM"
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
CASES = {
    "wide heads": SIZES | {"num_key_value_heads": 2, "head_dim": 32},
    "biases, windows above, tied": SIZES
    | {
        "num_hidden_layers": 3,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "attention_bias": True,
        "use_sliding_window": True,
        "sliding_window": 24,
        "max_window_layers": 2,
        "tie_word_embeddings": True,
    },
}
