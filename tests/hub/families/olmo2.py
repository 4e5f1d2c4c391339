"""OLMo 2's odd options."""

ARCHITECTURE = "Olmo2ForCausalLM"
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
CASES = {
    "as published": SIZES,
    "grouped, biases, tied, Llama 3 scaling": SIZES
    | {
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "attention_bias": True,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 24,
        },
    },
}  # fmt: skip
