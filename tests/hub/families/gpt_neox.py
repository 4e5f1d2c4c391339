"""GPT-NeoX's odd options."""

ARCHITECTURE = "GPTNeoXForCausalLM"
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
CASES = {
    "a quarter turned, side by side": SIZES,
    "one after the other, half turned, tied": SIZES
    | {
        "num_hidden_layers": 3,
        "use_parallel_residual": False,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5},
    },
    "no biases in attention, linear scaling, tanh": SIZES
    | {
        "attention_bias": False,
        "hidden_act": "gelu_new",
        "rope_parameters": {
            "rope_type": "linear", "rope_theta": 1e4, "partial_rotary_factor": 1.0, "factor": 4.0,
        },
    },
}  # fmt: skip
