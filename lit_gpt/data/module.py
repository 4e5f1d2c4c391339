"""TokenData: the LightningDataModule that makes batches of text.

Texts and tokenizer are in `prepared_text.py`, what is printed in `reporting.py`, the position in the training order in
`samplers/training_position.py`.

An epoch is one pass over the training sequences. Its last batches are padded with empty ones (all targets -100), so
that each rank has the same number of full batches and each token but the first is a target exactly once.
"""

import os
from collections.abc import Callable
from typing import Any

from lightning.pytorch import LightningDataModule

from lit_gpt.config.factories import as_list, unwrap
from lit_gpt.data.augment.augment import Augment, check_order
from lit_gpt.data.corpus.corpus import Corpus
from lit_gpt.data.corpus.recipe import TEST, TRAIN, VAL, Fractions, SplitBy
from lit_gpt.data.filters.filter import Filter
from lit_gpt.data.fingerprints import fingerprints, refuse_changes
from lit_gpt.data.formats.format import Format, PlainText
from lit_gpt.data.prepared_text import PreparedText
from lit_gpt.data.progress import say
from lit_gpt.data.reporting import check_lengths, report
from lit_gpt.data.samplers.loading import BatchLoader, SampledSequences, load
from lit_gpt.data.samplers.samplers import RankBatches, Sampler, Sequential, Shuffled
from lit_gpt.data.samplers.skipping import SkippedBatches
from lit_gpt.data.samplers.training_position import EpochShape, TrainingPosition
from lit_gpt.data.sequences.datasets import Batch, Sequences, Windows
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
        fractions, extra_val = Fractions(val_fraction, test_fraction), extra_val or {}
        fractions.check()
        parts = {"source": source, "format": format, "val_source": val_source, "test_source": test_source}
        constants = {"shares": fractions, "split_by": split_by}
        self.text = PreparedText(
            tokenizer, list(add_tokens or []), vocab_size, folder, parts, extra_val, as_list(filters), constants
        )
        self._context, self.batch_size, self.val_batch_size = context, batch_size, val_batch_size or batch_size
        self.sampler, self.num_workers = sampler(), num_workers
        self._new_sequences, self._augment = sequences, [new() for new in as_list(unwrap(augment))]
        check_order(self._augment)
        self._sequences: dict[str, Sequences] = {}
        self._training: SampledSequences | None = None
        self._position = TrainingPosition()
        # Now, not when training asks: a build() in between seeds for itself.
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed  # of sampler and augmentations
        self.allow_changed_text, self.skip = allow_changed_text, SkippedBatches()
        self.val_names = ["", *extra_val]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "trainer": None}  # copies and pickles belong to no trainer

    def use_tokenizer(self, tokenizer: Tokenizer) -> None:
        """Takes a trained tokenizer, such as a checkpoint's, instead of training one."""
        self.text.use_tokenizer(tokenizer)
        self._sequences, self._training = {}, None

    # -- texts and sizes ---------------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Tokenizer:
        """The trained tokenizer."""
        return self.text.tokenizer

    @property
    def format(self) -> Format:
        """The format of the documents, with what it takes from the tokenizer."""
        return self.text.format

    @property
    def vocab_size(self) -> int:
        """Token ids of the net: the argument, else the tokenizer's rounded up to a multiple of 64."""
        return self.text.vocab_size(self.tokenizer)

    @property
    def context(self) -> int:
        """Context length in tokens: the argument, else the net's."""
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
        """Most tokens in a training batch of one process, padding included."""
        return self.sampler.tokens or self.batch_size * self.context

    def corpus(self, split: str) -> Corpus:
        """The token ids of train, val, test or of a further validation text by its name."""
        return self.text.corpus(split)

    def sequences(self, split: str) -> Sequences:
        """The sequences of a text, by its name as for `corpus`."""
        if split not in self._sequences:
            self._sequences[split] = self._new_sequences(self.corpus(split), self.context)
        return self._sequences[split]

    def training_samples(self) -> SampledSequences:
        """The training sequences in the sampler's order, with augmentations."""
        if self._training is None:
            whole = self.sequences(TRAIN)
            sequences = whole.every_start() if self.sampler.every_start else whole
            self.sampler.open(sequences)
            epoch_size = self.sampler.slots(len(whole))
            for augment in self._augment:
                augment.open(self.tokenizer)
            self._training = SampledSequences(sequences, self.sampler, self.seed, epoch_size, self._augment)
        return self._training

    # -- position in the training order ------------------------------------------------------------------------------

    def batches_per_epoch(self, world: int = 1) -> int:
        """Batches of each rank in one epoch."""
        samples = self.training_samples()
        return len(RankBatches(samples.epoch_size, samples.per_batch(self.batch_size), world))

    def position(self) -> tuple[int, int]:
        """Epoch and sample index of the next batch."""
        return self._position.position(trained_batches(self.trainer), self._epoch_shape())

    @property
    def next_batch(self) -> int:
        """Number of the next batch in the training order, over all epochs; the first is 1."""
        shape = self._epoch_shape()
        epoch, slot = self.position()
        return epoch * shape.batches + slot // shape.batch + 1

    def _epoch_shape(self) -> EpochShape:
        world, samples = self._ranks()[0], self.training_samples()
        batches = limited_batches(self.batches_per_epoch(world), self.trainer)
        per_batch = samples.per_batch(self.batch_size) * world
        return EpochShape(samples.epoch_size, per_batch, batches, type(self.sampler).__name__)

    def _ranks(self) -> tuple[int, int]:
        return ranks(self.trainer)

    # -- Lightning hooks ---------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Position in the training order, in numbers that mean the same for any number of ranks, and fingerprints."""
        position = self._position.state(trained_batches(self.trainer), self._epoch_shape())
        return position | {"fingerprints": fingerprints(self)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues at the position of `state_dict`.

        Raises:
            UserError: The text or the tokenizer has changed and `allow_changed_text` is not set.
        """
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return  # validation does not continue training, and may use another text
        refuse_changes(self, state.get("fingerprints", {}))
        note = self._position.go_on(state, self._epoch_shape())
        if note and (self.trainer is None or self.trainer.is_global_zero):
            say(f"this resume is not exact: {note}")

    def prepare_data(self) -> None:
        """Prepares the corpora."""
        _ = self.text.prepared

    def setup(self, stage: str | None = None) -> None:
        """Checks that each text is long enough, before training; reports what was dropped or truncated."""
        check_lengths(self, training=stage in (None, "fit"))
        if stage in (None, "fit"):
            self.training_samples()
        if stage == "fit" and (self.trainer is None or self.trainer.is_global_zero):
            report(self)

    def train_dataloader(self) -> BatchLoader:
        """Training batches, from the position on."""
        shape, samples = self._epoch_shape(), self.training_samples()
        done = self._position.done(shape)
        if done is not None and self.trainer is not None:
            set_batches_done(self.trainer, done, done == shape.batches)
        frozen = getattr(self.trainer, "overfit_batches", 0) > 0
        size, (world, rank) = samples.per_batch(self.batch_size), self._ranks()
        batches = RankBatches(samples.epoch_size, size, world, rank, self.position(), frozen, self.skip, shape.batches)
        return load(samples, batches, self.num_workers)

    def val_dataloader(self) -> list[BatchLoader]:
        """One loader for each of `val_names`."""
        return [self._evaluation_loader(name or VAL) for name in self.val_names]

    def test_dataloader(self) -> BatchLoader:
        """Batches of the test split."""
        if TEST not in self.text.prepared.corpora:
            raise UserError("there is no test text; give data.test_source, or train with data.test_fraction")
        return self._evaluation_loader(TEST)

    def _evaluation_loader(self, split: str) -> BatchLoader:
        sequences = self.sequences(split)
        batches = RankBatches(len(sequences), self.val_batch_size, *self._ranks())
        return load(SampledSequences(sequences, Sequential()), batches, self.num_workers)
