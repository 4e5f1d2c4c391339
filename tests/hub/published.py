"""config.json of models as they lie on the hub, with the fields of the versions of transformers that wrote them.

PUBLISHED holds name -> (fields, number of parameters; a tied head counts once). Fields that only name versions or ids
may stand for several versions of a file. Where no count was published (mpt-30b) it is arithmetic from the fields.
"""

from typing import Any

Published = dict[str, tuple[dict[str, Any], int]]

_GPT2 = {
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 50256,
    "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2", "n_ctx": 1024, "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": None,
    "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index",
    "summary_use_proj": True, "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "vocab_size": 50257,
}  # fmt: skip
_PYTHIA = {
    "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu",
    "initializer_range": 0.02, "layer_norm_eps": 1e-05, "max_position_embeddings": 2048, "model_type": "gpt_neox",
    "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False, "torch_dtype": "float16",
    "transformers_version": "4.24.0", "use_cache": True, "use_parallel_residual": True,
}  # fmt: skip
_LLAMA = {
    "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "initializer_range": 0.02, "model_type": "llama",
    "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None, "use_cache": True,
}  # fmt: skip
_LLAMA3 = _LLAMA | {
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000, "eos_token_id": 128001,
    "max_position_embeddings": 131072, "mlp_bias": False, "num_attention_heads": 32, "num_key_value_heads": 8,
    "rope_theta": 500000.0, "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0", "vocab_size": 128256,
}  # fmt: skip
_SCALED = {
    "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3",
}  # fmt: skip
_SMOLLM = _LLAMA | {
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 0,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "vocab_size": 49152,
}  # fmt: skip
_MISTRAL = {
    "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768,
    "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": True,
}  # fmt: skip
_QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643,
    "hidden_act": "silu", "initializer_range": 0.02, "max_position_embeddings": 131072, "model_type": "qwen2",
    "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072, "torch_dtype": "bfloat16",
    "use_cache": True, "use_sliding_window": False,
}  # fmt: skip
_QWEN3 = {
    "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643, "head_dim": 128, "hidden_act": "silu",
    "initializer_range": 0.02, "max_position_embeddings": 40960, "rms_norm_eps": 1e-06, "rope_scaling": None,
    "sliding_window": None, "torch_dtype": "bfloat16", "transformers_version": "4.51.0", "use_cache": True,
    "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
_GEMMA2 = {
    "architectures": ["Gemma2ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1,
    "final_logit_softcapping": 30.0, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
    "initializer_range": 0.02, "max_position_embeddings": 8192, "model_type": "gemma2", "pad_token_id": 0,
    "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "float32",
    "transformers_version": "4.42.0.dev0", "use_cache": True, "vocab_size": 256000,
}  # fmt: skip
_GEMMA3 = {
    "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "attn_logit_softcapping": None, "bos_token_id": 2, "cache_implementation": "hybrid",
    "final_logit_softcapping": None, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
    "initializer_range": 0.02, "max_position_embeddings": 32768, "model_type": "gemma3_text",
    "num_attention_heads": 4, "num_key_value_heads": 1, "pad_token_id": 0, "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000, "rope_scaling": None, "rope_theta": 1000000,
    "sliding_window": 512, "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": 262144,
}  # fmt: skip
_OLMO2 = {
    "architectures": ["Olmo2ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "eos_token_id": 100257,
    "hidden_act": "silu", "initializer_range": 0.02, "max_position_embeddings": 4096, "model_type": "olmo2",
    "pad_token_id": 100277, "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 500000,
    "tie_word_embeddings": False, "torch_dtype": "float32", "transformers_version": "4.47.0.dev0", "use_cache": True,
    "vocab_size": 100352,
}  # fmt: skip
_PHI3 = {
    "architectures": ["Phi3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "auto_map": {
        "AutoConfig": "configuration_phi3.Phi3Config", "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
    },
    "bos_token_id": 1, "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072,
    "initializer_range": 0.02, "intermediate_size": 8192, "model_type": "phi3", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 32, "original_max_position_embeddings": 4096,
    "pad_token_id": 32000, "resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.40.2", "use_cache": True,
    "vocab_size": 32064,
}  # fmt: skip
# In place of the 48 measured factors of each list: numbers of their kind.
_FACTORS = {"long_factor": [1.08 + 1.3 * i for i in range(48)], "short_factor": [1.0 + 0.04 * i for i in range(48)]}
_BLOOM = {
    "apply_residual_connection_post_layernorm": False, "attention_dropout": 0.0, "architectures": ["BloomForCausalLM"],
    "attention_softmax_in_fp32": True, "bias_dropout_fusion": True, "bos_token_id": 1, "eos_token_id": 2,
    "hidden_dropout": 0.0, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "masked_softmax_fusion": True,
    "model_type": "bloom", "n_inner": None, "offset_alibi": 100, "pad_token_id": 3, "seq_length": 2048,
    "skip_bias_add": True, "skip_bias_add_qkv": False, "transformers_version": "4.20.0", "unk_token_id": 0,
    "use_cache": True, "vocab_size": 250880,
}  # fmt: skip
_MPT = {
    "architectures": ["MPTForCausalLM"],  # mpt-7b's own; transformers has it as MptForCausalLM
    "attn_config": {
        "alibi": True, "alibi_bias_max": 8, "attn_impl": "torch", "attn_pdrop": 0, "attn_type": "multihead_attention",
        "attn_uses_sequence_id": False, "clip_qkv": None, "prefix_lm": False, "qk_ln": False, "softmax_scale": None,
    },
    "auto_map": {
        "AutoConfig": "configuration_mpt.MPTConfig", "AutoModelForCausalLM": "modeling_mpt.MPTForCausalLM",
    },
    "emb_pdrop": 0, "embedding_fraction": 1.0, "expansion_ratio": 4,
    "init_config": {
        "emb_init_std": None, "emb_init_uniform_lim": None, "fan_mode": "fan_in", "init_div_is_residual": True,
        "init_gain": 0, "init_nonlinearity": "relu", "init_std": 0.02, "name": "kaiming_normal_", "verbose": 0,
    },
    "init_device": "cpu", "learned_pos_emb": True, "logit_scale": None, "model_type": "mpt", "no_bias": True,
    "norm_type": "low_precision_layernorm", "resid_pdrop": 0, "tokenizer_name": "EleutherAI/gpt-neox-20b",
    "torch_dtype": "bfloat16", "transformers_version": "4.28.1", "use_cache": False, "verbose": 0,
    "vocab_size": 50432,
}  # fmt: skip
_STARCODER2 = {
    "architectures": ["Starcoder2ForCausalLM"], "attention_dropout": 0.1, "bos_token_id": 0, "embedding_dropout": 0.1,
    "eos_token_id": 0, "hidden_act": "gelu_pytorch_tanh", "max_position_embeddings": 16384, "mlp_type": "default",
    "model_type": "starcoder2", "norm_epsilon": 1e-05, "norm_type": "layer_norm", "residual_dropout": 0.1,
    "sliding_window": 4096, "torch_dtype": "bfloat16", "transformers_version": "4.39.0.dev0", "use_bias": True,
    "use_cache": True, "vocab_size": 49152,
}  # fmt: skip


def _sizes(width: int, depth: int, heads: int, hidden: int, kv_heads: int | None = None) -> dict[str, int]:
    """The five numbers under the names that most families use."""
    found = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
    found |= {"intermediate_size": hidden}
    return found if kv_heads is None else found | {"num_key_value_heads": kv_heads}


def _gpt2(width: int, depth: int, heads: int) -> dict[str, Any]:
    return _GPT2 | {"n_embd": width, "n_layer": depth, "n_head": heads}


PUBLISHED: Published = {
    "gpt2": (_gpt2(768, 12, 12), 124_439_808),
    "gpt2-medium": (_gpt2(1024, 24, 16) | {"n_special": 0, "predict_special_tokens": True}, 354_823_168),
    "gpt2-xl": (_gpt2(1600, 48, 25) | {"output_past": True}, 1_557_611_200),
    "distilgpt2": (
        _gpt2(768, 6, 12) | {"_num_labels": 1, "id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}},
        81_912_576,
    ),
    "EleutherAI/pythia-160m": (_PYTHIA | _sizes(768, 12, 12, 3072) | {"vocab_size": 50304}, 162_322_944),
    "EleutherAI/pythia-6.9b": (_PYTHIA | _sizes(4096, 32, 32, 16384) | {"vocab_size": 50432}, 6_857_302_016),
    "huggyllama/llama-7b": (
        _LLAMA
        | _sizes(4096, 32, 32, 11008)
        | {
            "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 2048, "max_sequence_length": 2048,
            "pad_token_id": 0, "rms_norm_eps": 1e-06, "tie_word_embeddings": False, "torch_dtype": "float16",
            "transformers_version": "4.28.0.dev0", "vocab_size": 32000,
        },
        6_738_415_616,
    ),
    "meta-llama/Llama-2-7b-hf": (
        _LLAMA
        | _sizes(4096, 32, 32, 11008, 32)
        | {
            "_name_or_path": "meta-llama/Llama-2-7b-hf", "bos_token_id": 1, "eos_token_id": 2,
            "max_position_embeddings": 4096, "tie_word_embeddings": False, "torch_dtype": "float16",
            "transformers_version": "4.31.0.dev0", "vocab_size": 32000,
        },
        6_738_415_616,
    ),
    "meta-llama/Llama-3.1-8B": (
        _LLAMA3
        | _sizes(4096, 32, 32, 14336, 8)
        | {"rope_scaling": _SCALED | {"factor": 8.0}, "tie_word_embeddings": False},
        8_030_261_248,
    ),
    "meta-llama/Llama-3.2-1B": (
        _LLAMA3
        | _sizes(2048, 16, 32, 8192, 8)
        | {"head_dim": 64, "rope_scaling": _SCALED | {"factor": 32.0}, "tie_word_embeddings": True},
        1_235_814_400,
    ),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": (
        _LLAMA
        | _sizes(2048, 22, 32, 5632, 4)
        | {
            "attention_bias": False, "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 2048,
            "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
            "transformers_version": "4.35.0", "vocab_size": 32000,
        },
        1_100_048_384,
    ),
    "deepseek-ai/deepseek-coder-1.3b-base": (
        _LLAMA
        | _sizes(2048, 24, 16, 5504, 16)
        | {
            "bos_token_id": 32013, "eos_token_id": 32014, "max_position_embeddings": 16384, "rms_norm_eps": 1e-06,
            "rope_scaling": {"factor": 4.0, "type": "linear"}, "rope_theta": 100000, "tie_word_embeddings": False,
            "torch_dtype": "bfloat16", "transformers_version": "4.33.1", "vocab_size": 32256,
        },
        1_346_471_936,
    ),
    "NousResearch/Yarn-Llama-2-7b-64k": (
        _LLAMA
        | _sizes(4096, 32, 32, 11008, 32)
        | {
            "auto_map": {"AutoModelForCausalLM": "modeling_llama_together_yarn.LlamaForCausalLM"}, "bos_token_id": 1,
            "eos_token_id": 2, "max_position_embeddings": 65536, "tie_word_embeddings": False,
            "rope_scaling": {
                "factor": 16.0, "finetuned": True, "original_max_position_embeddings": 4096, "type": "yarn",
            },
            "torch_dtype": "bfloat16", "transformers_version": "4.32.0.dev0", "vocab_size": 32000,
        },
        6_738_415_616,
    ),
    "HuggingFaceTB/SmolLM-135M": (
        _SMOLLM
        | _sizes(576, 30, 9, 1536, 3)
        | {"max_position_embeddings": 2048, "rope_theta": 10000.0, "transformers_version": "4.40.1"},
        134_515_008,
    ),
    "HuggingFaceTB/SmolLM2-135M": (
        _SMOLLM
        | _sizes(576, 30, 9, 1536, 3)
        | {
            "initializer_range": 0.041666666666666664, "is_llama_config": True, "max_position_embeddings": 8192,
            "mlp_bias": False, "rope_interleaved": False, "rope_theta": 100000, "transformers_version": "4.40.1",
        },
        134_515_008,
    ),
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": (
        _SMOLLM
        | _sizes(2048, 24, 32, 8192, 32)
        | {
            "bos_token_id": 1, "eos_token_id": 2, "max_position_embeddings": 8192, "mlp_bias": False,
            "pad_token_id": 2, "rope_theta": 130000, "transformers_version": "4.42.3",
            "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16", "q4f16": "float16"}},
        },
        1_711_376_384,
    ),
    "mistralai/Mistral-7B-v0.1": (
        _MISTRAL
        | {"rope_theta": 10000.0, "sliding_window": 4096, "transformers_version": "4.34.0.dev0", "vocab_size": 32000},
        7_241_732_096,
    ),
    "mistralai/Mistral-7B-v0.3": (
        _MISTRAL
        | {
            "attention_dropout": 0.0, "rope_theta": 1000000.0, "sliding_window": None,
            "transformers_version": "4.42.0.dev0", "vocab_size": 32768,
        },
        7_248_023_552,
    ),
    "mistralai/Mixtral-8x7B-v0.1": (
        _MISTRAL
        | {
            "architectures": ["MixtralForCausalLM"], "attention_dropout": 0.0, "model_type": "mixtral",
            "num_experts_per_tok": 2, "num_local_experts": 8, "output_router_logits": False, "rope_theta": 1000000.0,
            "router_aux_loss_coef": 0.02, "sliding_window": None, "transformers_version": "4.36.0.dev0",
            "vocab_size": 32000,
        },
        46_702_792_704,
    ),
    "Qwen/Qwen2-0.5B": (
        _QWEN2
        | _sizes(896, 24, 14, 4864, 2)
        | {
            "max_window_layers": 24, "tie_word_embeddings": True, "transformers_version": "4.40.1",
            "vocab_size": 151936,
        },
        494_032_768,
    ),
    "Qwen/Qwen2.5-7B": (
        _QWEN2
        | _sizes(3584, 28, 28, 18944, 4)
        | {
            "max_window_layers": 28, "tie_word_embeddings": False, "transformers_version": "4.40.1",
            "use_mrope": False, "vocab_size": 152064,
        },
        7_615_616_512,
    ),
    "Qwen/Qwen3-0.6B": (
        _QWEN3
        | _sizes(1024, 28, 16, 3072, 8)
        | {
            "architectures": ["Qwen3ForCausalLM"], "eos_token_id": 151645, "max_window_layers": 28,
            "model_type": "qwen3", "rope_theta": 1000000, "tie_word_embeddings": True,
        },
        596_049_920,
    ),
    "Qwen/Qwen3-8B": (
        _QWEN3
        | _sizes(4096, 36, 32, 12288, 8)
        | {
            "architectures": ["Qwen3ForCausalLM"], "eos_token_id": 151645, "max_window_layers": 36,
            "model_type": "qwen3", "rope_theta": 1000000, "tie_word_embeddings": False,
        },
        8_190_735_360,
    ),
    "Qwen/Qwen3-30B-A3B": (
        _QWEN3
        | _sizes(2048, 48, 32, 6144, 4)
        | {
            "architectures": ["Qwen3MoeForCausalLM"], "decoder_sparse_step": 1, "eos_token_id": 151645,
            "max_window_layers": 48, "mlp_only_layers": [], "model_type": "qwen3_moe", "moe_intermediate_size": 768,
            "norm_topk_prob": True, "num_experts": 128, "num_experts_per_tok": 8, "output_router_logits": False,
            "rope_theta": 1000000.0, "router_aux_loss_coef": 0.001, "tie_word_embeddings": False,
        },
        30_532_122_624,
    ),
    "google/gemma-2-2b": (
        _GEMMA2 | _sizes(2304, 26, 8, 9216, 4) | {"head_dim": 256, "query_pre_attn_scalar": 256},
        2_614_341_888,
    ),
    "google/gemma-2-27b": (
        _GEMMA2
        | _sizes(4608, 46, 32, 36864, 16)
        | {
            "_attn_implementation": "eager", "head_dim": 128, "query_pre_attn_scalar": 144,
            "sliding_window_size": 4096,
        },
        27_227_128_320,
    ),
    "google/gemma-3-1b-it": (
        _GEMMA3
        | {
            "eos_token_id": [1, 106], "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26,
            "sliding_window_pattern": 6, "transformers_version": "4.50.0.dev0",
        },
        999_885_952,
    ),
    "google/gemma-3-270m": (
        _GEMMA3
        | {
            "_sliding_window_pattern": 6, "eos_token_id": 1, "hidden_size": 640, "intermediate_size": 2048,
            "layer_types": [("sliding_attention", "full_attention")[(i + 1) % 6 == 0] for i in range(18)],
            "num_hidden_layers": 18, "transformers_version": "4.55.0.dev0", "use_bidirectional_attention": False,
        },
        268_098_176,
    ),
    "allenai/OLMo-2-0425-1B": (_OLMO2 | _sizes(2048, 16, 16, 8192, 16), 1_484_916_736),
    "allenai/OLMo-2-1124-7B": (_OLMO2 | _sizes(4096, 32, 32, 11008, 32), 7_298_617_344),
    "microsoft/Phi-3-mini-4k-instruct": (
        _PHI3 | {"_name_or_path": "Phi-3-mini-4k-instruct", "max_position_embeddings": 4096, "sliding_window": 2047},
        3_821_079_552,
    ),
    "microsoft/Phi-3-mini-128k-instruct": (
        _PHI3
        | {
            "max_position_embeddings": 131072, "rope_scaling": _FACTORS | {"type": "longrope"},
            "sliding_window": 262144,
        },
        3_821_079_552,
    ),
    "microsoft/Phi-4-mini-instruct": (
        _PHI3
        | {
            "bos_token_id": 199999, "eos_token_id": 199999, "full_attn_mod": 1, "interpolate_factor": 1,
            "lm_head_bias": False, "max_position_embeddings": 131072, "mlp_bias": False, "num_attention_heads": 24,
            "num_key_value_heads": 8, "pad_token_id": 199999, "partial_rotary_factor": 0.75,
            "rope_scaling": _FACTORS | {"type": "longrope"}, "sliding_window": 262144, "tie_word_embeddings": True,
            "transformers_version": "4.45.0", "vocab_size": 200064,
        },
        3_836_021_760,
    ),
    "bigscience/bloom-560m": (
        _BLOOM | {"n_embed": 1024, "n_layer": 24, "num_attention_heads": 16, "pretraining_tp": 1},
        559_214_592,
    ),
    "bigscience/bloom-7b1": (
        _BLOOM | {"hidden_size": 4096, "n_head": 32, "n_layer": 30, "pretraining_tp": 4, "slow_but_exact": False},
        7_069_016_064,
    ),
    "mosaicml/mpt-7b": (_MPT | {"d_model": 4096, "max_seq_len": 2048, "n_heads": 32, "n_layers": 32}, 6_649_286_656),
    "mosaicml/mpt-30b": (_MPT | {"d_model": 7168, "max_seq_len": 8192, "n_heads": 64, "n_layers": 48}, 29_957_200_896),
    "bigcode/starcoder2-3b": (
        _STARCODER2
        | _sizes(3072, 30, 24, 12288, 2)
        | {"initializer_range": 0.018042, "rope_theta": 999999.4420358813},
        3_030_371_328,
    ),
    "HuggingFaceTB/SmolLM3-3B": (
        _sizes(2048, 36, 16, 11008, 4)
        | {
            "architectures": ["SmolLM3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
            "bos_token_id": None, "eos_token_id": 128012, "hidden_act": "silu", "initializer_range": 0.02,
            "layer_types": ["full_attention"] * 36, "max_position_embeddings": 65536, "max_window_layers": 28,
            "mlp_bias": False, "model_type": "smollm3", "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 9,
            "pad_token_id": 128004, "pretraining_tp": 2, "rms_norm_eps": 1e-06, "rope_scaling": None,
            "rope_theta": 5000000.0, "sliding_window": None, "torch_dtype": "bfloat16",
            "transformers_version": "4.54.0.dev0", "use_cache": True, "use_sliding_window": False, "vocab_size": 128256,
        },
        3_075_098_624,
    ),
}  # fmt: skip
