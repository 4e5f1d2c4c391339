"""Logits processors for sampling: temperature, top-k, top-p (nucleus sampling), min-p, repetition penalty.

Letters: B rows, V vocabulary, T tokens so far.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from lit_gpt.errors import UserError, not_implemented


class LogitsProcessor:
    """Base of the logits processors: changes the logits of the next token; `-inf` excludes a token."""

    samples: bool = True  # False: with such processors alone decoding stays greedy

    def __call__(self, logits: Tensor, ids: Tensor) -> Tensor:
        """Return new logits.

        Args:
            logits: (B, V) float32 or float64; not to be changed in place.
            ids: (B, T) int64, prompt and generated tokens; shorter rows are padded on the left with -1.
        """
        raise not_implemented(self, "__call__")


class Temperature(LogitsProcessor):
    """Divides the logits: below 1 sharpens the distribution, above 1 flattens it, 0 is greedy decoding.

    Ackley, Hinton & Sejnowski, "A Learning Algorithm for Boltzmann Machines", 1985.

    Args:
        temperature: 0 or more.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        if not (math.isfinite(temperature) and temperature >= 0):
            raise UserError(f"temperature is {temperature}; give 0 (greedy) or a positive number such as 0.8")
        self.temperature = temperature

    def __call__(self, logits: Tensor, ids: Tensor) -> Tensor:
        if self.temperature == 0:
            return keep(logits, logits.argmax(-1, keepdim=True))
        return logits / self.temperature


class TopK(LogitsProcessor):
    """Keeps the k most likely tokens (top-k sampling), exactly k also where logits tie.

    Fan, Lewis & Dauphin, "Hierarchical Neural Story Generation", 2018 (arXiv:1805.04833).

    Args:
        top_k: 1 or more; more than the vocabulary keeps all.
    """

    def __init__(self, top_k: int = 50) -> None:
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise UserError(f"top_k is {top_k}; give a whole number of at least 1, or omit it")
        self.top_k = top_k

    def __call__(self, logits: Tensor, ids: Tensor) -> Tensor:
        if self.top_k >= logits.shape[-1]:
            return logits
        return keep(logits, logits.topk(self.top_k, sorted=False).indices)


class TopP(LogitsProcessor):
    """Nucleus sampling: keeps the smallest set of most likely tokens whose probabilities sum to at least p.

    Holtzman et al., "The Curious Case of Neural Text Degeneration", 2019 (arXiv:1904.09751).

    Args:
        top_p: above 0, at most 1.
    """

    # On a CPU core a full sort of 50k logits takes ten times as long as this top-k, which nearly always suffices.
    candidates = 1024

    def __init__(self, top_p: float = 0.95) -> None:
        if not 0 < top_p <= 1:
            raise UserError(f"top_p is {top_p}; give a probability above 0 and at most 1, or omit it")
        self.top_p = top_p

    def __call__(self, logits: Tensor, ids: Tensor) -> Tensor:
        vocabulary = logits.shape[-1]
        if self.top_p == 1:
            return logits
        total = logits.logsumexp(-1, keepdim=True)  # (B, 1) over the whole vocabulary
        best, indices = logits.topk(min(self.candidates, vocabulary))  # (B, candidates), sorted
        share = (best - total).exp().cumsum(-1)
        if not bool((share[:, -1] >= self.top_p).all()):
            best, indices = logits.sort(descending=True)
            share = (best - total).exp().cumsum(-1)
        # A token stays while those before it sum to less than p, so the first always stays.
        enough = torch.zeros_like(share, dtype=torch.bool)
        enough[:, 1:] = share[:, :-1] >= self.top_p
        return torch.full_like(logits, -math.inf).scatter(-1, indices, best.masked_fill(enough, -math.inf))


class MinP(LogitsProcessor):
    """Keeps tokens at least `min_p` times as likely as the most likely one (min-p sampling).

    Nguyen et al., "Turning Up the Heat: Min-p Sampling", 2024 (arXiv:2407.01082).

    Args:
        min_p: from 0 (keeps all) to 1 (keeps the most likely).
    """

    def __init__(self, min_p: float = 0.05) -> None:
        if not 0 <= min_p <= 1:
            raise UserError(f"min_p is {min_p}; give a share from 0 to 1, such as 0.05, or omit it")
        self.min_p = min_p

    def __call__(self, logits: Tensor, ids: Tensor) -> Tensor:
        if self.min_p == 0:
            return logits
        # p >= min_p * p_max in logits, where the softmax normalization cancels
        return logits.masked_fill(logits < logits.amax(-1, keepdim=True) + math.log(self.min_p), -math.inf)


class RepetitionPenalty(LogitsProcessor):
    """Lowers the logits of tokens that occurred already: positive ones are divided, negative ones multiplied.

    Keskar et al., "CTRL: A Conditional Transformer Language Model", 2019 (arXiv:1909.05858), section 4.1.

    Args:
        repetition_penalty: 1 changes nothing, 1.1 to 1.3 is usual, below 1 invites repetition.
    """

    samples = False

    def __init__(self, repetition_penalty: float = 1.1) -> None:
        if not (math.isfinite(repetition_penalty) and repetition_penalty > 0):
            raise UserError(f"repetition_penalty is {repetition_penalty}; give a positive number, 1 for none")
        self.repetition_penalty = repetition_penalty

    def __call__(self, logits: Tensor, ids: Tensor) -> Tensor:
        # Padding points at each row's last token, which occurred anyway: no mask of (B, V) is needed.
        seen = torch.where(ids < 0, ids[:, -1:], ids)
        score = logits.gather(-1, seen)
        score = torch.where(score > 0, score / self.repetition_penalty, score * self.repetition_penalty)
        return logits.scatter(-1, seen, score)


class SuppressTokens(LogitsProcessor):
    """Excludes tokens by id, such as the rows that pad the embedding to a round size.

    Args:
        ids: token ids that are never sampled.
    """

    samples = False

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self.ids = sorted(set(ids))
        if self.ids and self.ids[0] < 0:
            raise UserError(f"ids holds {self.ids[0]}; token ids start at 0")

    def __call__(self, logits: Tensor, ids: Tensor) -> Tensor:
        if not self.ids:
            return logits
        if self.ids[-1] >= logits.shape[-1]:
            raise UserError(f"ids holds {self.ids[-1]}; the vocabulary ends at {logits.shape[-1] - 1}")
        return logits.index_fill(-1, torch.tensor(self.ids, device=logits.device), -math.inf)


def keep(logits: Tensor, indices: Tensor) -> Tensor:
    """Return logits (B, V) with `-inf` everywhere but at indices (B, k)."""
    return torch.full_like(logits, -math.inf).scatter(-1, indices, logits.gather(-1, indices))


def build_logits_processors(
    temperature: float = 0.8,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
) -> list[LogitsProcessor]:
    """Return the logits processors in the order of transformers: penalty, temperature, top-k, top-p, min-p.

    With temperature 0 only the penalty is left, so decoding is greedy; the other values are checked all the same.
    """
    penalty, sampling = RepetitionPenalty(repetition_penalty), [Temperature(temperature)]
    for processor, value in ((TopK, top_k), (TopP, top_p), (MinP, min_p)):
        if value is not None:
            sampling.append(processor(value))  # type: ignore[arg-type]
    return [*([penalty] if repetition_penalty != 1 else []), *(sampling if temperature > 0 else [])]
