"""TokenData: text to batches, as Lightning asks for them.

Knows: sources, tokenizers, corpora, rows, orders, ranks, how far training has come. Does not know: models, losses.

An epoch is one pass over the training rows. Its last batches are filled up with empty rows (all targets -100), so
that each rank has equally many full batches and each token but the first is a target exactly once.
"""

import os
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule

from lit_gpt.config.factories import as_list, unwrap
from lit_gpt.data import choices as choices
from lit_gpt.data.augment.augment import Augment, check_order
from lit_gpt.data.corpus.corpus import Corpus
from lit_gpt.data.corpus.engines import Engine
from lit_gpt.data.corpus.prepare import prepare
from lit_gpt.data.corpus.prepared import Prepared
from lit_gpt.data.corpus.recipe import TEST, TRAIN, VAL, Fractions, Recipe, SplitBy
from lit_gpt.data.filters.filter import Filter
from lit_gpt.data.fingerprints import fingerprints, refuse_changes
from lit_gpt.data.formats.format import Format, PlainText
from lit_gpt.data.progress import say
from lit_gpt.data.samplers.loading import BatchLoader, Ordered, load
from lit_gpt.data.samplers.samplers import RankBatches, Sampler, Sequential, Shuffled, Slots
from lit_gpt.data.samplers.skipping import SkippedBatches
from lit_gpt.data.samplers.training_position import EpochShape, TrainingPosition
from lit_gpt.data.sequences.datasets import Batch, Sequences, Windows
from lit_gpt.data.sequences.showing import sampled, shown
from lit_gpt.data.sizes import check_sizes, check_workers
from lit_gpt.data.sources.source import Source
from lit_gpt.data.sources.standard_library import StandardLibrary
from lit_gpt.data.tokenizers.bpe import BPE
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.data.training import limited_batches, ranks, set_batches_done, trained_batches
from lit_gpt.errors import UserError

__all__ = ["Batch", "TokenData"]

NewSource = Callable[[], Source]
NewTokenizer = Callable[[], Tokenizer]
NewSequences = Callable[[Corpus, int], Sequences]
NewSampler = Callable[[], Sampler]
NewAugment = Callable[[], Augment]
NewFormat = Callable[[], Format]
NewFilter = Callable[[], Filter]


class TokenData(LightningDataModule):
    """Text, tokenized once and kept on disk, as batches of rows for training, validation and testing.

    Args:
        source: Where the text comes from.
        tokenizer: How it becomes ids; it learns from the training split (Char from all text) unless it is a saved one.
        folder: Where the ids are kept; by default in the user's cache, in a folder named by the text and the tokenizer.
        context: Tokens in a row; by default what the net can see at once.
        batch_size: Rows in a batch of one process; TokenBudget goes by tokens instead.
        val_batch_size: The same for validation and test; by default batch_size.
        val_fraction: Share of the text for validation, unless val_source is given.
        test_fraction: Share of the text for testing, unless test_source is given.
        split_by: position: the first part of all characters is for training, the next for validation, the last for
            testing, and a document may be cut. document: whole documents, for each split evenly through the text.
            hash: whole documents, each by a hash of its text. By default document from 20 documents on, else position.
        val_source: Validation text of its own.
        test_source: Test text of its own.
        extra_val: Further validation texts by name, each with a loss of its own.
        vocab_size: Ids that the net has; by default those of the tokenizer, rounded up to a multiple of 64.
        sampler: In which order the rows are taken for training.
        seed: Of the order; by default that of seed_everything.
        num_workers: Processes that read ahead; reading is fast enough to need none, unless augment is not.
        format: How a document is laid out: as plain text, or a record as a conversation, a task, a gap to be filled.
        filters: What leaves documents out of the source's text, in turn; own validation and test texts stay whole.
        add_tokens: Texts that become one id each wherever they are spelled in the text, such as the markers of a chat;
            BPE and Pretrained take them, a net that is started from another grows for them.
        sequences: How the text becomes rows: windows over all of it, whole documents packed, or a record a row.
        augment: What is changed at random in training batches, in turn; nothing by default.
        allow_changed_text: Resume although the text or the tokenizer is not what the run was trained on so far.
    """

    __str__ = object.__str__  # Lightning's own makes all loaders, and jsonargparse asks for it to tell of an error

    def __init__(
        self,
        source: NewSource = StandardLibrary,
        tokenizer: NewTokenizer = BPE,
        folder: str | None = None,
        context: int | None = None,
        batch_size: int = 16,
        val_batch_size: int | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.0,
        split_by: SplitBy | None = None,
        val_source: NewSource | None = None,
        test_source: NewSource | None = None,
        extra_val: dict[str, NewSource] | None = None,
        vocab_size: int | None = None,
        sampler: NewSampler = Shuffled,
        seed: int | None = None,
        num_workers: int = 0,
        add_tokens: list[str] | None = None,
        format: NewFormat = PlainText,
        filters: list[NewFilter] | NewFilter | None = None,
        sequences: NewSequences = Windows,
        augment: list[NewAugment] | NewAugment | None = None,
        allow_changed_text: bool = False,
    ) -> None:
        super().__init__()
        source, tokenizer, format, sequences, sampler = unwrap([source, tokenizer, format, sequences, sampler])
        val_source, test_source, extra_val, filters = unwrap([val_source, test_source, extra_val, filters])
        check_sizes(context=context, batch_size=batch_size, val_batch_size=val_batch_size, vocab_size=vocab_size)
        check_workers(num_workers)
        Fractions(val_fraction, test_fraction).check()
        self._source, self._new_tokenizer, self.folder = source, tokenizer, folder
        self.add_tokens = list(add_tokens or [])
        self._context, self.batch_size, self.val_batch_size = context, batch_size, val_batch_size or batch_size
        self._shares, self._split_by = Fractions(val_fraction, test_fraction), split_by
        self._val_source, self._test_source, self._extra_val = val_source, test_source, extra_val or {}
        self.asked_vocab_size, self.sampler, self.num_workers = vocab_size, sampler(), num_workers
        self._format, self._filters = format, as_list(filters)
        self._new_sequences, self._augment = sequences, [new() for new in as_list(unwrap(augment))]
        check_order(self._augment)
        self._sequences: dict[str, Sequences] = {}
        self._drawn: Sequences | None = None
        self._prepared: Prepared | None = None
        self.engine: Engine | None = None  # who tokenizes, where the caller wants another than the usual
        self._position = TrainingPosition()
        # Now, not when training asks: a build() in between seeds for itself.
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed  # of order and augmentations
        self.allow_changed_text, self.skip = allow_changed_text, SkippedBatches()
        self.val_names = ["", *self._extra_val]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "trainer": None}  # copies and pickles belong to no trainer

    def adopt(self, tokenizer: Tokenizer) -> None:
        """Takes a trained tokenizer, that of a checkpoint, in place of the one to be trained."""
        self._new_tokenizer, self._prepared, self._sequences, self._drawn = tokenizer, None, {}, None

    # -- what others ask ---------------------------------------------------------------------------------------------

    @property
    def prepared(self) -> Prepared:
        """Tokenizer and corpora; made on first use, by one process for all."""
        if self._prepared is None:
            self._prepared = prepare(self.recipe(), self.folder, self.engine)
        return self._prepared

    def recipe(self) -> Recipe:
        """All that decides which ids are written, made anew."""
        return Recipe(
            source=self._source(),
            tokenizer=self._made_tokenizer(),
            shares=self._shares,
            split_by=self._split_by,
            val_source=self._val_source() if self._val_source else None,
            test_source=self._test_source() if self._test_source else None,
            extra_val={name: source() for name, source in self._extra_val.items()},
            format=self._format(),
            filters=[new() for new in self._filters],
        )

    def _made_tokenizer(self) -> Tokenizer:
        tokenizer = self._new_tokenizer()
        if self.add_tokens:
            tokenizer.add_tokens(self.add_tokens)
        return tokenizer

    @property
    def tokenizer(self) -> Tokenizer:
        """The trained tokenizer."""
        return self.prepared.tokenizer

    @property
    def format(self) -> Format:
        """How each document is laid out, ready for the tokenizer."""
        return self._format().for_tokenizer(self.tokenizer)

    @property
    def vocab_size(self) -> int:
        """Ids that the net has to have: the argument, else the tokenizer's rounded up to a multiple of 64."""
        return self.rows_for(self.tokenizer)

    def rows_for(self, tokenizer: Tokenizer) -> int:
        """Ids that a net for this tokenizer has to have: `vocab_size` as it was given, else a multiple of 64.

        Raises:
            UserError: what was given is too few.
        """
        needed = tokenizer.vocab_size
        if self.asked_vocab_size is None:
            return -(-needed // 64) * 64
        if self.asked_vocab_size < needed:
            raise UserError(
                f"vocab_size {self.asked_vocab_size} is less than the tokenizer's {needed} ids;"
                " raise it or leave it out"
            )
        return self.asked_vocab_size

    @property
    def context(self) -> int:
        """Tokens in a row."""
        if self._context is None and self.trainer is not None and self.trainer.lightning_module is not None:
            self._context = getattr(getattr(self.trainer.lightning_module, "net", None), "context", None)
        if self._context is None:
            raise UserError("context of the data is not known; give data.context, such as 256")
        return self._context

    @property
    def train_tokens(self) -> int:
        """Tokens in the training split."""
        return len(self.corpus(TRAIN))

    @property
    def val_tokens(self) -> int:
        """Tokens in the main validation split."""
        return len(self.corpus(VAL))

    @property
    def batch_tokens(self) -> int:
        """Places for tokens in a training batch of one process, at most."""
        return self.sampler.tokens or self.batch_size * self.context

    @property
    def windows_per_epoch(self) -> int:
        """Training rows in one pass."""
        return len(self.sequences(TRAIN))

    @property
    def slots_per_epoch(self) -> int:
        """Places in the training order in one pass: one for each row, or for each batch of an order of batches."""
        self._opened()
        return self.sampler.slots(self.windows_per_epoch)

    def batches_per_epoch(self, world: int = 1) -> int:
        """Batches of each rank in one pass."""
        return len(RankBatches(self.slots_per_epoch, self._slots, world))

    def sequences(self, split: str) -> Sequences:
        """The rows of a text, by its name as for `corpus`."""
        if split not in self._sequences:
            self._sequences[split] = self._new_sequences(self.corpus(split), self.context)
        return self._sequences[split]

    def notes(self) -> list[str]:
        """What rows and augmentations cut, drop or fill up, counted; a line each."""
        notes = [
            note if split == TRAIN else f"{split}: {note}"
            for split in self._splits()
            for note in self.sequences(split).notes()
        ]
        sample = sampled(self._opened())
        return notes + [note for augment in self._augment for note in augment.notes(sample)]

    def corpus(self, split: str) -> Corpus:
        """The ids of train, val, test or of an extra validation text by its name."""
        corpora = self.prepared.corpora
        found = corpora.get(split) or corpora.get(f"extra/{split}")
        if found is None:
            raise UserError(f"there is no text {split!r} in the data; there are {', '.join(corpora)}")
        return found

    def bytes_scored(self, name: str = "") -> int:
        """UTF-8 bytes of a validation text that are scored, by its name in `val_names` ("test" for the test split).

        From the counts of the documents, so right for tokenizers that lose text too; what no row has as a target, such
        as the first token, is left out.
        """
        return self.sequences(name or VAL).scored_bytes(self.tokenizer)

    def describe_batch(self, rows: int = 2) -> str:
        """The first rows of the first training batch, decoded, with targets and segments, as the net sees them."""
        batch = self._ordered()[Slots(0, range(1 if self.sampler.whole_batches else rows))]
        return "\n".join(
            line for row in range(min(rows, len(batch.inputs))) for line in shown(self.tokenizer, batch, row)
        )

    # -- how far training has come -----------------------------------------------------------------------------------

    @property
    def consumed(self) -> int:
        """Slots of the training order that all ranks together have trained on, empty ones included."""
        return self._position.consumed(trained_batches(self.trainer), self._epoch_shape())

    @consumed.setter
    def consumed(self, slots: int) -> None:
        self._position.begin(slots, trained_batches(self.trainer), self._epoch_shape())

    def position(self) -> tuple[int, int]:
        """Epoch and slot of the next batch."""
        return self._position.position(trained_batches(self.trainer), self._epoch_shape())

    @property
    def next_batch(self) -> int:
        """Number of the next batch in the training order, over all epochs; the first is 1."""
        shape = self._epoch_shape()
        epoch, slot = self.position()
        return epoch * shape.batches + slot // shape.batch + 1

    def state_dict(self) -> dict[str, Any]:
        """How far training has come, in numbers that mean the same for any number of ranks; and on which text."""
        return self._position.state(trained_batches(self.trainer), self._epoch_shape()) | {
            "fingerprints": fingerprints(self)
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state_dict` was taken; refuses where that was on other text, unless `allow_changed_text`."""
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return  # measured on other rows, perhaps, and not gone on with
        refuse_changes(self, state.get("fingerprints", {}))
        note = self._position.go_on(state, self._epoch_shape())
        if note and (self.trainer is None or self.trainer.is_global_zero):
            say(f"this resume is not exact: {note}")

    def _epoch_shape(self) -> EpochShape:
        world = self._ranks()[0]
        batches = limited_batches(self.batches_per_epoch(world), self.trainer)
        return EpochShape(self.slots_per_epoch, self._slots * world, batches, type(self.sampler).__name__)

    @property
    def _slots(self) -> int:
        """Slots of the training order in a batch of one process."""
        return 1 if self.sampler.whole_batches else self.batch_size

    def _ranks(self) -> tuple[int, int]:
        return ranks(self.trainer)

    # -- what Lightning calls ----------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Makes the corpora; only for their files."""
        _ = self.prepared

    def setup(self, stage: str | None = None) -> None:
        """Refuses texts that are too short, before anything is trained; says what was cut or dropped."""
        texts = [name for name in self._splits() if name != TRAIN or stage in (None, "fit")]
        for name in texts:
            shortage = self.sequences(name).shortage() if name == TRAIN else None
            if len(self.corpus(name)) < 2:
                shortage = "has fewer than 2 tokens, so nothing can be predicted; give more of it, or a larger fraction"
            elif not len(self.sequences(name)):
                shortage = self.sequences(name).shortage()
            if shortage:
                raise UserError(f"the {'training text' if name == TRAIN else f'text {name!r}'} {shortage}")
        if stage in (None, "fit"):
            self._opened()
        if stage == "fit" and (self.trainer is None or self.trainer.is_global_zero):
            dropped = [f"dropped: {line}" for line in self.prepared.dropped()]
            for note in [*dropped, *(f"text: {line}" for line in self.prepared.notes()), *self.notes()]:
                say(note)

    def _splits(self) -> list[str]:
        return [TRAIN, VAL, *self._extra_val, *([TEST] if TEST in self.prepared.corpora else [])]

    def train_dataloader(self) -> BatchLoader:
        """Batches, from where training stands."""
        shape = self._epoch_shape()
        done = self._position.done(shape)
        if done is not None and self.trainer is not None:
            set_batches_done(self.trainer, done, done == shape.batches)
        ordered, frozen = self._ordered(), getattr(self.trainer, "overfit_batches", 0) > 0
        begin, (world, rank) = self.position(), self._ranks()
        size, skip = ordered.epoch_size, self.skip
        batches = RankBatches(size, self._slots, world, rank, begin, frozen, skip, shape.batches)
        return load(ordered, batches, self.num_workers)

    def val_dataloader(self) -> list[BatchLoader]:
        """One loader for each of `val_names`."""
        return [self._evaluation(name or VAL) for name in self.val_names]

    def test_dataloader(self) -> BatchLoader:
        """Batches of the test split."""
        if TEST not in self.prepared.corpora:
            raise UserError("there is no test text; give data.test_source, or train with data.test_fraction")
        return self._evaluation(TEST)

    def _evaluation(self, split: str) -> BatchLoader:
        sequences = self.sequences(split)
        return load(
            Ordered(sequences, Sequential()),
            RankBatches(len(sequences), self.val_batch_size, *self._ranks()),
            self.num_workers,
        )

    def _ordered(self) -> Ordered:
        """The training rows in their order, with what is changed in them."""
        return Ordered(self._opened(), self.sampler, self.seed, self.slots_per_epoch, self._augment)

    def _opened(self) -> Sequences:
        """The training rows that the order draws from; order and augmentations have looked at them."""
        if self._drawn is None:
            sequences = self.sequences(TRAIN)
            drawn = sequences.every_start() if self.sampler.every_start else sequences
            self.sampler.open(drawn)
            for augment in self._augment:
                augment.open(self.tokenizer)
            self._drawn = drawn
        return self._drawn
