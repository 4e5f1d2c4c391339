"""SmolLM3's odd options."""

ARCHITECTURE = "SmolLM3ForCausalLM"
SIZES = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 96}
CASES = {
    "every fourth layer without positions": SIZES | {"num_key_value_heads": 2},
    "windows where there are no positions, untied, biases": SIZES
    | {
        "num_hidden_layers": 3,
        "num_key_value_heads": 4,
        "no_rope_layers": [1, 0, 1],
        "use_sliding_window": True,
        "sliding_window": 20,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": False,
    },
}
