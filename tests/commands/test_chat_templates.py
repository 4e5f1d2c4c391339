"""Chat templates from the command line: `fit` on conversations, `generate --chat`, `export`, beside transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asked_runs import FEW, NET
from hub_kinds import folder_of
from own_templates import TEMPLATES, TOOLS, unmarked
from tokenizers import AddedToken
from tokenizers import Tokenizer as Inner
from transformers import AutoTokenizer

from lit_gpt import checkpoint
from lit_gpt.__main__ import main
from lit_gpt.commands.generate import format_and_record
from lit_gpt.data.corpus.corpus import Corpus
from lit_gpt.generate.text_generator import TextGenerator

THINKS, NAMES = unmarked(TEMPLATES["thinks"][0]), TEMPLATES["thinks"][1]
RECORDS = [
    {"messages": [{"role": "assistant", "content": "the dog"}, {"role": "user", "content": "and?"}] * 2
     + [{"role": "assistant", "content": f"sat {number}", "weight": number % 2}]}
    for number in range(40)
]  # fmt: skip
FIT = ["fit", *FEW, "--data.source=JsonLines", "--data.source.paths=chats.jsonl", "--data.source.field=null",
       "--data.sequences=Prompts", "--data.batch_size=4", "--data.format=Chat", "--data.format.template=Jinja",
       "--sample.max_new_tokens=1", "--trainer.max_steps=1"]  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("chats.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))


def hub_folder(template: Any) -> Path:
    made = folder_of(Path("hub"), "llama2", chat_template=template)
    inner = Inner.from_file(str(made / "tokenizer.json"))
    inner.add_special_tokens([AddedToken(name, rstrip=name == "<|im_end|>") for name in NAMES])
    inner.save(str(made / "tokenizer.json"))
    return made


def refused(capfd: Any, *words: str) -> str:
    capfd.readouterr()
    assert main([*words]) == 2
    said: str = capfd.readouterr().err
    assert "Traceback" not in said
    return said.splitlines()[-1]


def asked(run: str, record: Any, template: str | None = None, **variables: Any) -> list[int]:
    net, tokenizer = checkpoint.load(run)
    format, given = format_and_record(checkpoint.load_format(run, tokenizer), tokenizer, record, run, template)
    return TextGenerator(net, tokenizer, format.with_variables(variables)).question(given)


@pytest.mark.slow
def test_from_a_models_folder_to_answers_and_back(capfd: Any) -> None:
    """Trained ids, questions and the exported template are those of transformers."""
    listed = [{"name": "default", "template": THINKS}, {"name": "brief", "template": f"brief {THINKS}"}]
    folder = hub_folder(listed)
    theirs = AutoTokenizer.from_pretrained(folder)
    words = [f"--data.tokenizer={{class_path: Pretrained, init_args: {{path: {folder}}}}}", *NET,
             "--data.context=128", "--data.folder=prepared",
             "--data.format.template_variables={enable_thinking: false}",
             "--model.net.position=RoPE", "--model.net.norm=RMSNorm", "--model.net.feedforward=SwiGLU"]  # fmt: skip
    assert main([*FIT, *words, "--name=chat"]) == 0
    assert "generate runs/chat --chat" in capfd.readouterr().out

    corpus = Corpus(Path("prepared") / "train")
    for number in range(corpus.documents):
        ids = corpus.document(number).tolist()
        rendered = theirs.decode(ids, skip_special_tokens=False)
        which = int(rendered.split("sat ")[1].split("<")[0])
        record, odd = RECORDS[which]["messages"], which % 2
        assert ids == theirs.apply_chat_template(record, return_dict=False)
        assert corpus.loss_mask is not None
        start = int(corpus.offsets[number])
        trained = np.asarray(corpus.loss_mask[start : start + len(ids)]).astype(bool)
        learned = theirs.decode(np.array(ids)[trained])
        # What asks for an answer holds the empty thought, so that is none of the answer.
        answers = ["the dog", "the dog", record[-1]["content"]][: 2 + odd]
        assert learned.replace(" <|im_end|>", "<|im_end|>") == "".join(f"{one}<|im_end|>" for one in answers)

    said = [{"role": "user", "content": " cat  "}]
    for more in ({"enable_thinking": False}, {"enable_thinking": True}, {"tools": TOOLS, "enable_thinking": False}):
        wanted = theirs.apply_chat_template(said, add_generation_prompt=True, return_dict=False, **more)
        assert asked("runs/chat", " cat  ", **more) == wanted
        if more["enable_thinking"] is False:
            own = {key: value for key, value in more.items() if key == "tools"}
            assert asked("runs/chat", {"messages": said, **own}) == wanted, "as it was trained, without being told"
    brief = theirs.apply_chat_template(said, chat_template="brief", add_generation_prompt=True, return_dict=False)
    assert asked("runs/chat", " cat  ", "brief") == brief

    ask = ["generate", "runs/chat", "--max_new_tokens", "1", "--echo", "--temperature", "0"]
    capfd.readouterr()
    assert main([*ask, "--chat", "cat", "--template_variables", "{enable_thinking: true}"]) == 0
    assert capfd.readouterr().out.startswith("<|im_start|>user\ncat<|im_end|>\n<|im_start|>assistant\n")
    assert main([*ask, "--chat", "cat", "--chat_template", "brief"]) == 0
    assert capfd.readouterr().out.startswith("brief<|im_start|>user\ncat")
    variables = ["--template_variables", '{"enable_thinkin": true}']
    assert "did you mean enable_thinking?" in refused(capfd, *ask, "--chat", "cat", *variables)
    assert "give --chat or --record" in refused(capfd, *ask, "--prompt", "cat", *variables)
    assert "is neither JSON nor YAML" in refused(capfd, *ask, "--chat", "a", "--template_variables", "{a")
    assert "--template_variables is not a mapping" in refused(capfd, *ask, "--chat", "a", "--template_variables", "[a]")
    assert "no chat template 'brieff'; the tokenizer has default, brief" in refused(
        capfd, *ask, "--chat", "a", "--chat_template", "brieff"
    )

    assert main(["export", "runs/chat", "--out", "back"]) == 0
    again = AutoTokenizer.from_pretrained("back")
    wanted = theirs.apply_chat_template(said, add_generation_prompt=True, return_dict=False, enable_thinking=False)
    assert again.apply_chat_template(said, add_generation_prompt=True, return_dict=False) == wanted
    assert {*again.chat_template} == {"default", "brief"}


@pytest.mark.parametrize(
    ("template", "words", "says"),
    [
        ("{% if false %}{% generation %}{% endgeneration %}{% endif %}{{ messages[0].content }}", [],
         "chats.jsonl:1: the chat template's {% generation %} marks no text of this conversation"),
        ("{% for m in messages %}{{ m.content + m.content }}{% endfor %}", [],
         "chats.jsonl:1: the answer of message 1 cannot be told"),
        (THINKS, ["--data.format.template_variables={enable_thinkin: 1}"], "did you mean enable_thinking?"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_on_is_refused(template: str, words: list[str], says: str, capfd: Any) -> None:
    Path("own.jinja").write_text(template)
    special = "--data.tokenizer={class_path: Byte, init_args: {special: ['<|im_start|>', '<|im_end|>']}}"
    more = [special, "--data.format.template.template=own.jinja", *words]
    said = refused(capfd, *FIT, *NET, *more, "--name=none")
    assert says in said
    assert not list(Path("runs").glob("none/checkpoints/*"))
