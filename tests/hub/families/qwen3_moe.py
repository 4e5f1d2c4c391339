"""Qwen3-MoE's odd options."""

ARCHITECTURE = "Qwen3MoeForCausalLM"
SIZES = {
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "intermediate_size": 64, "moe_intermediate_size": 24,
}  # fmt: skip
CASES = {
    "all layers sparse": SIZES | {"num_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": True},
    "every other layer, weights not normalized, tied": SIZES
    | {
        "num_hidden_layers": 4,
        "num_experts": 6,
        "num_experts_per_tok": 4,
        "decoder_sparse_step": 2,
        "norm_topk_prob": False,
        "tie_word_embeddings": True,
    },
    "one layer dense, window, biases": SIZES
    | {
        "num_hidden_layers": 3,
        "num_experts": 4,
        "num_experts_per_tok": 1,
        "mlp_only_layers": [1],
        "use_sliding_window": True,
        "sliding_window": 24,
        "attention_bias": True,
    },
}
