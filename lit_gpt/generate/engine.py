"""Autoregressive decoding of token ids with a KV cache: greedy or sampled, batched, with stop ids and sliding windows.

Letters: B unfinished rows, T tokens so far, V vocabulary, C width.
"""

import hashlib
import secrets
import sys
from collections.abc import Iterator, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lit_gpt.errors import UserError
from lit_gpt.generate.logits_processors import LogitsProcessor
from lit_gpt.model import GPT
from lit_gpt.nn.cache import Cache
from lit_gpt.nn.loss import cap

PADDING = -1  # left padding of shorter rows as logits processors see it; the net gets 0 there, in another segment


def generate(
    net: GPT,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    logits_processors: Sequence[LogitsProcessor] = (),
    seed: int | Sequence[int] | None = None,
    stop_ids: Set[int] = frozenset(),
    window: int | None = None,
    finished: set[int] | None = None,
) -> Iterator[list[int | None]]:
    """Continue a batch of prompts; yield the next token id of each row at each step, None for a finished row.

    Decoding is greedy unless one of the logits processors samples. The draws of a row depend on (seed, row) alone, not
    on the rest of the batch. A stop id is yielded, then its row is finished; the iterator ends when all rows are.

    A row that fills its window continues from the last half of it. A net whose positions extend past the context takes
    a prompt longer than the window whole, and such a row is never truncated.

    The net is in eval mode during the iteration and returns to its former mode at the end or on `close()`.

    Args:
        prompts: Token ids, at least one a row; rows may differ in length.
        max_new_tokens: Steps at most.
        logits_processors: Applied in order to the logits (B, V), float32 or float64.
        seed: Seed of all rows, or one for each row; None takes a fresh one. The global random state is neither read
            nor changed.
        stop_ids: Ids that end a row.
        window: Attention window of a row in tokens; None for the context of the net.
        finished: Rows that the caller adds here while iterating end before the next step.

    Raises:
        UserError: A prompt is longer than a net with learned positions can take.
        ValueError: Another argument is out of range, or the logits are not finite.
    """
    limit = net.context if window is None else window
    if limit < 1 or (net.longest is not None and limit > net.longest):
        most = "" if net.longest is None else f" and at most {net.longest}, where this net's positions end"
        raise UserError(f"window is {window}; give at least 1{most}")
    if max_new_tokens < 0:
        raise UserError(f"max_new_tokens is {max_new_tokens}; give 0 or more")
    if isinstance(seed, Sequence) and len(seed) != len(prompts):
        raise UserError(f"seed has {len(seed)} numbers for {len(prompts)} prompts; give one for each, or one for all")
    if not prompts:
        raise UserError("prompts is empty; give at least one list of token ids")
    for row, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(f"prompts[{row}] is empty; give at least one token id, such as the tokenizer's bos")
        if not (0 <= min(prompt) and max(prompt) < net.vocab_size):
            wrong = next(id for id in prompt if not 0 <= id < net.vocab_size)
            raise UserError(f"prompts[{row}] holds the id {wrong}; this net knows ids from 0 to {net.vocab_size - 1}")
        if net.longest is not None and len(prompt) > net.longest:
            raise UserError(
                f"the prompt has {len(prompt)} tokens, but the net's positions end at {net.longest}: "
                f"shorten it to {net.longest} tokens, or use a net with a longer context or with RoPE or ALiBi"
            )
    # A generator function would check at its first step only.
    return _steps(
        net, prompts, max_new_tokens, logits_processors, seed, stop_ids, limit, set() if finished is None else finished
    )


@torch.inference_mode()
def _steps(
    net: GPT,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    logits_processors: Sequence[LogitsProcessor],
    seed: int | Sequence[int] | None,
    stop_ids: Set[int],
    limit: int,
    finished: set[int],
) -> Iterator[list[int | None]]:
    device = next(net.parameters()).device
    sample = TokenSampler(len(prompts), seed, device) if any(p.samples for p in logits_processors) else greedy
    tokens = TokenBuffer(prompts, limit, device)
    was_training = net.training
    net.eval()
    try:
        cache: Cache | None = None
        for _ in range(max_new_tokens):
            if finished:
                alive = [index for index, row in enumerate(tokens.rows) if row not in finished]
                if not alive:
                    return
                if len(alive) < len(tokens.rows):
                    kept = torch.tensor(alive, device=device)
                    tokens.select(kept)
                    if cache is not None:
                        cache.select(kept)
            full = cache is not None and net.longest is not None and cache.length >= net.longest
            if cache is None or tokens.slide() or full or net.outdated(cache):
                cache = Cache(net.sizes.depth)
                inputs, segments = tokens.window()
            else:
                inputs, segments = tokens.ids[:, -1:], None
            with uncompiled():
                logits = net(inputs, cache=cache, segments=segments, reduce=last_logits)  # (B, V)
            if logits.dtype != torch.float64:
                logits = logits.float()
            for processor in logits_processors:
                logits = processor(logits, tokens.ids)
            chosen = sample(logits, tokens.rows)  # (B,)
            if not bool(logits.gather(-1, chosen[:, None]).isfinite().all()):
                raise UserError("the logits of the next token are not finite, or no token is left to choose")
            tokens.append(chosen)
            step: list[int | None] = [None] * len(prompts)
            for row, id in zip(tokens.rows, chosen.tolist(), strict=True):
                step[row] = id
                if id in stop_ids:
                    finished.add(row)
            yield step
    finally:
        net.train(was_training)


class TokenBuffer:
    """Token ids of the unfinished rows, padded on the left, and the first column of each row's window.

    Args:
        prompts: Token ids of each row.
        limit: Window of a row in tokens; a row that starts with more is never truncated.
        device: Device of the ids.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], limit: int, device: torch.device) -> None:
        longest = max(map(len, prompts))
        filled = [[PADDING] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        self.ids = torch.tensor(filled, dtype=torch.int64, device=device)  # (B, T)
        self.rows = list(range(len(prompts)))  # (B) the caller's row numbers
        self.begins = [longest - len(prompt) for prompt in prompts]  # (B) first column of each row's window
        self.limits = [limit if len(prompt) <= limit else None for prompt in prompts]

    def append(self, chosen: Tensor) -> None:
        """Append one token (B,) to each row."""
        self.ids = torch.cat((self.ids, chosen[:, None]), dim=1)

    def select(self, kept: Tensor) -> None:
        """Keep the rows at these indices (B',) and drop the others."""
        self.ids = self.ids[kept]
        for name in ("rows", "begins", "limits"):
            values = getattr(self, name)
            setattr(self, name, [values[index] for index in kept.tolist()])

    def slide(self) -> bool:
        """Truncate rows that outgrew their window to its last half; return whether there were any."""
        length, slid = self.ids.shape[1], False
        for index, limit in enumerate(self.limits):
            if limit is not None and length - self.begins[index] > limit:
                self.begins[index] = length - max(1, limit // 2)
                slid = True
        return slid

    def window(self) -> tuple[Tensor, Tensor | None]:
        """Return ids (B, T') and segments (B, T') to prefill a cache with: 0 padding, 1 text; None without padding."""
        start = min(self.begins)
        ids = self.ids[:, start:]
        if len(set(self.begins)) == 1:
            return ids, None  # is_causal, without a mask
        begins = torch.tensor(self.begins, device=ids.device)[:, None] - start
        segments = (torch.arange(ids.shape[1], device=ids.device)[None] >= begins).long()
        return torch.where(segments == 1, ids, 0), segments


class TokenSampler:
    """Samples one token a row, each row from a random generator of its own.

    Args:
        rows: Number of generators.
        seed: Seed of all, or one of each; None takes a fresh one.
        device: Device of the logits.
    """

    def __init__(self, rows: int, seed: int | Sequence[int] | None, device: torch.device) -> None:
        base = secrets.randbits(63) if seed is None else seed
        self.streams = []
        for row in range(rows):
            key = f"{base},{row}" if isinstance(base, int) else f"{base[row]},0"
            # Hashed: torch keeps 32 bits of a CPU seed, and neighboring (seed, row) must not collide.
            mixed = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=4).digest(), "little")
            self.streams.append(torch.Generator(device).manual_seed(mixed))
        self.dtype = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64

    def __call__(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """Sample ids (B,) from logits (B, V) by inverse transform: one uniform number a row."""
        cumulative = logits.to(self.dtype).softmax(-1).cumsum(-1)
        uniform = torch.cat([
            torch.rand(1, 1, generator=self.streams[row], device=logits.device, dtype=self.dtype) for row in rows
        ])  # fmt: skip
        # 1 - u lies in (0, 1]: the first sum that reaches it belongs to a token whose probability is not 0.
        chosen = torch.searchsorted(cumulative, (1 - uniform) * cumulative[:, -1:])[:, 0]
        return chosen.clamp(max=logits.shape[-1] - 1)  # sums that are not numbers are never reached


def uncompiled() -> AbstractContextManager[Any]:
    """Return a context in which a compiled net runs eagerly.

    The KV cache grows with each step, and `torch.compile` would recompile for many of its lengths.
    """
    # Nothing is compiled before dynamo is imported, and to import it takes longer than a short text.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def greedy(logits: Tensor, rows: Sequence[int]) -> Tensor:
    """Return the most likely ids (B,) of logits (B, V)."""
    return logits.argmax(-1)


def last_logits(hidden: Tensor, weight: Tensor, softcap: float | None, aux: Tensor | float) -> Tensor:
    """Return the logits (B, V) of the last position from hidden states (B, T, C) and the head's weight (V, C)."""
    return cap(functional.linear(hidden[:, -1], weight), softcap)
