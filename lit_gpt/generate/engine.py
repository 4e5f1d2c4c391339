"""Token ids in, an iterator of token ids out: cache, ragged batches, stops, a window that slides.

Knows a net's forward signature and the logits processors; knows no text and no tokenizer (see `text_generator`).
Letters: B rows still being written, T tokens so far, V vocabulary, C width.
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

PADDING = -1  # left padding of shorter rows, as logits processors see it; the net gets 0 there, in a segment apart


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
    """Continue each prompt; yield one list a step with the next id of each row, None for a finished row.

    Greedy decoding unless one of the logits processors samples. A row's draws depend on (seed, row) alone, not on
    its neighbors. A stop id is yielded, then its row is finished; the iterator ends when all rows are.

    When a row fills its window, it goes on from the last half of it. Nets whose positions go past the context take
    a prompt longer than the window as it is, and such a row is never cut.

    The net stands in eval mode while the iterator is under way and returns to its own mode at the end or on `close()`.

    Args:
        prompts: token ids, at least one a row; rows may differ in length.
        max_new_tokens: steps at most.
        logits_processors: applied in order to the float logits (B, V).
        seed: of the draws, or one for each row, whose draws then depend on it alone; None takes a fresh one. The
            global random state is neither read nor changed.
        stop_ids: ids that end a row.
        window: tokens a row looks back on at most; the net's context when None.
        finished: rows that the caller adds here while iterating are given up before the next step.

    Raises:
        UserError: a prompt longer than a net with learned positions can take.
        ValueError: other arguments that cannot be, or logits that are not finite.
    """
    limit = net.context if window is None else window
    if limit < 1 or (net.longest is not None and limit > net.longest):
        most = "" if net.longest is None else f" and at most {net.longest}, where this net's positions end"
        raise ValueError(f"window is {window}; give at least 1{most}")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; give 0 or more")
    if isinstance(seed, Sequence) and len(seed) != len(prompts):
        raise ValueError(f"seed has {len(seed)} numbers for {len(prompts)} prompts; give one for each, or one for all")
    if not prompts:
        raise ValueError("prompts is empty; give at least one list of token ids")
    for row, prompt in enumerate(prompts):
        if not len(prompt):
            raise ValueError(f"prompts[{row}] is empty; give at least one token id, such as the tokenizer's bos")
        if not (0 <= min(prompt) and max(prompt) < net.vocab_size):
            wrong = next(id for id in prompt if not 0 <= id < net.vocab_size)
            raise ValueError(f"prompts[{row}] holds the id {wrong}; this net knows ids from 0 to {net.vocab_size - 1}")
        if net.longest is not None and len(prompt) > net.longest:
            raise UserError(
                f"the prompt has {len(prompt)} tokens, but the net's positions end at {net.longest}: "
                f"shorten it to {net.longest} tokens, or use a net with a longer context or with RoPE or ALiBi"
            )
    # Checked here, at the call, and not at the first step as a generator function would.
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
    draw = Draw(len(prompts), seed, device) if any(processor.samples for processor in logits_processors) else greedy
    text = Text(prompts, limit, device)
    was_training = net.training
    net.eval()
    try:
        cache: Cache | None = None
        for _ in range(max_new_tokens):
            if finished:
                alive = [place for place, row in enumerate(text.rows) if row not in finished]
                if not alive:
                    return
                if len(alive) < len(text.rows):
                    kept = torch.tensor(alive, device=device)
                    text.select(kept)
                    if cache is not None:
                        cache.select(kept)
            full = cache is not None and net.longest is not None and cache.length >= net.longest
            if cache is None or text.slide() or full or net.outdated(cache):
                cache = Cache(net.sizes.depth)
                inputs, segments = text.window()
            else:
                inputs, segments = text.ids[:, -1:], None
            with uncompiled():
                logits = net(inputs, cache=cache, segments=segments, reduce=last_logits)  # (B, V)
            if logits.dtype != torch.float64:
                logits = logits.float()
            for processor in logits_processors:
                logits = processor(logits, text.ids)
            chosen = draw(logits, text.rows)  # (B,)
            if not bool(logits.gather(-1, chosen[:, None]).isfinite().all()):
                raise ValueError("the logits of the next token are not finite, or no token is left to choose")
            text.append(chosen)
            step: list[int | None] = [None] * len(prompts)
            for row, id in zip(text.rows, chosen.tolist(), strict=True):
                step[row] = id
                if id in stop_ids:
                    finished.add(row)
            yield step
    finally:
        net.train(was_training)


class Text:
    """The tokens so far of the rows still being written, aligned on the right, and how far each looks back.

    Args:
        prompts: token ids of each row.
        limit: tokens in a row's window; a row that starts with more is never cut.
        device: where the ids live.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], limit: int, device: torch.device) -> None:
        longest = max(map(len, prompts))
        filled = [[PADDING] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        self.ids = torch.tensor(filled, dtype=torch.int64, device=device)  # (B, T)
        self.rows = list(range(len(prompts)))  # (B) the caller's row numbers
        self.begins = [longest - len(prompt) for prompt in prompts]  # (B) first column of each row's window
        self.limits = [limit if len(prompt) <= limit else None for prompt in prompts]

    def append(self, chosen: Tensor) -> None:
        """Put one more token (B,) to each row."""
        self.ids = torch.cat((self.ids, chosen[:, None]), dim=1)

    def select(self, kept: Tensor) -> None:
        """Keep these places (B',) and drop the others."""
        places = kept.tolist()
        self.ids = self.ids[kept]
        self.rows = [self.rows[place] for place in places]
        self.begins = [self.begins[place] for place in places]
        self.limits = [self.limits[place] for place in places]

    def slide(self) -> bool:
        """Cut the rows that outgrew their window to its last half; say whether there were any."""
        length, slid = self.ids.shape[1], False
        for place, limit in enumerate(self.limits):
            if limit is not None and length - self.begins[place] > limit:
                self.begins[place] = length - max(1, limit // 2)
                slid = True
        return slid

    def window(self) -> tuple[Tensor, Tensor | None]:
        """Return ids (B, T') and segments (B, T') that a fresh cache is filled with: 0 padding, 1 text."""
        start = min(self.begins)
        ids = self.ids[:, start:]
        if len(set(self.begins)) == 1:
            return ids, None  # no padding: the plain causal kernel
        begins = torch.tensor(self.begins, device=ids.device)[:, None] - start
        segments = (torch.arange(ids.shape[1], device=ids.device)[None] >= begins).long()
        return torch.where(segments == 1, ids, 0), segments


class Draw:
    """Draws one token a row, each row from a random stream of its own.

    Args:
        rows: how many streams.
        seed: of all of them, or one of each; None takes a fresh one.
        device: where the logits live.
    """

    def __init__(self, rows: int, seed: int | Sequence[int] | None, device: torch.device) -> None:
        base = secrets.randbits(63) if seed is None else seed
        self.streams = []
        for row in range(rows):
            own = f"{base},{row}" if isinstance(base, int) else f"{base[row]},0"
            # Hashed, because torch keeps 32 bits of a CPU seed and neighboring (seed, row) must not meet.
            mixed = int.from_bytes(hashlib.blake2b(own.encode(), digest_size=4).digest(), "little")
            self.streams.append(torch.Generator(device).manual_seed(mixed))
        self.dtype = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64

    def __call__(self, logits: Tensor, rows: Sequence[int]) -> Tensor:
        """Return ids (B,) for logits (B, V); one uniform number a row, looked up in the cumulated probabilities."""
        cumulated = logits.to(self.dtype).softmax(-1).cumsum(-1)
        uniform = torch.cat([
            torch.rand(1, 1, generator=self.streams[row], device=logits.device, dtype=self.dtype) for row in rows
        ])  # fmt: skip
        # 1 - u lies in (0, 1]: the first sum that reaches it belongs to a token whose probability is not 0.
        chosen = torch.searchsorted(cumulated, (1 - uniform) * cumulated[:, -1:])[:, 0]
        return chosen.clamp(max=logits.shape[-1] - 1)  # sums that are not numbers are never reached


def uncompiled() -> AbstractContextManager[Any]:
    """Return a context in which a compiled net runs as it is written.

    Each step sees a longer cache: `torch.compile` would compile many of them anew, in the midst of training.
    """
    # Nothing is compiled before dynamo is imported, and to import it takes longer than a short text.
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


def greedy(logits: Tensor, rows: Sequence[int]) -> Tensor:
    """Return the likeliest ids (B,) of logits (B, V)."""
    return logits.argmax(-1)


def last_logits(hidden: Tensor, weight: Tensor, softcap: float | None, aux: Tensor | float) -> Tensor:
    """Return logits (B, V) of the last position: those of a whole prompt would be B * T * V numbers for nothing.

    Args:
        hidden: (B, T, C).
        weight: (V, C) of the head.
        softcap: the bound of the logits, or None.
        aux: not looked at.
    """
    return cap(functional.linear(hidden[:, -1], weight), softcap)
