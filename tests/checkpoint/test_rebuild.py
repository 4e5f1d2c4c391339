"""Every class of every component, and (with -m slow) every pair, trains and comes back from its checkpoint."""

from __future__ import annotations

import itertools
import sys
import textwrap
from inspect import isabstract
from pathlib import Path

import pytest
import torch

from lit_gpt import checkpoint
from lit_gpt.cli import build
from lit_gpt.config.registry import import_components
from lit_gpt.config.schema import component_bases
from lit_gpt.data.samplers.samplers import Sampler
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError
from lit_gpt.model import GPT
from lit_gpt.nn import Activation
from lit_gpt.train.objectives import Objective
from lit_gpt.train.schedules import Schedule

NET = component_bases(GPT)
OTHERS = {
    "model.objective": Objective,
    "model.schedule": Schedule,
    "data.tokenizer": Tokenizer,
    "data.sampler": Sampler,
    "model.net.feedforward.activation": Activation,
}


def names(base: type) -> list[str]:
    """All public classes of the package below a base that can be made without being told anything."""
    found = []
    for child in base.__subclasses__():
        # Where they lie; tested with their files.
        told = child.__name__ in ("Saved", "Pretrained", "Tiktoken")
        if (
            child.__module__.startswith("lit_gpt.")
            and not child.__name__.startswith("_")
            and not told
            and not isabstract(child)
        ):
            found.append(child.__name__)
        found += names(child)
    return found


import_components()
SINGLES = [[f"--{component}={name}"] for component, base in OTHERS.items() for name in names(base)]
SINGLES += [[f"--model.net.{component}={name}"] for component, base in NET.items() for name in names(base)]
PAIRS = [
    [f"--model.net.{one}={a}", f"--model.net.{two}={b}"]
    for one, two in itertools.combinations(NET, 2)
    for a in names(NET[one])
    for b in names(NET[two])
]
LISTS = [
    ["--model.net.attention=[SelfAttention, {class_path: SelfAttention, init_args: {window: 4, qk_norm: RMSNorm}}]"],
    ["--model.net.feedforward=[SwiGLU, MLP]", "--model.net.tie_embeddings=false", "--model.net.logit_softcap=15"],
    [
        "--model.net.position=[RoPE, {class_path: RoPE, init_args: {base: 100.0}}]",
        "--model.net.activation_checkpointing=true",
    ],
    ["--model.net.attention.kv_heads=1", "--model.net.attention.head_size=6", "--model.net.dropout=0.1"],
    ["--model.net.block=[PreNorm, PostNorm]"],
]
TINY = [
    *("--model.net.width=32", "--model.net.depth=2", "--model.net.heads=4", "--model.net.context=16"),
    *("--data.batch_size=2", "--data.val_batch_size=64", "--trainer.max_steps=1", "--trainer.limit_val_batches=1"),
    *("--trainer.enable_progress_bar=false", "--sample.max_new_tokens=1", "--trainer.accelerator=cpu"),
]


def trained(words: list[str], folder: Path, text: Path) -> tuple[torch.nn.Module, Path]:
    """A net after one step, and its last checkpoint."""
    tokenizer = [] if any("tokenizer" in word for word in words) else ["--data.tokenizer=Char"]
    vocabulary = ["--data.tokenizer.vocab_size=300"] if "--data.tokenizer=BPE" in words else []
    place = f"--trainer.default_root_dir={folder}"
    run = build(None, [*TINY, place, f"--data.source.paths={text}", *tokenizer, *words, *vocabulary])
    run.trainer.fit(run.model, run.data)
    return run.model.net, folder / "run" / "checkpoints" / "last.ckpt"


def named(words: list[str]) -> str:
    """What a case is called."""
    return ",".join(words).replace("--", "")


@pytest.mark.parametrize(
    "words",
    [
        *(pytest.param(words, id=named(words)) for words in [*SINGLES, *LISTS]),
        *(pytest.param(words, id=named(words), marks=pytest.mark.slow) for words in PAIRS),
    ],
)
def test_a_checkpoint_rebuilds_its_net(words: list[str], tmp_path: Path, text_file: Path) -> None:
    net, file = trained(words, tmp_path, text_file)
    again, tokenizer = checkpoint.load(file)  # torch.load(weights_only=True) inside
    assert type(again) is type(net)
    assert repr(again) == repr(net)
    ids = torch.tensor([tokenizer.encode("the cat sat")])
    assert torch.equal(again(ids), net.eval()(ids))
    for name, weight in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    assert again.tie_embeddings == (again.head.weight is again.embedding.weight)


def test_a_class_from_outside_comes_back_when_it_is_trusted(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_lab.py").write_text(
        textwrap.dedent("""
        from lit_gpt.nn import MLP, Sizes

        class Louder(MLP):
            def __init__(self, sizes: Sizes, volume: float = 1.0):
                super().__init__(sizes)
                self.volume = volume

            def forward(self, x):
                y, aux = super().forward(x)
                return self.volume * y, aux
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ["--model.net.feedforward=my_lab.Louder", "--model.net.feedforward.volume=3"]
    net, file = trained(words, tmp_path, text_file)
    with pytest.raises(UserError, match="my_lab.Louder, which is code outside lit_gpt; if you trust"):
        checkpoint.load(file)
    again, tokenizer = checkpoint.load(file, trust=["my_lab"])
    ids = torch.tensor([tokenizer.encode("the cat sat")])
    assert again.blocks[0].feedforward.volume == 3
    assert torch.equal(again(ids), net.eval()(ids))
    sys.modules.pop("my_lab")


@pytest.mark.parametrize(
    "class_path", ["torch.utils.collect_env.run", "lit_gpt.data.tokenizers.byte_and_char.Byte", "torch.Tensor"]
)
def test_a_file_cannot_have_anything_but_parts_of_a_net_called(class_path: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    inner = {"class_path": class_path, "init_args": {"command": f"touch {mark}"}}
    for config in (inner, {"class_path": "lit_gpt.model.GPT", "init_args": {"vocab_size": 8, "norm": inner}}):
        with pytest.raises(UserError, match="is not a component|where a subclass of (GPT|Norm) is expected"):
            checkpoint.build_net(config, tmp_path / "stranger.ckpt")
    assert not mark.exists()


def test_a_tokenizer_from_outside_comes_back_when_it_is_trusted(
    tmp_path: Path, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, file = trained(["--data.tokenizer=Byte"], tmp_path, text_file)
    (tmp_path / "my_words.py").write_text(
        "from lit_gpt.data.tokenizers.byte_and_char import Byte\n\n\nclass Mine(Byte):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    saved = torch.load(file, weights_only=True)
    saved["tokenizer"]["class_path"] = "my_words.Mine"
    torch.save(saved, tmp_path / "theirs.ckpt")
    with pytest.raises(UserError, match="my_words.Mine"):
        checkpoint.load(tmp_path / "theirs.ckpt")
    _, tokenizer = checkpoint.load(tmp_path / "theirs.ckpt", trust=["my_words"])
    assert type(tokenizer).__name__ == "Mine"
    saved["tokenizer"] = None
    torch.save(saved, tmp_path / "none.ckpt")
    with pytest.raises(UserError, match="tokenizer"):
        checkpoint.load(tmp_path / "none.ckpt")
    sys.modules.pop("my_words")
