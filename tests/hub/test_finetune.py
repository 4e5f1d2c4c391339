"""An imported model in daily use: looked at, written with, measured, trained on, resumed, given back."""

import json
import re
from pathlib import Path

import pytest
import torch
from random_models import Case, make, save
from rounding import assert_only_rounded
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_gpt import checkpoint
from lit_gpt.__main__ import main

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--sample.max_new_tokens=2"]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    save(make(Case("mistral", "window")), folder / "theirs")
    settings = json.loads((folder / "theirs" / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"
    (folder / "theirs" / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "theirs" / "generation_config.json").write_text(json.dumps({"eos_token_id": 256, "top_p": 0.9}))
    assert main(["import", str(folder / "theirs"), "--out", str(folder / "runs" / "taken")]) == 0
    return folder / "runs" / "taken"


def test_the_other_commands_take_it(imported: Path, text_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(imported), "--prompt", "the cat", "--max_new_tokens", "5", "--seed", "1"]) == 0
    assert capsys.readouterr().out.startswith("the cat")
    assert main(["inspect", str(imported), "--json"]) == 0
    parameters = sum(p.numel() for p in checkpoint.load(imported)[0].parameters())
    assert json.loads(capsys.readouterr().out)["parameters"]["parameters"] == parameters
    assert main(["runs", str(imported.parent)]) == 0
    assert re.search(r"taken\s+imported", capsys.readouterr().out)
    words = ["fit", "--name=taken", f"--trainer.default_root_dir={imported.parent}", "--resume"]
    assert main(words) == 2
    assert "is an imported model" in capsys.readouterr().err
    assert main(["validate", str(imported)]) == 2
    assert "without a text of its own; give one: --data.source.paths FILE" in capsys.readouterr().err
    assert main(["validate", str(imported), f"--data.source.paths={text_file}", *QUIET[:2]]) == 0
    assert "val_loss" in capsys.readouterr().out


def test_its_context_is_stretched(
    imported: Path, text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        *("fit", f"--model.init_from={imported}", f"--data.source.paths={text_file}", "--name=long"),
        *(f"--trainer.default_root_dir={tmp_path}", "--model.net.context=384", "--data.context=384"),
        *("--data.batch_size=1", "--trainer.max_steps=1", "--trainer.limit_val_batches=1", *QUIET),
        *("--model.net.position.scaling=YaRN", "--model.net.position.scaling.factor=4"),
        "--model.net.position.scaling.original_context=96",
    ]
    assert main(words) == 0
    assert "model.net.position.scaling is YaRN" in capsys.readouterr().out
    net, _ = checkpoint.load(tmp_path / "long")
    assert net.context == 384 and net.positions[0].scaling.factor == 4


def test_it_is_trained_on_resumed_and_given_back(
    imported: Path, text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        *("fit", f"--model.init_from={imported}", f"--data.source.paths={text_file}", "--name=tuned"),
        *(f"--trainer.default_root_dir={tmp_path}", "--data.context=32", "--data.batch_size=2", *QUIET),
        *("--trainer.max_steps=3", "--trainer.limit_val_batches=1", "--model.optimizer.lr=1e-3"),
        "--data.add_tokens=[<|user|>]",
    ]
    assert main(words) == 0
    assert "1 new token <|user|>: id 257 starts as the mean of the others" in capsys.readouterr().out
    assert main([*words, "--resume", "--trainer.max_steps=5"]) == 0
    capsys.readouterr()
    tuned = tmp_path / "tuned"
    net, tokenizer = checkpoint.load(tuned / "checkpoints" / "last.ckpt")
    before, _ = checkpoint.load(imported)
    assert not torch.equal(net.blocks[0].attention.query.weight, before.blocks[0].attention.query.weight)
    assert main(["export", str(tuned / "checkpoints" / "last.ckpt"), "--out", str(tmp_path / "out")]) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == ["MistralForCausalLM"]  # as it came, although others could express it too
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["top_p"] == 0.9
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    their_tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert their_tokenizer.apply_chat_template([{"content": "hi"}], tokenize=False) == "hi<|end|>"
    text = "the cat <|user|> sat on"
    ids = tokenizer.encode(text)
    assert 257 in ids and their_tokenizer(text, add_special_tokens=False).input_ids == ids
    batch = torch.tensor([ids])
    with torch.no_grad():
        assert_only_rounded(theirs(batch).logits, net(batch), net.sizes.depth, net.sizes.width)
