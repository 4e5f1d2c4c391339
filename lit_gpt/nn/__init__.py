"""Neural-network layers of a GPT: attention, feed-forward, norms, position encodings, blocks, initialization, loss."""

from lit_gpt.nn.attention import Attention, SelfAttention
from lit_gpt.nn.block import Block, Parallel, PostNorm, PreNorm, ResPostNorm, Sandwich
from lit_gpt.nn.cache import Cache, LayerCache
from lit_gpt.nn.context import ForwardContext
from lit_gpt.nn.feedforward import GELU, MLP, Activation, FeedForward, GeGLU, ReLU, ReLUSquared, SwiGLU
from lit_gpt.nn.init import GPT2Init, Init, ZeroProjections
from lit_gpt.nn.linear import Embedding, Linear, Stacked
from lit_gpt.nn.loss import linear_cross_entropy, score_tokens
from lit_gpt.nn.mask import AttentionMask, attend
from lit_gpt.nn.moe import MoE, Routing
from lit_gpt.nn.norm import LayerNorm, Norm, RMSNorm
from lit_gpt.nn.position import ALiBi, Learned, NoPosition, Position, Sinusoidal
from lit_gpt.nn.rotary import DynamicNTK, LinearScaling, Llama3Scaling, LongRoPE, RoPE, Scaling, YaRN
from lit_gpt.nn.sizes import Sizes
