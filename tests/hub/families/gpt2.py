"""GPT-2's odd options."""

ARCHITECTURE = "GPT2LMHeadModel"
SIZES = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 96}
CASES = {
    "as published": SIZES,
    "other numbers": SIZES | {"n_layer": 3, "n_head": 2, "n_inner": 100, "layer_norm_epsilon": 1e-3},
    "exact GELU, scaled by layer, untied": SIZES
    | {"activation_function": "gelu", "scale_attn_by_inverse_layer_idx": True, "tie_word_embeddings": False},
    "ReLU, scores not scaled": SIZES | {"activation_function": "relu", "scale_attn_weights": False},
}
