"""Twelve chat templates in six conversation shapes: ids and loss mask beside those of transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_kinds import folder_of
from own_templates import SHAPES, TEMPLATES, shaped, unmarked
from tokenizers import AddedToken
from tokenizers import Tokenizer as Inner

from lit_gpt.data.chunks import Chunk
from lit_gpt.data.corpus.encoder import Encoder
from lit_gpt.data.formats.chat import Chat
from lit_gpt.data.formats.chat_templates import ChatML, Gemma, Llama3, Markers, Phi3, Template
from lit_gpt.data.formats.jinja_template import Jinja
from lit_gpt.data.tokenizers.pretrained import Pretrained

#: On bytes; with a space ahead of each stretch of text; with one ahead of the first alone.
KINDS = ["gpt2", "llama2", "metaspace"]
BUILT_IN = [ChatML, Llama3, Gemma, Phi3]
DAY = {"strftime_now": "2024-07-26"}


class Pair:
    """One tokenizer folder, read here and by transformers."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.ours, self.theirs = Pretrained(str(folder)), AutoTokenizer.from_pretrained(folder)

    def ids(self, template: str, messages: list[Any], tools: Any, ask: bool = False, **more: Any) -> list[int]:
        made = self.theirs.apply_chat_template(
            messages, tools=tools, chat_template=template, add_generation_prompt=ask, return_dict=False, **more
        )
        return list(made)

    def mask(self, template: str, messages: list[Any], tools: Any, **more: Any) -> list[int]:
        made = self.theirs.apply_chat_template(
            messages, tools=tools, chat_template=template, return_dict=True, return_assistant_tokens_mask=True, **more
        )
        return list(made["assistant_masks"])

    def chat(self, template: str, variables: dict[str, Any] | None = None) -> Chat:
        made = Chat(template=Jinja(template), template_variables=variables).for_tokenizer(self.ours)
        assert isinstance(made, Chat)
        return made

    def encoded(self, template: str, messages: list[Any], tools: Any, **more: Any) -> tuple[list[int], list[int]]:
        record = {"messages": messages, **({"tools": tools} if tools else {})}
        one = Encoder(self.ours, self.chat(template, **more)).encode([Chunk(record, split="train")])["train"]
        scored = np.ones(len(one.ids)) if one.loss_mask is None else one.loss_mask
        return one.ids.tolist(), scored.astype(int).tolist()

    def asked(self, template: str, messages: list[Any], tools: Any, **more: Any) -> list[int]:
        record = {"messages": messages, **({"tools": tools} if tools else {})}
        [(ids, _)] = self.ours.encode_segments([self.chat(template, **more).question(record)])
        return [int(id) for id in ids]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], Pair]:
    """By the kind, and by whether thoughts are between special tokens."""
    place = tmp_path_factory.mktemp("kinds")
    made = {}
    for kind in KINDS:
        for thinks in (False, True):
            folder = folder_of(place / f"{kind}{thinks}", kind)
            inner = Inner.from_file(str(folder / "tokenizer.json"))
            names = dict.fromkeys(name for _, special in TEMPLATES.values() for name in special)
            names |= dict.fromkeys(name for layout in BUILT_IN for name in layout().special_tokens)
            special = [name for name in names if (thinks or "think" not in name) and f"{name}~" not in names]
            inner.add_special_tokens([AddedToken(name.rstrip("~"), rstrip=name.endswith("~")) for name in special])
            inner.save(str(folder / "tokenizer.json"))
            made[kind, thinks] = Pair(folder)
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", TEMPLATES)
def test_ids_and_trained_tokens_are_those_of_transformers(name: str, shape: str, kind: str, pairs: Any) -> None:
    pair, marked = pairs[kind, name == "opens"], TEMPLATES[name][0]
    template = unmarked(marked)
    messages, tools = shaped(template, shape)
    until = max(number for number, one in enumerate(messages) if one["role"] == "assistant")
    more = {"day": "26 Jul 2024"} if name == "dated" else {}
    ids, mask = pair.ids(template, messages, tools, **more), pair.mask(marked, messages, tools, **more)
    # Theirs counts a header that takes in the white space with which an answer begins; it is none of the answer.
    header = pair.theirs.convert_tokens_to_ids("<|assistant|>")
    mask = [int(one and id != header) for id, one in zip(ids, mask, strict=True)]
    variables = {"variables": DAY} if name == "dated" else {}
    for one in (template, marked):
        made, trained = pair.encoded(one, messages, tools, **variables)
        assert made == ids
        assert trained == mask, pair.theirs.convert_ids_to_tokens(ids)
    asked = pair.ids(template, messages[:until], tools, ask=True, **more)
    assert pair.asked(template, messages, tools, **variables) == asked


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "layout", [*(one() for one in BUILT_IN), Markers("{role}: ", "<|end|>\n"), Markers("[{role}]", "\n")]
)
def test_layouts_of_ours_give_the_ids_that_their_export_gives(layout: Template, kind: str, pairs: Any) -> None:
    """With bos ahead as in training; eos is put behind the text by the preparation."""
    pair = pairs[kind, False]
    format = Chat(template=layout).for_tokenizer(pair.ours)
    assert isinstance(format, Chat)
    bos, eos = pair.ours.token(pair.ours.bos), pair.ours.eos
    template = format.template.program(bos)
    messages = [one for one in SHAPES["no system"] if one["role"] != "system"]
    made = Encoder(pair.ours, format).encode([Chunk({"messages": messages}, split="train")])["train"]
    assert made.ids.tolist() == [*pair.ids(template, messages, None), eos]
    assert made.loss_mask is not None
    learned = [id for id, one in zip(made.ids.tolist(), made.loss_mask.tolist(), strict=True) if one]
    said = pair.ours.decode(learned)
    assert "on the mat." in said and "they've\n\nsat" in said and "cat" not in said and "assistant" not in said
