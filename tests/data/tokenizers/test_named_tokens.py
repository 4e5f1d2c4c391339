"""Special tokens that a folder's settings name, in text of chat templates: ids are those of transformers."""

import json
from pathlib import Path
from typing import Any

import pytest
from hub_kinds import folder_of, theirs, written

from lit_gpt.data.formats.chat_templates import special_names, split
from lit_gpt.data.tokenizers.pretrained import Pretrained

TEXT = "<|x|> hi<s> y </s>  <|y|>\n z"
EATS = {"rstrip": True, "lstrip": False, "normalized": False, "single_word": False, "special": True}
LISTED = {"0": "<unk>", "1": "<s>", "2": "</s>", "420": "<|x|>"}
SETTINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "additional": {"additional_special_tokens": ["<|x|>", "<|y|>"]},
    "in part": {"extra_special_tokens": ["<|x|>"]},
    "by name": {"extra_special_tokens": {"image_token": "<|x|>"}},
    "of the model": {"image_token": "<|x|>"},
    "roles": {"sep_token": "<|x|>", "mask_token": "<|y|>", "pad_token": "<|z|>"},
    "not needed": {"pad_token": "<|z|>"},
    "with its properties": {"eos_token": {"__type": "AddedToken", "content": "<|y|>", **EATS}},
    "listed": {"added_tokens_decoder": {id: {"content": text, **EATS} for id, text in LISTED.items()}},
}


@pytest.mark.parametrize("named", ["PreTrainedTokenizerFast", "LlamaTokenizer"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_named_tokens_have_the_ids_of_transformers(settings: str, named: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", "llama2", named, chat_template="<|x|><|y|>", **SETTINGS[settings])
    check(folder, tmp_path / "b")


def test_named_tokens_of_older_folders(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", "llama2", chat_template="<|x|><|y|>")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"] = content["added_tokens"][:1]  # the others are words of the vocabulary alone
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": ["<|x|>", "<|y|>"]}))
    check(folder, tmp_path / "b")


def check(folder: Path, other: Path) -> None:
    ours = Pretrained(str(folder))
    wanted = theirs(folder)(TEXT, add_special_tokens=False).input_ids
    for one in (ours, Pretrained.restore(ours.state()), Pretrained(str(written(other, ours)))):
        [(ids, _)] = one.encode_segments([split(TEXT, special_names(one))])
        assert ids.tolist() == wanted
    assert theirs(other)(TEXT, add_special_tokens=False).input_ids == wanted
