"""Curriculum learning: easy sequences first, and sequence length warm-up."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lit_gpt.data.samplers.samplers import Sampler, mixed, permuted
from lit_gpt.data.sequences.datasets import Sequences
from lit_gpt.errors import UserError


class Difficulty(ABC):
    """The base of difficulty measures. A subclass implements `of_documents`."""

    def __call__(self) -> "Difficulty":
        """Returns self, so that an instance works as a factory."""
        return self

    @abstractmethod
    def of_documents(self, sequences: Sequences) -> np.ndarray:
        """A number for each document of the corpus; larger is harder."""


class ByLength(Difficulty):
    """Difficulty is the number of tokens of a document."""

    def of_documents(self, sequences: Sequences) -> np.ndarray:
        return np.diff(np.asarray(sequences.corpus.offsets)).astype(np.float64)


class ByScore(Difficulty):
    """Difficulty is read from a file.

    Args:
        path: A number for each document of the training split, in its order: text with one a line, or .npy.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def of_documents(self, sequences: Sequences) -> np.ndarray:
        file, wanted = Path(self.path).expanduser(), len(sequences.corpus.offsets) - 1
        try:
            scores = np.load(file, allow_pickle=False) if file.suffix == ".npy" else _lines(file)
        except (OSError, ValueError) as error:
            raise UserError(f"the scores {file} of ByScore cannot be read ({error})") from None
        if scores.shape != (wanted,):
            raise UserError(
                f"{file} of ByScore holds {scores.size} scores, the training text has {wanted} documents; give one each"
            )
        if not np.issubdtype(scores.dtype, np.number) or not np.isfinite(scores).all():
            raise UserError(
                f"{file} of ByScore has scores that are not finite numbers; give a number for each document"
            )
        return scores.astype(np.float64)


class Curriculum(Sampler):
    """Easy sequences before hard ones in the first epochs, shuffled within stages; each once an epoch.

    Bengio et al. 2009, "Curriculum learning". With a start_context, sequences are also split into shorter ones with the
    same tokens at first: sequence length warm-up, Li et al. 2021 (arXiv:2108.06084). No token is dropped; all batches
    of a step have the context of its first sample.

    Args:
        by: Difficulty of a document; a sequence has the mean of its documents. null shuffles from the beginning.
        epochs: Epochs with easy sequences first; later ones are shuffled.
        stages: Stages of an epoch.
        start_context: Length of sequences at the beginning, in tokens; it doubles until it reaches the context. null
            uses the context from the beginning.
        grow_epochs: Epochs in which the length grows, in stages of equal length; may be a fraction.
    """

    def __init__(
        self,
        by: Callable[[], Difficulty] | None = ByLength,
        epochs: int = 1,
        stages: int = 8,
        start_context: int | None = None,
        grow_epochs: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value in (("epochs", epochs), ("stages", stages), ("start_context", start_context)):
            if value is not None and value < 1:
                raise UserError(f"{name} {value} of Curriculum is not a positive number; give at least 1")
        if grow_epochs <= 0:
            raise UserError(f"grow_epochs {grow_epochs} of Curriculum is not positive; give a number of epochs above 0")
        self.by, self.epochs, self.stages = None if by is None else by(), epochs, stages
        self.start_context, self.grow_epochs = start_context, grow_epochs
        self._easiest_first = np.empty(0, np.int64)
        self._contexts: list[int] = []
        self._slots = 0

    def open(self, sequences: Sequences) -> None:
        super().open(sequences)
        self._slots = len(sequences)
        if self.by is not None:
            harder = sequences.averaged(self.by.of_documents(sequences))
            self._easiest_first = np.argsort(harder, kind="stable")
        if self.start_context is not None:
            self._contexts = self._growing(sequences, self.start_context)

    def _growing(self, sequences: Sequences, context: int) -> list[int]:
        if sequences.lengths() is not None:
            raise UserError(
                f"start_context of Curriculum needs equally long sequences, not {type(sequences).__name__}; remove it"
            )
        contexts = [context]
        while contexts[-1] < sequences.context:
            contexts.append(2 * contexts[-1])
        if contexts[-1] != sequences.context:
            halves = [sequences.context >> power for power in (1, 2, 3) if sequences.context % (1 << power) == 0]
            would_do = " or ".join(map(str, halves)) or f"{sequences.context}, or another data.context"
            raise UserError(
                f"start_context {context} of Curriculum, doubled again and again, does not reach the context of"
                f" {sequences.context}; give {would_do}"
            )
        return contexts

    def block(self, seed: int, epoch: int, slots: np.ndarray, count: int) -> np.ndarray:
        if self.by is None or epoch >= self.epochs:
            return permuted(slots, count, mixed(seed, epoch)).astype(np.int64)
        edges = np.arange(self.stages + 1, dtype=np.int64) * count // self.stages
        places = slots.astype(np.int64)
        bands = np.searchsorted(edges, places, side="right") - 1
        numbers = np.empty_like(places)
        for band in np.unique(bands).tolist():
            inside, first, last = bands == band, int(edges[band]), int(edges[band + 1])
            shuffled = permuted((places[inside] - first).astype(np.uint64), last - first, mixed(seed, epoch, 1 + band))
            numbers[inside] = self._easiest_first[first + shuffled.astype(np.int64)]
        return numbers

    def context_at(self, epoch: int, slot: int) -> int | None:
        if not self._contexts:
            return None
        done = (epoch + slot / max(self._slots, 1)) / self.grow_epochs
        return self._contexts[min(int(done * len(self._contexts)), len(self._contexts) - 1)]


def _lines(file: Path) -> np.ndarray:
    scores = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            scores.append(float(line))
        except ValueError:
            raise UserError(f"{file}:{number} of ByScore is not a number: {line[:40]!r}") from None
    return np.array(scores)
