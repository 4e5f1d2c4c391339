"""All ends of a text that a folder names stop generation here, and are in the folder that is exported."""

import json
from pathlib import Path
from typing import Any

import pytest
from random_models import Case, make, save
from tokenizers import Tokenizer as Inner
from transformers import AutoModelForCausalLM

from lit_gpt import checkpoint
from lit_gpt.__main__ import main
from lit_gpt.data.tokenizers.from_checkpoint import Saved
from lit_gpt.generate.logits_processors import SuppressTokens
from lit_gpt.generate.text_generator import TextGenerator


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def change(file: Path, **values: Any) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({key: value for key, value in {**content, **values}.items() if value is not None}))


#: eos_token_id of generation_config.json (None: no such file; {}: it says none) and of config.json; all ends.
FOLDERS: list[tuple[Any, Any, list[int]]] = [
    (None, [256, 257, 65], [65, 256, 257]),
    (None, 257, [256, 257]),
    ([257, 258], 256, [256, 257, 258]),
    (258, [256, 257], [256, 258]),
    ({}, [256, 257], [256, 257]),
]


@pytest.mark.parametrize(("generation", "config", "ends"), FOLDERS)
def test_all_ends_stop_and_are_exported(generation: Any, config: Any, ends: list[int], capfd: Any) -> None:
    folder = save(make(Case("llama", "multi-head")), Path("theirs"))
    inner = Inner.from_file("theirs/tokenizer.json")
    inner.add_special_tokens(["<|eot|>", "<|eom|>"])
    inner.save("theirs/tokenizer.json")
    change(folder / "config.json", eos_token_id=config)
    (folder / "generation_config.json").unlink(missing_ok=True)
    if generation is not None:
        change(folder / "generation_config.json", eos_token_id=generation or None, top_k=7)
    assert main(["import", "theirs", "--out", "runs/taken"]) == 0
    net, tokenizer = checkpoint.load("runs/taken")
    assert sorted(TextGenerator(net, tokenizer).stop_ids) == sorted(tokenizer.end_ids) == ends
    assert sorted(Saved("theirs").stop_ids) == ends
    generator = TextGenerator(net, tokenizer)
    for end in ends:  # whichever of them is drawn, nothing follows it
        generator.suppress = SuppressTokens(set(range(net.vocab_size)) - {end})
        assert generator.generate("a", max_new_tokens=9) == ""
    assert main(["export", "runs/taken", "--out", "back"]) == 0
    theirs = AutoModelForCausalLM.from_pretrained("back").generation_config
    said = theirs.eos_token_id if isinstance(theirs.eos_token_id, list) else [theirs.eos_token_id]
    assert sorted(said) == ends
    if generation is not None:
        assert theirs.top_k == 7
    assert main(["import", "back", "--out", "runs/again"]) == 0
    assert sorted(checkpoint.load("runs/again")[1].stop_ids) == ends
    capfd.readouterr()
