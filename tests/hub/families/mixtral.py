"""Mixtral's odd options."""

ARCHITECTURE = "MixtralForCausalLM"
SIZES = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 56}
CASES = {
    "two of four experts": SIZES | {"num_key_value_heads": 2, "num_local_experts": 4},
    "three of eight, window, tied": SIZES
    | {
        "num_key_value_heads": 4,
        "num_local_experts": 8,
        "num_experts_per_tok": 3,
        "sliding_window": 24,
        "tie_word_embeddings": True,
    },
}
