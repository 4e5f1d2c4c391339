"""Sequences, orders and augmentations of TokenData under Lightning's own Trainer: resumed, dealt out, refused, said."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_module import Recorder, SaveAt, trainer

from lit_gpt.data import (
    BPE,
    BPEDropout,
    Byte,
    Curriculum,
    JsonLines,
    MaskTokens,
    Packed,
    Prompts,
    RandomCrops,
    ReplaceTokens,
    Seq2Seq,
    Sequential,
    Shuffled,
    TextFiles,
    TokenBudget,
    TokenData,
    Windows,
)
from lit_gpt.data.reporting import describe_batch, notes
from lit_gpt.data.sequences.datasets import IGNORED, document_stretches
from lit_gpt.errors import UserError


class Shown(Recorder):
    """Writes down inputs too."""

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        segments = [] if batch.segments is None else batch.segments.tolist()
        self.seen.append([batch.inputs.tolist(), batch.targets.tolist(), segments])  # type: ignore[arg-type]
        return self.weight * 1.0


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    lines = [" ".join(f"word{(7 * line + place) % 13}" for place in range(1 + line * line % 11)) for line in range(60)]
    file.write_text("\n".join(lines))
    return file


def data(text: Path, **options: Any) -> TokenData:
    byte = lambda: Byte(bos="<s>", eos="</s>", pad="<pad>")  # noqa: E731
    defaults: dict[str, Any] = {"tokenizer": byte, "context": 64, "batch_size": 4, "seed": 7}
    return TokenData(source=TextFiles(str(text), separator="\n"), **{**defaults, **options})


KINDS: dict[str, dict[str, Any]] = {
    "packed": {"sequences": Packed},
    "prompts": {"sequences": Prompts},
    "curriculum": {"sequences": Packed, "sampler": lambda: Curriculum(stages=3)},
    "growing": {"sampler": lambda: Curriculum(by=None, start_context=16, grow_epochs=1.5)},
    "budget": {"sequences": Prompts, "sampler": lambda: TokenBudget(300)},
    "masked": {"augment": [MaskTokens, lambda: ReplaceTokens(0.2)]},
    "masked budget": {"sequences": Prompts, "sampler": lambda: TokenBudget(300), "augment": [MaskTokens]},
    "dropout": {"sequences": Packed, "tokenizer": lambda: BPE(vocab_size=300), "augment": [lambda: BPEDropout(0.3)]},
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_resumed_at_any_batch_it_goes_on_as_if_never_stopped(kind: str, text: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"max_epochs": 3, "val_check_interval": 1.0}
    whole = Shown()
    first = data(text, **KINDS[kind])
    per_epoch = first.batches_per_epoch()
    assert per_epoch > 2
    stops = {1, per_epoch - 1, per_epoch, per_epoch + 1, 2 * per_epoch}
    trainer(tmp_path, callbacks=[SaveAt(tmp_path, stops)], **options).fit(whole, datamodule=first)
    assert len(whole.seen) == 3 * per_epoch
    assert whole.seen[:per_epoch] != whole.seen[per_epoch : 2 * per_epoch]
    for stop in sorted(stops):
        rest = Shown()
        resumed = data(text, **KINDS[kind])
        trainer(tmp_path, **options).fit(rest, datamodule=resumed, ckpt_path=tmp_path / f"{stop}.ckpt")
        assert rest.seen == whole.seen[stop:], f"resumed from {stop}"
        assert resumed.position() == (3, 0)


@pytest.mark.parametrize("kind", list(KINDS))
def test_two_ranks_see_together_what_one_sees(kind: str, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = list(data(text, **KINDS[kind]).train_dataloader())
    ranks = []
    for rank in range(2):
        half = data(text, batch_size=2, **KINDS[kind])
        monkeypatch.setattr(half, "_ranks", lambda rank=rank: (2, rank))
        ranks.append(list(half.train_dataloader()))
        assert half.batches_per_epoch(2) == len(ranks[-1])
    if "budget" in kind:  # a slot is a batch
        dealt = [batch for pair in zip(*ranks, strict=True) for batch in pair]
        for one_alone, together in zip(one, dealt, strict=False):
            assert torch.equal(one_alone.inputs, together.inputs) and torch.equal(one_alone.targets, together.targets)
        assert all((batch.targets == IGNORED).all() for batch in dealt[len(one) :])
    else:
        for batch, even, odd in zip(one, *ranks, strict=True):
            rows = len(even.inputs) // 2  # that a row was cut down to
            for whole, first, second in zip(batch[:2], even[:2], odd[:2], strict=True):
                slots = whole.unflatten(0, (-1, rows))
                assert torch.equal(slots[0::2].flatten(0, 1), first) and torch.equal(slots[1::2].flatten(0, 1), second)
    scored = [sorted(t for b in batches for t in b.targets.flatten().tolist()) for batches in (one, sum(ranks, []))]
    assert [t for t in scored[0] if t != IGNORED] == [t for t in scored[1] if t != IGNORED]


@pytest.mark.parametrize("rows", [Windows, Packed, Prompts])
def test_validation_is_not_augmented_and_counts_bytes(rows: Any, text: Path) -> None:
    given = data(text, sequences=rows, augment=[lambda: MaskTokens(1.0)], test_fraction=0.1)
    (loader,) = given.val_dataloader()
    batches = list(loader)

    def count(batches: Any) -> int:
        return sum(int(((batch.targets >= 0) & (batch.targets < 256)).sum()) for batch in batches)

    assert count(batches) == given.sequences("val").scored_bytes(given.tokenizer)
    assert count(given.test_dataloader()) == given.sequences("test").scored_bytes(given.tokenizer)
    assert not any((batch.inputs == 258).any() for batch in batches)  # the mask
    assert (batches[0].segments is not None) == (rows is Packed)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"sequences": Packed, "sampler": RandomCrops},
            "Packed cannot begin at every token; use data.sampler Shuffled",
        ),
        (
            {"sequences": lambda c, t: Windows(c, t, 5), "sampler": RandomCrops},
            "stride 5 of Windows conflicts with a sampler",
        ),
        ({"sequences": lambda c, t: Windows(c, t, 0)}, "stride 0 of Windows"),
        ({"sequences": Prompts, "context": 4}, "training text has no record that fits: .* data.context"),
        ({"sequences": Prompts, "sampler": lambda: TokenBudget(10)}, "tokens 10 of TokenBudget is less than"),
        ({"tokenizer": Byte, "augment": [MaskTokens]}, "MaskTokens needs a mask"),
        ({"augment": [MaskTokens, BPEDropout]}, "BPEDropout after MaskTokens in data.augment .* put BPEDropout before"),
        ({"augment": [BPEDropout]}, "BPEDropout needs a tokenizer of byte-level BPE, not Byte"),
        ({"sampler": lambda: Curriculum(start_context=3)}, "start_context 3 of Curriculum"),
        ({"context": 5000}, "needs 5001; give more text or a smaller data.context"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(options: dict[str, Any], words: str, text: Path) -> None:
    with pytest.raises(UserError, match=words) as caught:
        data(text, **options).setup("fit")
    assert "\n" not in str(caught.value)


def test_what_is_cut_or_dropped_is_said_once_at_the_start(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = data(text, sequences=Prompts, context=40)
    given.setup("fit")
    said = capsys.readouterr().err
    assert "records are longer than 40 tokens, dropped" in said and "val: " in said
    assert list(notes(given)) == [line for line in said.splitlines() if "records" in line]
    given.setup("validate")
    assert not capsys.readouterr().err
    packed = data(text, sequences=Packed)
    packed.setup("fit")
    assert "places in packed rows stay empty" in capsys.readouterr().err
    data(text, sampler=Shuffled).setup("fit")
    assert not capsys.readouterr().err


def test_masks_are_never_what_is_learned(text: Path) -> None:
    tokenizer = lambda: BPE(vocab_size=300, special=["<mask>"])  # noqa: E731
    augment = [lambda: BPEDropout(0.3), lambda: MaskTokens(0.5, "<mask>")]
    given = data(text, tokenizer=tokenizer, sequences=Packed, augment=augment)
    mask, shown = given.tokenizer.special_id("<mask>"), 0
    for batch in given.train_dataloader():
        shown += int((batch.inputs == mask).sum())
        assert not (batch.targets == mask).any()
    assert shown > 50


def test_augmentations_report_from_samples_of_the_whole_text(tmp_path: Path) -> None:
    seen: list[list[int]] = []

    class Looks(MaskTokens):
        def notes(self, sample: Any) -> list[str]:
            seen.extend(sample.inputs.tolist())
            return []

    file = tmp_path / "letters.txt"
    file.write_text("a" * 5000 + "b" * 5000)
    data(file, augment=[Looks], split_by="position", val_fraction=0.01, sequences=Windows).setup("fit")
    kinds = [row[5] for row in seen]
    assert len(kinds) == 32 and abs(kinds.count(ord("a")) - 16) <= 1


def test_a_described_batch_tells_segments_in_few_words(text: Path) -> None:
    shown = describe_batch(data(text, sequences=Packed, sampler=Sequential), 1)
    (segments,) = [line for line in shown.splitlines() if line.startswith("  segments ")]
    assert segments.startswith("  segments 0: ")
    assert sum(int(part.split(":")[1].split()[0]) for part in segments.removeprefix("  segments ").split(", ")) == 64
    budget = describe_batch(data(text, sequences=Prompts, sampler=lambda: TokenBudget(300)), 2)
    assert "row 1: 64 tokens" in budget and "(" in budget and "not scored)" in budget


def test_the_position_of_batches_by_tokens_is_counted_in_batches(text: Path) -> None:
    given = data(text, **KINDS["budget"])
    per_epoch = given.batches_per_epoch()
    assert given.training_samples().epoch_size == per_epoch < len(given.sequences("train"))
    whole = [batch.inputs for batch in given.train_dataloader()]
    given.load_state_dict({"epoch": 0, "slot": per_epoch - 1, "batches": 0})
    assert given.position() == (0, per_epoch - 1)
    (last,) = list(given.train_dataloader())
    assert torch.equal(last.inputs, whole[-1])


@pytest.mark.parametrize("split_by", ["document", "position", "hash"])
@pytest.mark.parametrize("rows", [Packed, Prompts])
def test_every_document_of_every_split_begins_with_the_separator(rows: Any, split_by: Any, text: Path) -> None:
    given = data(text, sequences=rows, tokenizer=lambda: BPE(vocab_size=300), split_by=split_by, test_fraction=0.2)
    for split in ("train", "val", "test"):
        corpus = given.corpus(split)
        starts, ends = document_stretches(corpus)
        ids, separator = corpus.ids[:], given.tokenizer.bos
        first = 1 if split_by == "position" and split != "train" else 0  # which begins in a document's middle
        assert (ids[starts[first:]] == separator).all()
        inner = [ids[start + 1 : end - 1] for start, end in zip(starts[first:], ends, strict=False)]
        assert not any((one == separator).any() for one in inner)


@pytest.mark.parametrize("rows", [Windows, Packed, Prompts])
def test_only_answers_are_trained_on_and_counted_in_bytes(rows: Any, tmp_path: Path) -> None:
    file, answers = tmp_path / "records.jsonl", [f"die Antwort {number} ist größer" for number in range(60)]
    records = [{"source": f"Frage {7 * number}?", "target": answer} for number, answer in enumerate(answers)]
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    given = TokenData(
        JsonLines(str(file), field=None),
        lambda: Byte(bos="<s>", eos="</s>"),
        format=Seq2Seq,
        sequences=rows,
        context=96,
        batch_size=3,
        seed=1,
    )
    learned = [t for batch in given.train_dataloader() for t in batch.targets.flatten().tolist() if t >= 0]
    validated = [t for batch in given.val_dataloader()[0] for t in batch.targets.flatten().tolist() if t >= 0]
    text = bytes(id for id in learned + validated if id < 256).decode()
    assert sorted(text) == sorted("".join(answers))
    assert given.sequences("val").scored_bytes(given.tokenizer) == sum(id < 256 for id in validated)
    assert given.batches_per_epoch() > 2
