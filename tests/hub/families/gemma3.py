"""Gemma 3's odd options, of its text models."""

ARCHITECTURE = "Gemma3ForCausalLM"
SIZES = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 96, "query_pre_attn_scalar": 20,
}  # fmt: skip
LOCAL, FULL = "sliding_attention", "full_attention"
CASES = {
    "two bases": SIZES | {"num_hidden_layers": 7, "sliding_window": 24},
    "global layers stretched": SIZES
    | {
        "sliding_window": 16,
        "layer_types": [LOCAL, FULL, LOCAL],
        "rope_parameters": {
            LOCAL: {"rope_type": "default", "rope_theta": 5000.0},
            FULL: {"rope_type": "linear", "rope_theta": 2e5, "factor": 8.0},
        },
    },
    "logits bounded, biases, untied": SIZES
    | {
        "layer_types": [FULL, LOCAL, FULL],
        "sliding_window": 8,
        "final_logit_softcapping": 3.0,
        "attention_bias": True,
        "tie_word_embeddings": False,
    },
}
