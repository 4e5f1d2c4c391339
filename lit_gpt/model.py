"""GPT: fills the components and runs them. Knows neither text nor training; the loss comes in as `reduce`.

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
Part = TypeVar("Part")


class GPT(nn.Module):
    """Decoder-only transformer whose parts are chosen by name.

    Args:
        vocab_size: Number of token ids.
        width: Size of the residual stream.
        depth: Number of blocks.
        heads: Attention heads.
        context: Longest sequence that the net is made for, in tokens.
        attention: How tokens look at each other; a list is tiled over the layers.
        feedforward: What is done to each token; a list is tiled over the layers.
        norm: How activations are normalized.
        position: How the net knows where a token stands; a list is tiled over the layers.
        block: How a layer is wired; a list is tiled over the layers.
        init: What the weights start from.
        dropout: Probability of dropping embeddings, branch outputs and attention weights, unless a part names its own.
        tie_embeddings: Whether the head is the embedding matrix.
        embedding_scale: Factor on the token embeddings, before positions are added: sqrt(width) in Vaswani et al. 2017
            and Gemma. None: 1.
        embedding_norm: Whether embeddings with their positions are normalized before the first block (BLOOM, nanochat).
        residual_scalars: Whether each block reads a x + b x_0 instead of x, with learned scalars of its own that start
            at 1 and 0; x_0 is what the first block reads (modded-nanogpt, nanochat).
        logit_softcap: Logits become logit_softcap * tanh(logits / logit_softcap) (Gemma 2). None: they stay.
        activation_checkpointing: Whether training computes each block again in the backward pass, to save memory.
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
        _check_numbers(vocab_size, width, depth, heads, context, dropout, logit_softcap, embedding_scale)
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
        """Number of token ids that the net takes and scores."""
        return self.sizes.vocab_size

    @property
    def context(self) -> int:
        """Longest sequence that the net is made for, in tokens."""
        return self.sizes.context

    @property
    def longest(self) -> int | None:
        """Longest sequence that the net can take at all, in tokens; None where its positions go on for ever."""
        limits = [p.longest for p in self.positions if p.longest is not None]
        return min(limits, default=None)

    def outdated(self, cache: Cache, new: int = 1) -> bool:
        """Whether generation should fill its cache anew before it goes on: the keys in it are those of a shorter text.

        Args:
            cache: What was seen so far.
            new: Tokens to come next.
        """
        return any(position.outdated(cache.length, cache.length + new) for position in self.positions)

    def tie_head(self) -> None:
        """Makes the head the embedding matrix, where the net is tied; moving a net from the meta device parts them."""
        if self.tie_embeddings:
            self.head.weight = self.embedding.weight

    def init_weights(self, seed: int | None = None) -> None:
        """Fills all weights and tables, each weight from its name and the seed; can be called again.

        Args:
            seed: Overrides the net's own.
        """
        self.tie_head()
        seed = self.seed if seed is None else seed
        fill_net(self, self.init, self.head, torch.initial_seed() if seed is None else seed)
        self.reset_buffers()

    def reset_buffers(self) -> None:
        """Computes all tables anew; needed after the net was moved from the meta device."""
        for position in self.positions:
            position.reset_buffers()

    def forward(
        self, ids: Tensor, *, cache: Cache | None = None, segments: Tensor | None = None, reduce: Reduce | None = None
    ) -> Any:
        """Scores the next token after each token.

        Args:
            ids: (B, T) int64. With a cache, only the tokens that are not in it yet.
            cache: Keys and values of the tokens before; read, and written in place. For inference.
            segments: (B, T) integers: a token sees only its own segment, and positions restart at each change.
                Rows of unequal length are padded on the left with a segment of their own. With a cache they are given
                from the first call on, or left out afterwards: then the last column's segment goes on.
            reduce: Called as reduce(hidden (B, T, C), head weight (V, C), logit_softcap, aux) instead of making logits;
                aux is the sum of the blocks' auxiliary losses.

        Returns:
            Logits (B, T, V), or what reduce returns.

        Raises:
            ValueError: The sequence is longer than learned positions reach.
        """
        contexts = forward_contexts(ids, self.positions, self.windows, cache, segments)
        x = self.embedding_scale(self.embedding(ids))  # (B, T, C)
        for position, ctx in zip(self.positions, contexts, strict=True):
            x = position.embed(x, ctx)
        start = x = self.dropout(self.embedding_norm(x))
        aux: list[Aux] = []
        again = self.activation_checkpointing and self.training and cache is None
        for layer in range(len(self.blocks)):
            ctx = contexts[self.position_of[layer]]
            if again:
                x, more = checkpoint(self._layer, layer, x, start, ctx, None, use_reentrant=False)
            else:
                x, more = self._layer(layer, x, start, ctx, cache.layers[layer] if cache is not None else None)
            aux.append(more)
        x = self.norm(x)
        if cache is not None:
            cache.length += ids.shape[1]
        if reduce is not None:
            return reduce(x, self.head.weight, self.logit_softcap, total(aux))
        return cap(self.head(x), self.logit_softcap)

    def _layer(
        self, layer: int, x: Tensor, start: Tensor, ctx: ForwardContext, cache: LayerCache | None
    ) -> tuple[Tensor, Aux]:
        """One block and what it reads: (B, T, C) -> (B, T, C), aux."""
        return self.blocks[layer](self.residual_scalars(x, start, layer), ctx, cache)


def _tiled(component: list[Part] | Part, layer: int) -> Part:
    """The part of a layer: a list is repeated over the depth."""
    return component[layer % len(component)] if isinstance(component, list) else component


def _share_positions(
    component: list[NewPosition] | NewPosition, sizes: Sizes, head_sizes: list[int]
) -> tuple[list[Position], list[int]]:
    """The distinct positions of all layers, each made once for an entry of the component and a head size, and which one
    each layer has. What is not shared is added to the embeddings once more."""
    made: dict[tuple[int, int], Position] = {}
    distinct: dict[Any, Position] = {}
    keys = []
    for layer, head_size in enumerate(head_sizes):
        place = (layer % len(component) if isinstance(component, list) else 0, head_size)
        if place not in made:
            made[place] = _tiled(component, layer)(sizes.replace(head_size=head_size))
        key = made[place].shared_key()
        key = id(made[place]) if key is None else key
        distinct.setdefault(key, made[place])
        keys.append(key)
    order = list(distinct)
    return list(distinct.values()), [order.index(key) for key in keys]


def _check_lists(depth: int, **components: Any) -> None:
    """Refuses lists of nothing, and those of which something would be left out, by name."""
    for name, component in components.items():
        if component == []:
            raise UserError(f"{name} is an empty list; give at least one class, or leave it out")
        if isinstance(component, list) and len(component) > depth:
            raise UserError(f"{name} lists {len(component)} classes for {depth} layers; give at most one a layer")


def _check_numbers(
    vocab_size: int,
    width: int,
    depth: int,
    heads: int,
    context: int,
    dropout: float,
    logit_softcap: float | None,
    embedding_scale: float | None,
) -> None:
    """Refuses numbers that no net can have, by name."""
    numbers = {"vocab_size": vocab_size, "width": width, "depth": depth, "heads": heads, "context": context}
    for name, number in numbers.items():
        if number < 1:
            raise UserError(f"{name} must be at least 1, got {number}")
    if not 0 <= dropout < 1:
        raise UserError(f"dropout is a probability below 1, got {dropout}")
    if logit_softcap is not None and not 0 < logit_softcap < math.inf:
        raise UserError(f"logit_softcap must be above 0, got {logit_softcap}; leave it out for none")
    if embedding_scale is not None and not 0 < embedding_scale < math.inf:
        raise UserError(f"embedding_scale must be above 0, got {embedding_scale}; leave it out for 1")
