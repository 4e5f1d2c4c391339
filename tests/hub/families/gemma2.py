"""Gemma 2's odd options. Only transformers' eager attention bounds the scores."""

ARCHITECTURE = "Gemma2ForCausalLM"
SIZES = {
    "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 96, "attn_implementation": "eager",
}  # fmt: skip
CASES = {
    "window in every other layer": SIZES | {"sliding_window": 24, "query_pre_attn_scalar": 20},
    "tight bounds": SIZES
    | {
        "num_hidden_layers": 2,
        "num_key_value_heads": 4,
        "head_dim": 24,
        "query_pre_attn_scalar": 24,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
    },
    "no bounds, biases, untied, windows by layer": SIZES
    | {
        "sliding_window": 16,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "attention_bias": True,
        "tie_word_embeddings": False,
    },
}
