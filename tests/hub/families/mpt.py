"""MPT's odd options."""

ARCHITECTURE = "MptForCausalLM"
CASES = {
    "power of two heads": {"d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 96},
    "six heads, own scale": {
        "d_model": 48,
        "n_layers": 3,
        "n_heads": 6,
        "max_seq_len": 96,
        "attn_config": {"softmax_scale": 0.4},
    },
}
