"""What a net starts from: other runs, models made elsewhere, and rows for tokens that they did not have."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers, trainers

from lit_gpt import checkpoint
from lit_gpt.__main__ import main
from lit_gpt.cli import build
from lit_gpt.data import Pretrained
from lit_gpt.generate.text_generator import TextGenerator
from lit_gpt.model import GPT

MARKS = ["<|user|>", "<|end|>"]
SMALL = [
    *("--data.batch_size=2", "--data.val_batch_size=64", "--trainer.max_steps=2", "--trainer.limit_val_batches=1"),
    *("--trainer.enable_progress_bar=false", "--sample.max_new_tokens=3", "--trainer.accelerator=cpu"),
]
TINY = ["--model.net.width=32", "--model.net.depth=2", "--model.net.heads=4", "--model.net.context=16"]
ADD = f"--data.add_tokens={json.dumps(MARKS)}"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def chats(text_file: Path, tmp_path: Path) -> str:
    """The small text as turns between marks."""
    lines = text_file.read_text().splitlines()[:200]
    (tmp_path / "chats.txt").write_text("".join(f"{MARKS[0]}{line}{MARKS[1]}\n" for line in lines))
    return f"--data.source.paths={tmp_path / 'chats.txt'}"


def fit(*words: str) -> None:
    assert main(["fit", *SMALL, *words]) == 0


def weights(run: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = checkpoint.read(run).state_dict
    return state


def made_elsewhere(place: Path, spare: int = 0, dtype: torch.dtype = torch.bfloat16, **net: Any) -> GPT:
    """A run directory as an imported model has it: nothing in it was trained here."""
    inner = Inner(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(["the cat sat on the mat and saw the moon rise over some far hills"] * 9, trainer)
    folder = place / "hub"
    folder.mkdir()
    inner.save(str(folder / "tokenizer.json"))
    (folder / "generation_config.json").write_text('{"eos_token_id": [0]}')
    tokenizer = Pretrained.from_folder(folder)
    sizes = {"width": 32, "depth": 2, "heads": 4, "context": 16, "vocab_size": tokenizer.vocab_size + spare, **net}
    made = GPT(**sizes, seed=3).to(dtype)
    kept = {
        "format_version": 1,
        "state_dict": {f"net.{name}": tensor for name, tensor in made.state_dict().items()},
        "config": {
            "model": {"net": {"class_path": "lit_gpt.model.GPT", "init_args": sizes}},
            "data": {"tokenizer": {"class_path": "lit_gpt.data.tokenizers.pretrained.Pretrained", "init_args": {}}},
        },
        "tokenizer": tokenizer.state(),
        "global_step": 0,
    }
    (place / "runs/theirs/checkpoints").mkdir(parents=True)
    torch.save(kept, place / "runs/theirs/checkpoints/best.ckpt")
    for file in folder.iterdir():
        file.unlink()  # the state alone must do
    return made


def test_a_model_made_elsewhere_is_used_like_a_run(tmp_path: Path, text_file: Path, capsys: Any) -> None:
    made = made_elsewhere(tmp_path)
    text = f"--data.source.paths={text_file}"
    net, tokenizer = checkpoint.load("runs/theirs")
    assert tokenizer.decode(tokenizer.encode("the cat")) == "the cat" and net.vocab_size == made.vocab_size
    assert main(["generate", "runs/theirs", "--prompt", "the cat", "--max_new_tokens", "3"]) == 0
    assert main(["validate", "runs/theirs", text, "--trainer.limit_val_batches=1"]) == 0
    assert "best.ckpt  step 0\nval_loss " in capsys.readouterr().out
    run = build(None, [*SMALL, text, "--model.init_from=runs/theirs"])
    for name, tensor in made.state_dict().items():
        held = run.model.net.state_dict()[name]
        assert held.dtype == torch.float32 and torch.equal(held, tensor.float()), name
    fit(text, "--model.init_from=runs/theirs", "--name=tuned")
    assert "before the first step" in capsys.readouterr().out
    assert main(["generate", "runs/tuned", "--prompt", "the cat", "--max_new_tokens", "3"]) == 0
    fit(text, "--name=tuned", "--resume", "--trainer.max_steps=3")
    assert main(["runs"]) == 0


@pytest.mark.parametrize("tie", ["true", "false"])
def test_new_tokens_get_rows_and_the_old_ones_stay(tie: str, chats: str, text_file: Path, capsys: Any) -> None:
    words = [*TINY, f"--model.net.tie_embeddings={tie}", "--data.tokenizer=BPE", "--data.tokenizer.vocab_size=320"]
    fit(*words, f"--data.source.paths={text_file}", "--name=base")
    tokenizer = checkpoint.load("runs/base")[1]
    assert tokenizer.vocab_size == 320
    capsys.readouterr()
    run = build(None, [*SMALL, chats, ADD, "--model.init_from=runs/base", "--name=first"])
    assert run.data.tokenizer.encode(f"{MARKS[0]}a")[0] == 320 and run.model.net.vocab_size == 384
    before, after = weights("runs/base"), run.model.net.state_dict()
    for name in ("embedding.weight", "head.weight"):
        old = before[f"net.{name}"]
        assert torch.equal(after[name][:320], old)
        torch.testing.assert_close(after[name][320:], old.mean(0).expand(64, -1), rtol=0, atol=1e-6)
    ids = torch.from_numpy(run.data.corpus("train").ids[:2000].astype(int))
    assert {320, 321} <= set(ids.tolist())  # the text was prepared anew

    fit(chats, ADD, "--model.init_from=runs/base", "--name=tuned")
    line = "2 new tokens <|user|> <|end|>: ids 320 and 321 start as the mean of the others; embedding 320 -> 384 rows"
    assert capsys.readouterr().out.count(line) == 1
    net, tokenizer = checkpoint.load("runs/tuned")
    assert net.vocab_size == 384 and tokenizer.encode(MARKS[1]) == [321] and tokenizer.decode([320]) == MARKS[0]
    assert main(["generate", "runs/tuned", "--prompt", MARKS[0], "--stop", MARKS[1], "--max_new_tokens", "3"]) == 0
    assert main(["validate", "runs/tuned", "--trainer.limit_val_batches=1"]) == 0
    # Resumed, and tuned again with and without typing the tokens once more, nothing is added twice.
    fit("--name=tuned", "--resume", "--trainer.max_steps=3")
    fit(chats, ADD, "--model.init_from=runs/tuned", "--name=again")
    fit(chats, "--model.init_from=runs/tuned", "--name=once_more")
    assert "new token" not in capsys.readouterr().out
    for name in ("again", "once_more"):
        assert checkpoint.load(f"runs/{name}")[0].vocab_size == 384
        assert checkpoint.load(f"runs/{name}")[1].fingerprint() == tokenizer.fingerprint()


def test_spare_rows_are_used_first(tmp_path: Path, chats: str, capsys: Any) -> None:
    made = made_elsewhere(tmp_path, spare=5, dtype=torch.float32, tie_embeddings=False)
    known = made.vocab_size - 5
    run = build(None, [*SMALL, chats, ADD, "--model.init_from=runs/theirs", "--name=tuned"])
    after = run.model.net.state_dict()
    assert run.model.net.vocab_size == made.vocab_size and run.data.tokenizer.encode(MARKS[0]) == [known]
    for name, old in made.state_dict().items():
        if name in ("embedding.weight", "head.weight"):
            torch.testing.assert_close(after[name][known : known + 2], old[:known].mean(0).expand(2, -1))
            kept = [*range(known), *range(known + 2, made.vocab_size)]
            assert torch.equal(after[name][kept], old[kept]), name
        else:
            assert torch.equal(after[name], old), name
    fit(chats, ADD, "--model.init_from=runs/theirs", "--name=tuned")
    assert f"embedding keeps its {made.vocab_size} rows" in capsys.readouterr().out


def test_new_tokens_of_a_run_from_scratch(chats: str) -> None:
    fit(*TINY, chats, "--data.tokenizer=BPE", "--data.tokenizer.vocab_size=300", ADD, "--name=scratch")
    net, tokenizer = checkpoint.load("runs/scratch")
    assert tokenizer.vocab_size == 302 and tokenizer.encode(f"a{MARKS[0]}b")[1] == 300
    assert net.vocab_size == 320 and TextGenerator(net, tokenizer).generate("a", max_new_tokens=2, seed=1) is not None
    fit("--name=scratch", "--resume", "--trainer.max_steps=3")


def test_mistakes_with_tokens_are_told_in_one_line(tmp_path: Path, chats: str, capsys: Any) -> None:
    def says(words: list[str], *expected: str) -> None:
        assert main(words) == 2
        shown = capsys.readouterr().err
        assert shown.count("\n") == 1 and all(part in shown for part in expected), shown

    says(["fit", *SMALL, *TINY, chats, "--data.tokenizer=Char", ADD], "Char takes no new tokens", "BPE or Pretrained")
    says(["fit", *SMALL, *TINY, chats, "--data.tokenizer=BPE", '--data.add_tokens=["a", ""]'], "empty text")
    says(["fit", *SMALL, *TINY, chats, "--data.tokenizer=Pretrained"], "data.tokenizer.path")
    made_elsewhere(tmp_path, spare=-10)
    for command in (["fit", *SMALL, "--model.init_from=runs/theirs", chats], ["validate", "runs/theirs", chats]):
        says(command, "295 ids", "285")
    says(["generate", "runs/theirs", "--prompt", "a"], "295 ids", "285")


def test_a_run_does_not_change_its_tokens_on_the_way(chats: str, capsys: Any) -> None:
    fit(*TINY, chats, "--data.tokenizer=BPE", "--data.tokenizer.vocab_size=300", "--name=one")
    for words in (["fit", "--name=one", "--resume", "--trainer.max_steps=3", ADD], ["validate", "runs/one", ADD]):
        assert main(words) == 2
        shown = capsys.readouterr().err
        assert "was trained without <|user|> <|end|>" in shown and "--model.init_from" in shown
    assert main(["fit", *SMALL, chats, ADD, "--data.vocab_size=512", "--model.init_from=runs/one", "--name=two"]) == 0
    assert checkpoint.load("runs/two")[0].vocab_size == 512
