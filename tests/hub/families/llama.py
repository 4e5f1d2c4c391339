"""Llama's odd options."""

ARCHITECTURE = "LlamaForCausalLM"
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 16}
CASES = {
    "multi-head": SIZES | {"num_hidden_layers": 3},
    "grouped, Llama 3 scaling": SIZES | {"num_key_value_heads": 2, "rope_parameters": LLAMA3, "rms_norm_eps": 1e-5},
    "multi-query, tied, linear scaling": SIZES
    | {
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 2.0},
    },
    "own head size, biases, YaRN": SIZES
    | {"head_dim": 24, "attention_bias": True, "mlp_bias": True, "rope_parameters": YARN},
    "dynamic scaling past the length": SIZES
    | {
        "max_position_embeddings": 32,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 4.0},
    },
}
