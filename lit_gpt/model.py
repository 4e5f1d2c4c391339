"""GPT: the decoder-only transformer, assembled from its components. The loss is passed in as `reduce`.

Letters: B batch, T tokens, C width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lit_gpt.errors import UserError
from lit_gpt.nn.attention import Attention, SelfAttention
from lit_gpt.nn.block import Block, PreNorm
from lit_gpt.nn.cache import Cache, LayerCache
from lit_gpt.nn.context import ForwardContext, forward_contexts
from lit_gpt.nn.feedforward import MLP, Aux, FeedForward
from lit_gpt.nn.init import GPT2Init, Init, fill_net
from lit_gpt.nn.linear import Embedding, Linear
from lit_gpt.nn.loss import cap
from lit_gpt.nn.moe import total
from lit_gpt.nn.norm import LayerNorm, Norm
from lit_gpt.nn.position import Learned, Position
from lit_gpt.nn.residual import PlainStream, ResidualScalars, Scale
from lit_gpt.nn.sizes import Sizes

NewAttention = Callable[[Sizes], Attention]
NewFeedForward = Callable[[Sizes], FeedForward]
NewNorm = Callable[[Sizes], Norm]
NewPosition = Callable[[Sizes], Position]
NewBlock = Callable[[Sizes, Attention, FeedForward, NewNorm], Block]
NewInit = Callable[[Sizes], Init]
Reduce = Callable[[Tensor, Tensor, float | None, Tensor | float], Any]
Component = TypeVar("Component")


class GPT(nn.Module):
    """Decoder-only transformer whose components are chosen by name.

    Args:
        vocab_size: Number of token ids.
        width: Hidden size: that of the residual stream.
        depth: Number of layers (blocks).
        heads: Attention heads.
        context: Context length: the longest sequence that the net is made for, in tokens.
        attention: Self-attention; a list is tiled over the layers.
        feedforward: Feed-forward layer, dense or a mixture of experts; a list is tiled over the layers.
        norm: Normalization layer.
        position: Position encoding; a list is tiled over the layers.
        block: Layout of norms and residual branches; a list is tiled over the layers.
        init: Weight initialization.
        dropout: Probability of dropping embeddings, branch outputs and attention weights, unless a component sets its
            own.
        tie_embeddings: Whether the head is the embedding matrix (tied embeddings, Press & Wolf 2017).
        embedding_scale: Factor on the token embeddings, before positions are added: sqrt(width) in Vaswani et al. 2017
            and Gemma. None: 1.
        embedding_norm: Whether embeddings with their positions are normalized before the first block (BLOOM, nanochat).
        residual_scalars: Whether each block reads a x + b x_0 instead of x, with learned scalars of its own that start
            at 1 and 0; x_0 is what the first block reads (modded-nanogpt, nanochat).
        logit_softcap: Logit soft-capping: logits become logit_softcap * tanh(logits / logit_softcap) (Gemma 2). None:
            no cap.
        activation_checkpointing: Activation checkpointing: the backward pass recomputes each block's activations, to
            save memory.
        seed: Seed of the weights. None: that of seed_everything.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        context: int = 64,
        attention: list[NewAttention] | NewAttention = SelfAttention,
        feedforward: list[NewFeedForward] | NewFeedForward = MLP,
        norm: NewNorm = LayerNorm,
        position: list[NewPosition] | NewPosition = Learned,
        block: list[NewBlock] | NewBlock = PreNorm,
        init: NewInit = GPT2Init,
        dropout: float = 0.0,
        tie_embeddings: bool = True,
        embedding_scale: float | None = None,
        embedding_norm: bool = False,
        residual_scalars: bool = False,
        logit_softcap: float | None = None,
        activation_checkpointing: bool = False,
        seed: int | None = None,
    ):
        super().__init__()
        numbers = {"vocab_size": vocab_size, "width": width, "depth": depth, "heads": heads, "context": context}
        _check_numbers(dropout, logit_softcap, embedding_scale, **numbers)
        _check_lists(depth, attention=attention, feedforward=feedforward, position=position, block=block)
        self.sizes = Sizes(width, heads, depth, context, vocab_size, dropout, width // heads)
        self.tie_embeddings, self.logit_softcap, self.seed = tie_embeddings, logit_softcap, seed
        self.activation_checkpointing = activation_checkpointing
        self.embedding = Embedding(vocab_size, width)
        self.embedding_scale = nn.Identity() if embedding_scale is None else Scale(embedding_scale)
        self.embedding_norm = norm(self.sizes) if embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        attentions = [_tiled(attention, layer)(self.sizes) for layer in range(depth)]
        # Typed as plain lists: nn.ModuleList tells the type checker nothing of what it holds.
        distinct, self.position_of = _share_positions(position, self.sizes, [a.head_size for a in attentions])
        self.positions = cast(list[Position], nn.ModuleList(distinct))
        blocks = [
            _tiled(block, i)(self.sizes, a, _tiled(feedforward, i)(self.sizes), norm) for i, a in enumerate(attentions)
        ]
        self.residual_scalars = ResidualScalars(depth) if residual_scalars else PlainStream()
        self.blocks = cast(list[Block], nn.ModuleList(blocks))
        self.windows = list(dict.fromkeys(a.window for a in attentions))
        self.norm = nn.Identity() if self.blocks[-1].normalized else norm(self.sizes)
        self.head = Linear(width, vocab_size)
        self.tie_head()
        self.init = init(self.sizes)
        if not self.embedding.weight.is_meta:
            self.init_weights()

    @property
    def vocab_size(self) -> int:
        """Number of token ids, padding of the vocabulary included."""
        return self.sizes.vocab_size

    @property
    def context(self) -> int:
        """Longest sequence that the net is made for, in tokens."""
        return self.sizes.context

    @property
    def longest(self) -> int | None:
        """Longest sequence that the positions can represent, in tokens; None where they have no limit."""
        return min((p.longest for p in self.positions if p.longest is not None), default=None)

    def outdated(self, cache: Cache, new: int = 1) -> bool:
        """Whether the KV cache must be recomputed before ``new`` more tokens: its keys are those of a shorter text."""
        return any(position.outdated(cache.length, cache.length + new) for position in self.positions)

    def tie_head(self) -> None:
        """Ties head and embedding again where they are tied; moving a net from the meta device parts them."""
        if self.tie_embeddings:
            self.head.weight = self.embedding.weight

    def init_weights(self, seed: int | None = None) -> None:
        """Initializes all weights and tables, each weight from its name and the seed, which defaults to the net's."""
        self.tie_head()
        seed = self.seed if seed is None else seed
        fill_net(self, self.init, self.head, torch.initial_seed() if seed is None else seed)
        self.reset_buffers()

    def reset_buffers(self) -> None:
        """Recomputes all position tables; needed after the net was moved from the meta device."""
        for position in self.positions:
            position.reset_buffers()

    def forward(
        self, ids: Tensor, *, cache: Cache | None = None, segments: Tensor | None = None, reduce: Reduce | None = None
    ) -> Any:
        """Logits of the next token after each token.

        Args:
            ids: (B, T) int64. With a cache, only the tokens that are not in it yet.
            cache: KV cache of the tokens before; read, and written in place. For inference.
            segments: (B, T) integers of packed sequences: tokens attend within their own segment, and positions restart
                at each change. Rows of unequal length are padded on the left with a segment of their own. With a cache,
                pass them from the first call on; where later calls pass none, the last segment continues.
            reduce: Called as reduce(hidden (B, T, C), head weight (V, C), logit_softcap, aux) in place of the head; aux
                is the sum of the blocks' auxiliary losses.

        Returns:
            Logits (B, T, V), or what reduce returns.

        Raises:
            UserError: The sequence is longer than the table of learned positions.
        """
        contexts = forward_contexts(ids, self.positions, self.windows, cache, segments)
        x = self.embedding_scale(self.embedding(ids))  # (B, T, C)
        for position, ctx in zip(self.positions, contexts, strict=True):
            x = position.embed(x, ctx)
        start = x = self.dropout(self.embedding_norm(x))
        aux: list[Aux] = []
        recompute = self.activation_checkpointing and self.training and cache is None
        for layer in range(len(self.blocks)):
            ctx = contexts[self.position_of[layer]]
            if recompute:
                x, layer_aux = checkpoint(self._layer, layer, x, start, ctx, None, use_reentrant=False)
            else:
                x, layer_aux = self._layer(layer, x, start, ctx, cache.layers[layer] if cache is not None else None)
            aux.append(layer_aux)
        x = self.norm(x)
        if cache is not None:
            cache.length += ids.shape[1]
        if reduce is not None:
            return reduce(x, self.head.weight, self.logit_softcap, total(aux))
        return cap(self.head(x), self.logit_softcap)

    def _layer(
        self, layer: int, x: Tensor, start: Tensor, ctx: ForwardContext, cache: LayerCache | None
    ) -> tuple[Tensor, Aux]:
        return self.blocks[layer](self.residual_scalars(x, start, layer), ctx, cache)


def _tiled(component: list[Component] | Component, layer: int) -> Component:
    """The component of a layer: a list is repeated over the depth."""
    return component[layer % len(component)] if isinstance(component, list) else component


def _share_positions(
    component: list[NewPosition] | NewPosition, sizes: Sizes, head_sizes: list[int]
) -> tuple[list[Position], list[int]]:
    """The distinct position encodings, and the index of each layer's. One is constructed for each entry of a list and
    head size; those with equal `Position.shared_key` are one."""
    positions: dict[tuple[int, int], Position] = {}
    distinct: dict[Any, Position] = {}
    keys = []
    for layer, head_size in enumerate(head_sizes):
        entry = (layer % len(component) if isinstance(component, list) else 0, head_size)
        if entry not in positions:
            positions[entry] = _tiled(component, layer)(sizes.replace(head_size=head_size))
        key = positions[entry].shared_key()
        key = id(positions[entry]) if key is None else key
        distinct.setdefault(key, positions[entry])
        keys.append(key)
    order = list(distinct)
    return list(distinct.values()), [order.index(key) for key in keys]


def _check_lists(depth: int, **components: Any) -> None:
    """Refuses empty lists and lists longer than the depth, by name."""
    for name, component in components.items():
        if component == []:
            raise UserError(f"{name} is an empty list; give at least one class, or leave it out")
        if isinstance(component, list) and len(component) > depth:
            raise UserError(f"{name} lists {len(component)} classes for {depth} layers; give at most one a layer")


def _check_numbers(
    dropout: float, logit_softcap: float | None, embedding_scale: float | None, **sizes: int
) -> None:  # fmt: skip
    """Refuses numbers that no net can have, by name."""
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} must be at least 1, got {size}")
    if not 0 <= dropout < 1:
        raise UserError(f"dropout is a probability below 1, got {dropout}")
    for name, factor in (("logit_softcap", logit_softcap), ("embedding_scale", embedding_scale)):
        if factor is not None and not 0 < factor < math.inf:
            raise UserError(f"{name} must be above 0, got {factor}; leave it out for none")
