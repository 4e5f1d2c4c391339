"""TokenData under Lightning's own Trainer: which tokens are trained on, epoch by epoch, and after a resume."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lit_gpt.__main__ import main
from lit_gpt.data import (
    BPE,
    Batch,
    Byte,
    Char,
    RandomCrops,
    Sequential,
    Shuffled,
    StandardLibrary,
    TextFiles,
    TokenData,
)
from lit_gpt.data.reporting import describe_batch
from lit_gpt.data.sequences.datasets import IGNORED
from lit_gpt.data.training import batches_done
from lit_gpt.errors import UserError
from lit_gpt.model import GPT
from lit_gpt.train.module import LitGPT
from lit_gpt.train.summary import rows


class Recorder(LightningModule):
    """A model that only writes down what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[list[int]]] = []
        self.validated: dict[int, list[Batch]] = {}

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        assert isinstance(batch, Batch)
        self.seen.append(batch.targets.tolist())
        return self.weight * 1.0

    def validation_step(self, batch: Batch, index: int, dataloader_idx: int = 0) -> None:
        self.validated.setdefault(dataloader_idx, []).append(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def begin_at(one: TokenData, epoch: int, slot: int) -> None:
    """Continues at a sample of an epoch."""
    one.load_state_dict({"epoch": epoch, "slot": slot, "batches": 0})


class SaveAt(Callback):
    """Saves after given numbers of batches, wherever they fall."""

    def __init__(self, folder: Path, batches: set[int]) -> None:
        self.folder, self.batches, self.count = folder, batches, 0

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self.count += 1
        if self.count in self.batches:
            trainer.save_checkpoint(self.folder / f"{self.count}.ckpt")

    def on_validation_end(self, trainer: Trainer, *args: Any) -> None:
        trainer.save_checkpoint(self.folder / f"val{self.count}.ckpt")


def trainer(tmp_path: Path, **options: Any) -> Trainer:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": tmp_path,
    }
    return Trainer(**{**quiet, **options})


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text("".join(chr(33 + number * number % 89) for number in range(500)))
    return file


def data(text: Path, **options: Any) -> TokenData:
    defaults: dict[str, Any] = {"tokenizer": Byte, "context": 8, "batch_size": 4, "seed": 7}
    return TokenData(source=TextFiles(str(text)), **{**defaults, **options})


def scored(seen: list[list[list[int]]]) -> list[int]:
    return sorted(target for batch in seen for row in batch for target in row if target != IGNORED)


@pytest.mark.parametrize("sampler", [Shuffled, Sequential])
def test_two_epochs_score_each_token_but_the_first_twice(text: Path, tmp_path: Path, sampler: Any) -> None:
    model = Recorder()
    trainer(tmp_path, max_epochs=2).fit(model, datamodule=data(text, sampler=sampler))
    assert scored(model.seen) == sorted([*text.read_bytes()[1:450]] * 2)
    assert all(len(batch) == 4 for batch in model.seen)
    half = len(model.seen) // 2
    assert (model.seen[:half] == model.seen[half:]) == (sampler is Sequential)


@pytest.mark.parametrize("sampler", [Shuffled, RandomCrops])
@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_at_any_batch_it_goes_on_as_if_never_stopped(
    text: Path, tmp_path: Path, sampler: Any, workers: int
) -> None:
    # 57 windows in batches of 4 are 15 an epoch: the stops lie inside, at the end of and right after an epoch.
    stops = {1, 7, 14, 15, 16, 23, 30} if workers == 0 else {7, 15}
    whole = Recorder()
    options: dict[str, Any] = {"max_steps": 40, "max_epochs": -1, "accumulate_grad_batches": 1, "val_check_interval": 5}
    trainer(tmp_path, callbacks=[SaveAt(tmp_path, stops)], **options).fit(whole, datamodule=data(text, sampler=sampler))
    assert len(whole.seen) == 40
    for stop in sorted(stops):
        for name in [str(stop)] + ([f"val{stop}"] if stop % 5 == 0 else []):
            rest = Recorder()
            resumed = data(text, sampler=sampler, num_workers=workers)
            trainer(tmp_path, **options).fit(rest, datamodule=resumed, ckpt_path=tmp_path / f"{name}.ckpt")
            assert rest.seen == whole.seen[stop:], f"resumed from {name}"
            assert resumed.state_dict()["consumed"] == (40 // 15 * 15 + 40 % 15) * 4


def test_a_resume_with_another_batch_size_goes_on_at_the_next_window(text: Path, tmp_path: Path) -> None:
    whole, rest = Recorder(), Recorder()
    options: dict[str, Any] = {"max_steps": 15, "max_epochs": -1, "limit_val_batches": 0}
    trainer(tmp_path, callbacks=[SaveAt(tmp_path, {5})], **options).fit(whole, datamodule=data(text))
    trainer(tmp_path, **{**options, "max_steps": 9}).fit(
        rest, datamodule=data(text, batch_size=2), ckpt_path=tmp_path / "5.ckpt"
    )
    assert [row for batch in rest.seen for row in batch] == [row for batch in whole.seen[5:7] for row in batch]


@pytest.mark.parametrize("name", ["7", "val7", "val14", "15"])  # within an epoch of 15 batches, at its end
@pytest.mark.parametrize("batch_size", [2, 8])
def test_a_resume_with_another_batch_size_loses_nothing_of_its_epochs(
    text: Path, tmp_path: Path, name: str, batch_size: int
) -> None:
    whole, rest = Recorder(), Recorder()
    options: dict[str, Any] = {"max_epochs": 2, "val_check_interval": 7, "accumulate_grad_batches": 1}
    trainer(tmp_path, callbacks=[SaveAt(tmp_path, {7, 15})], **options).fit(whole, datamodule=data(text))
    resumed, options = data(text, batch_size=batch_size), {"max_epochs": 2}
    trainer(tmp_path, **options).fit(rest, datamodule=resumed, ckpt_path=tmp_path / f"{name}.ckpt")
    trained = int(name.removeprefix("val"))
    assert scored(rest.seen) == scored(whole.seen[trained:])
    assert resumed.position() == (2, 0)
    assert rest.validated  # at an epoch's end, which the trainer finds by its number of batches


def test_a_resume_past_a_new_limit_of_epochs_begins_the_next(text: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_epochs": 3, "limit_val_batches": 0}
    trainer(tmp_path, callbacks=[SaveAt(tmp_path, {9})], **options).fit(Recorder(), datamodule=data(text))
    rest, resumed = Recorder(), data(text)
    limited = trainer(tmp_path, limit_train_batches=5, **options)
    limited.fit(rest, datamodule=resumed, ckpt_path=tmp_path / "9.ckpt")
    assert len(rest.seen) == 2 * 5 and resumed.position() == (limited.current_epoch, 0) == (3, 0)


def test_the_seed_is_that_of_when_the_data_was_made(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")
    first = data(text, seed=None)
    monkeypatch.setenv("PL_GLOBAL_SEED", "4")
    second = data(text, seed=None)
    assert (first.seed, second.seed) == (3, 4)
    assert describe_batch(first) != describe_batch(second)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 8])
def test_epochs_are_counted_rightly_over_another_batch_size(text: Path, tmp_path: Path, batch_size: int) -> None:
    options: dict[str, Any] = {"max_epochs": 3, "limit_val_batches": 0}
    whole = data(text)
    assert whole.batches_per_epoch() == 15
    trainer(tmp_path, callbacks=[SaveAt(tmp_path, {20})], **options).fit(Recorder(), datamodule=whole)
    net = LitGPT(GPT(64, width=8, depth=1, heads=2, context=8))
    resumed, seen = data(text, batch_size=batch_size), []

    class Look(Callback):
        def on_train_start(self, fit: Any, module: Any) -> None:
            net._trainer = fit
            seen.append((batches_done(resumed), net.total_steps()))
            seen.append(dict(rows(fit, net))["text"])

    fit = trainer(tmp_path, callbacks=[Look()], **options)
    fit.fit(Recorder(), datamodule=resumed, ckpt_path=tmp_path / "20.ckpt")
    an_epoch, done = resumed.batches_per_epoch(), -(-20 // batch_size)
    assert seen[0] == ((1, done), 20 + an_epoch + an_epoch - done)
    assert "(3.00 epochs)" in seen[1]
    assert fit.global_step == seen[0][1]


def test_a_resume_with_other_sequences_keeps_its_share_of_an_epoch(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"max_steps": 10, "max_epochs": -1, "limit_val_batches": 0}
    first = data(text)
    trainer(tmp_path, callbacks=[SaveAt(tmp_path, {5})], **options).fit(Recorder(), datamodule=first)
    rest, wider = Recorder(), data(text, context=14)
    capsys.readouterr()
    trainer(tmp_path, **{**options, "max_steps": 6}).fit(rest, datamodule=wider, ckpt_path=tmp_path / "5.ckpt")
    places, slot = wider.training_samples().epoch_size, 20 * wider.training_samples().epoch_size // 57
    said = (
        f"an epoch was 57 rows or batches in Shuffled and is {places} in Shuffled now; the one that was begun goes on"
    )
    assert said in capsys.readouterr().err and places < 57
    expected = data(text, context=14)
    begin_at(expected, 0, slot)
    assert rest.seen[0] == next(iter(expected.train_dataloader())).targets.tolist()


def test_two_ranks_with_half_the_batch_see_what_one_sees(text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = [batch.targets for batch in data(text).train_dataloader()]
    ranks = []
    for rank in range(2):
        half = data(text, batch_size=2)
        monkeypatch.setattr(half, "_ranks", lambda rank=rank: (2, rank))
        ranks.append([batch.targets for batch in half.train_dataloader()])
        assert half.batches_per_epoch(2) == len(ranks[-1]) == len(one)
    for whole, even, odd in zip(one, *ranks, strict=True):
        assert torch.equal(whole[0::2], even) and torch.equal(whole[1::2], odd)


def test_limited_epochs_take_the_first_batches_of_new_orders(text: Path, tmp_path: Path) -> None:
    model, whole = Recorder(), Recorder()
    trainer(tmp_path, max_epochs=3, limit_train_batches=3, limit_val_batches=0).fit(model, datamodule=data(text))
    trainer(tmp_path, max_epochs=3, limit_val_batches=0).fit(whole, datamodule=data(text))
    assert model.seen == whole.seen[:3] + whole.seen[15:18] + whole.seen[30:33]


def test_overfitting_repeats_the_same_batches(text: Path, tmp_path: Path) -> None:
    model = Recorder()
    trainer(tmp_path, max_epochs=3, overfit_batches=2).fit(model, datamodule=data(text))
    assert len(model.seen) == 6 and model.seen[:2] == model.seen[2:4] == model.seen[4:]


def test_a_second_training_with_the_same_data_begins_at_the_beginning(text: Path, tmp_path: Path) -> None:
    same, first, second = data(text), Recorder(), Recorder()
    for model in (first, second):
        trainer(tmp_path, max_steps=5, max_epochs=-1, limit_val_batches=0).fit(model, datamodule=same)
    assert first.seen == second.seen


def test_training_continues_at_any_position(text: Path) -> None:
    whole = [batch.targets for batch in data(text).train_dataloader()]
    later = data(text)
    begin_at(later, 0, 24)
    assert later.position() == (0, 24) and later.state_dict()["consumed"] == 24
    assert torch.equal(next(iter(later.train_dataloader())).targets, whole[6])
    begin_at(later, 1, 8)
    assert later.position() == (1, 8)


def test_validation_texts_are_read_whole_in_order_by_name(text: Path, tmp_path: Path) -> None:
    (tmp_path / "news.txt").write_text("some news, short")
    with_news = data(text, extra_val={"news": lambda: TextFiles(str(tmp_path / "news.txt"))}, test_fraction=0.1)
    model = Recorder()
    trainer(tmp_path).validate(model, datamodule=with_news, verbose=False)
    assert with_news.val_names == ["", "news"]
    for index, wanted in ((0, text.read_bytes()[401:450]), (1, b"ome news, short")):
        targets = [t for batch in model.validated[index] for t in batch.targets.flatten().tolist() if t != IGNORED]
        assert targets == list(wanted)
    test = [t for batch in with_news.test_dataloader() for t in batch.targets.flatten().tolist() if t != IGNORED]
    assert test == list(text.read_bytes()[451:])
    scored = {name: with_news.sequences(name).scored_bytes(with_news.tokenizer) for name in ("val", "news", "test")}
    assert scored == {"val": 49, "news": 15, "test": 49}
    with pytest.raises(UserError, match="no test text"):
        data(text).test_dataloader()


def test_vocabulary_is_padded_unless_given(text: Path) -> None:
    assert data(text, tokenizer=lambda: Byte(eos="<end>")).vocab_size == 320
    assert data(text, vocab_size=257).vocab_size == 257
    with pytest.raises(UserError, match="vocab_size 255 is less than the tokenizer's 256"):
        _ = data(text, vocab_size=255).vocab_size


def test_an_adopted_tokenizer_is_not_trained_again(text: Path) -> None:
    char = Char(unk="?")
    char.train(["abc"])
    adopting = data(text, tokenizer=BPE)
    adopting.use_tokenizer(char)
    assert adopting.tokenizer.fingerprint() == char.fingerprint()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"context": -1}, "context -1"),
        ({"num_workers": -1}, "num_workers -1"),
        ({"val_fraction": 1.5}, "val_fraction 1.5 is out of range"),
        ({"val_fraction": 0.6, "test_fraction": 0.4}, "leave nothing to train on"),
        ({"context": 450}, "has 450 tokens, a context of 450 needs 451"),
        ({"context": None}, "context of the data is not known"),
        ({"val_fraction": 0.002}, "'val' has fewer than 2 tokens"),
    ],
)
def test_mistakes_are_one_line(text: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        data(text, **options).setup()
    assert "\n" not in str(caught.value)


def test_a_described_batch_shows_text_targets_and_what_is_not_scored(text: Path) -> None:
    shown = describe_batch(data(text, sampler=Sequential, context=440), 2)
    start = text.read_text()[:440]
    assert repr(start) in shown and "row 0: 440 tokens, 440 scored" in shown and "row 1: 440 tokens, 9 scored" in shown
    assert f"{start[0]!r} -> {start[1]!r}" in shown and "not scored" in shown


def test_describe_batch_shows_characters_of_several_tokens(tmp_path: Path) -> None:
    (tmp_path / "zh.txt").write_text("\u5149\u6708" * 200, encoding="utf-8")
    shown = describe_batch(data(tmp_path / "zh.txt", tokenizer=Byte, sampler=Sequential, context=12), 1)
    assert (
        "'\u5149\u6708\u5149\u6708'" in shown
        and "b'\\xe5' -> b'\\x85'" in shown
        and "\ufffd" not in shown.split("targets")[0]
    )


def test_the_standard_library_through_bpe_reads_as_python() -> None:
    library = TokenData(StandardLibrary(limit=150_000), lambda: BPE(vocab_size=600), context=32, batch_size=2)
    library.setup()
    assert library.vocab_size == 640
    train = library.corpus("train")
    assert train.documents > 1 and train.ids[0] == library.tokenizer.bos
    compile(library.tokenizer.decode(train.document(0).tolist()), "a document", "exec")


def test_loading_a_batch_costs_little(text: Path) -> None:
    text.write_text("some text to train on, " * 4000)
    loader = data(text, context=64, batch_size=12, sampler=RandomCrops).train_dataloader()
    costs = []
    for _ in range(5):
        start = time.process_time()
        batches = sum(1 for _ in loader)
        costs.append((time.process_time() - start) / batches)
    # 1 % of a 20 ms step is 0.2 ms; three times that on a machine that does other things too.
    assert min(costs) < 6e-4


def test_telling_of_a_fault_prepares_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(*arguments: Any) -> Any:
        asked.append(arguments)
        raise UserError("no text")

    monkeypatch.setattr("lit_gpt.data.prepared_text.prepare", refuse)
    assert main(["fit", "--name=none", f"--trainer.default_root_dir={tmp_path}", "--trainer.accelerator=cpu"]) == 2
    assert len(asked) == 1
