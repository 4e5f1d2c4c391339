"""Tensors in, tensors out: the parts that a GPT is assembled from. Imports torch and nothing else."""

from lit_gpt.nn.attention import Attention, SelfAttention, attend
from lit_gpt.nn.block import Block, PostNorm, PreNorm
from lit_gpt.nn.cache import Cache, LayerCache
from lit_gpt.nn.feedforward import GELU, MLP, Activation, FeedForward, GeGLU, ReLU, ReLUSquared, SwiGLU
from lit_gpt.nn.frame import Frame, Sizes
from lit_gpt.nn.init import GPT2Init, Init, ZeroProjections
from lit_gpt.nn.linear import Embedding, Linear
from lit_gpt.nn.loss import linear_cross_entropy, score_tokens
from lit_gpt.nn.norm import LayerNorm, Norm, RMSNorm
from lit_gpt.nn.position import ALiBi, Learned, NoPosition, Position, RoPE, Sinusoidal

__all__ = [
    "GELU",
    "MLP",
    "ALiBi",
    "Activation",
    "Attention",
    "Block",
    "Cache",
    "Embedding",
    "FeedForward",
    "Frame",
    "GPT2Init",
    "GeGLU",
    "Init",
    "LayerCache",
    "LayerNorm",
    "Learned",
    "Linear",
    "NoPosition",
    "Norm",
    "Position",
    "PostNorm",
    "PreNorm",
    "RMSNorm",
    "ReLU",
    "ReLUSquared",
    "RoPE",
    "SelfAttention",
    "Sinusoidal",
    "Sizes",
    "SwiGLU",
    "ZeroProjections",
    "attend",
    "linear_cross_entropy",
    "score_tokens",
]
