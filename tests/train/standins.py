"""A data module and a tokenizer small enough to reason about by hand."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import lightning.pytorch as lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lit_gpt.model import GPT
from lit_gpt.train.module import LitGPT
from lit_gpt.train.schedules import WarmupLinear

VOCABULARY = 32


class Batch(NamedTuple):
    """As the data module's, with its field names."""

    inputs: Tensor
    targets: Tensor
    segments: Tensor | None = None


class Letters:
    """One id a byte; id 0 is special."""

    bos: int | None = None
    vocab_size = VOCABULARY

    def byte_lengths(self) -> list[int]:
        return [0] + [1 + i % 3 for i in range(1, VOCABULARY)]

    def state(self) -> dict[str, Any]:
        return {"class_path": "letters"}

    def encode(self, text: str) -> list[int]:
        return [1 + ord(c) % (VOCABULARY - 1) for c in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(96 + i) for i in ids)


class Rows(Dataset):
    """Row k is a function of (seed, k) alone: a noisy arithmetic sequence, learnable; some targets are not scored."""

    def __init__(self, count: int, context: int, seed: int, masked: bool) -> None:
        self.count, self.context, self.seed, self.masked = count, context, seed, masked

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, k: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(self.seed * 100_003 + k)
        start, stride = torch.randint(1, VOCABULARY, (2,), generator=draw)
        ids = (start + (1 + stride % 3) * torch.arange(self.context + 1)) % VOCABULARY
        targets = ids[1:].clone()
        if self.masked:
            targets[: int(torch.randint(0, self.context // 2, (), generator=draw))] = -100
        return ids[:-1], targets


class Turns(Sampler[int]):
    """Row indices of one rank from `first` on, in order."""

    def __init__(self, count: int, first: int, rank: int, world: int) -> None:
        self.count, self.first, self.rank, self.world = count, first, rank, world

    def __iter__(self) -> Iterator[int]:
        first, self.first = self.first, 0  # the next epoch begins at its beginning
        return iter(range(first + self.rank, self.count, self.world))

    def __len__(self) -> int:  # of a whole epoch, as Lightning counts
        return self.count // self.world


def collate(rows: list[tuple[Tensor, Tensor]]) -> Batch:
    return Batch(torch.stack([r[0] for r in rows]), torch.stack([r[1] for r in rows]))


def loader(rows: Rows, batch_size: int, turns: Turns) -> DataLoader:
    # Without a generator of its own, each new iterator would draw from the global one, which dropout draws from.
    own = torch.Generator().manual_seed(0)
    return DataLoader(rows, batch_size, sampler=turns, collate_fn=collate, generator=own)


class TinyData(lightning.LightningDataModule):
    """Rows in order, from where the trainer stands."""

    def __init__(self, batch_size: int = 4, context: int = 16, rows: int = 64, masked: bool = False) -> None:
        super().__init__()
        self.batch_size, self.context, self.rows, self.masked = batch_size, context, rows, masked
        self.tokenizer = Letters()
        self.val_names = [""]
        self.train_tokens, self.val_tokens = rows * context, 16 * context

    def batches_per_epoch(self, world: int) -> int:
        return -(-self.rows // (self.batch_size * world))

    def train_dataloader(self) -> DataLoader:
        world, rank = self.trainer.world_size, self.trainer.global_rank
        done = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed % self.batches_per_epoch(world)
        first = done * self.batch_size * world
        turns = Turns(self.rows, first, rank, world)
        return loader(Rows(self.rows, self.context, 1, self.masked), self.batch_size, turns)

    def val_dataloader(self) -> DataLoader:
        world, rank = self.trainer.world_size, self.trainer.global_rank
        turns = Turns(16, 0, rank, world)
        return loader(Rows(16, self.context, 2, self.masked), 5, turns)


def tiny(dropout: float = 0.0, seed: int = 0, context: int = 16, **options: Any) -> LitGPT:
    """A net of 7,000 parameters and how it learns."""
    net = GPT(VOCABULARY, width=16, depth=2, heads=2, context=context, dropout=dropout, seed=seed)
    options.setdefault("schedule", lambda optimizer, steps: WarmupLinear(optimizer, steps, warmup_steps=2))
    return LitGPT(net, **options)


def trainer(**options: Any) -> lightning.Trainer:
    """A quiet Trainer on the CPU."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    settings = {"accelerator": "cpu", "max_steps": 8, "num_sanity_val_steps": 0, "use_distributed_sampler": False}
    if "logger" in options:
        del quiet["logger"]
    return lightning.Trainer(**(quiet | settings | options))  # type: ignore[arg-type]
