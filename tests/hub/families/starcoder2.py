"""StarCoder2's odd options."""

ARCHITECTURE = "Starcoder2ForCausalLM"
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
CASES = {
    "window": SIZES | {"num_key_value_heads": 2, "sliding_window": 24},
    "no biases, untied, exact GELU": SIZES
    | {
        "num_hidden_layers": 3,
        "num_key_value_heads": 4,
        "use_bias": False,
        "tie_word_embeddings": False,
        "hidden_act": "gelu",
        "norm_epsilon": 1e-4,
    },
}
