"""`lit-gpt inspect` through the front door: what it says of small runs, against what the nets themselves say."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lit_gpt import checkpoint, cost, nn
from lit_gpt.__main__ import main
from lit_gpt.checkpoint import manifest
from lit_gpt.commands.anatomy import Part, anatomy, options, spans
from lit_gpt.commands.inspect import NOTES
from lit_gpt.data.tokenizers.byte_and_char import Byte
from lit_gpt.model import GPT
from lit_gpt.train.step_metrics import StepMetrics
from lit_gpt.train.summary import rows

SIZES: dict[str, Any] = {"vocab_size": 320, "width": 32, "depth": 4, "heads": 4, "context": 48}
Save = Callable[..., tuple[Path, GPT]]


def component(name: str, **arguments: Any) -> dict[str, Any]:
    """A class as a checkpoint names it."""
    return {"class_path": f"lit_gpt.nn.{name}", "init_args": arguments}


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes a run of a random net with these arguments; returns its directory and the net."""

    def write(settings: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32, **arguments: Any) -> Any:
        config = {"class_path": "lit_gpt.model.GPT", "init_args": SIZES | arguments}
        folder = tmp_path / "small"
        (folder / "checkpoints").mkdir(parents=True)
        net = checkpoint.build_net(config, folder).to(dtype)
        torch.save(
            {
                "format_version": 1,
                "state_dict": {f"net.{name}": tensor for name, tensor in net.state_dict().items()},
                "config": {"model": {"net": config}} | (settings or {}),
                "tokenizer": Byte().state(),
                "global_step": 1234,
            },
            folder / "checkpoints" / "best.ckpt",
        )
        return folder, net

    return write


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs the command; returns what stood on standard output."""

    def run(*arguments: str | Path) -> str:
        assert main(["inspect", *map(str, arguments)]) == 0
        shown = capfd.readouterr()
        assert shown.err == ""
        return shown.out

    return run


def test_a_run_as_people_read_it(save: Save, said: Callable[..., str]) -> None:
    folder, net = save()
    text = said(folder)
    title, *lines = text.splitlines()
    assert title == f"{folder}/checkpoints/best.ckpt: step 1,234, Byte tokenizer of 256 tokens, vocabulary 320, float32"
    tree = "\n".join(re.sub(r"^[│├└─ ]+", "", line) for line in lines)
    total = cost.count(net).parameters
    assert f"net: GPT, width 32, depth 4, heads 4, context 48, vocab_size 320  {total:,} parameters" in tree
    assert f"blocks 0-3: PreNorm  4 x 12,352 ({4 * 12352 / total:.1%})" in tree
    assert "attention: SelfAttention, heads 4, kv_heads 4, head_size 8  4 x 4,096 (" in tree
    assert "feed-forward: MLP, hidden 128, activation GELU  4 x 8,192 (" in tree
    assert "norms: LayerNorm  8 x 32 (" in tree and "\nnorm: LayerNorm  32 (" in tree
    assert "positions: Learned  1,536 (" in tree
    assert "head: tied to the embedding" in tree
    assert re.search(rf"^total +{total:,} +100.0%$", text, re.MULTILINE)
    assert "trainable" not in text and "active" not in text
    assert text.endswith(
        f'\nnext:\n  lit-gpt generate {folder} --prompt "..."\n  lit-gpt export {folder} --out exported\n'
    )
    assert all(line == line.rstrip() for line in lines)


def test_numbers_equal_those_of_the_summary_and_the_logs(save: Save, said: Callable[..., str]) -> None:
    settings = {"data": {"batch_size": 8, "context": 40}, "trainer": {"precision": "bf16-mixed"}}
    folder, net = save(settings, position=component("RoPE"))
    found = json.loads(said(folder, "--json"))
    assert (found["batch_size"], found["context"], found["precision"]) == (8, 40, "bf16-mixed")
    trainer = SimpleNamespace(
        precision="bf16-mixed", datamodule=SimpleNamespace(batch_size=8, context=40), accumulate_grad_batches=1,
        world_size=1, global_step=0, callbacks=[], is_global_zero=True,
    )  # fmt: skip
    module: Any = SimpleNamespace(net=net, total_steps=lambda: 10, device=torch.device("cpu"))
    table = dict(rows(trainer, module))  # type: ignore[arg-type]
    memory = found["training_memory"]
    assert table["memory"].startswith(f"{cost.size(memory['total'])} expected in training")
    assert f"({cost.size(memory['activations'])} of it activations)" in table["memory"]
    assert table["parameters"].startswith(f"{found['parameters']['parameters']:,} (")
    metrics = StepMetrics()
    metrics.on_train_start(trainer, module)  # type: ignore[arg-type]
    assert metrics._flops_per_token == found["flops_per_token"]["training"]
    assert found["checkpoint_bytes"] == cost.checkpoint_bytes(net)


def test_context_and_batch_size_are_taken(save: Save, said: Callable[..., str]) -> None:
    folder, net = save(position=component("RoPE"))
    found = json.loads(said(folder, "--json", "--context", "100", "--batch_size", "3"))
    memory, writing = cost.training_memory(net, 3, 100), cost.generation_memory(net, 1, 100)
    assert found["training_memory"]["activations"] == memory.activations
    assert found["training_memory"]["total"] == memory.total == sum(vars(memory).values())
    assert found["generation_memory"] == vars(writing) | {"total": writing.total}
    assert found["flops_per_token"]["forward"] == cost.flops_per_token(net, 100, training=False)
    text = said(folder, "--context", "100", "--batch_size", "3")
    assert f"{cost.size(memory.total)} at 3 x 100 tokens" in text and "for one sequence of 100 tokens" in text


def test_json_has_the_keys_that_help_names(save: Save, said: Callable[..., str]) -> None:
    folder, _ = save(feedforward=[component("SwiGLU"), component("MoE")])
    found = json.loads(said(folder, "--json"))
    _, *lines = NOTES.partition("keys of --json")[2].splitlines()
    named = [re.split("  +", line.strip()) for line in lines]
    assert list(found) == [key for keys, _ in named for key in keys.split()]
    for keys, meaning in named:
        inner = found[keys] if keys in found and keys != "parts" else None
        for key in inner if isinstance(inner, dict) else ():
            assert re.search(rf"\b{key}\b", meaning), (keys, key)


def entries(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [part for part in found["net"]["parts"] if part["name"] == name]


def test_local_and_global_layers_are_told_apart(save: Save, said: Callable[..., str]) -> None:
    local = component("SelfAttention", window=8, kv_heads=2, qk_norm=component("RMSNorm"))
    attention = [local, local, component("SelfAttention", kv_heads=1, head_size=12)]
    position = [component("RoPE"), component("RoPE"), component("RoPE", base=1e6)]
    folder, net = save(
        depth=8,
        attention=attention,
        position=position,
        norm=component("RMSNorm"),
        feedforward=component("GeGLU"),
        tie_embeddings=False,
    )
    found = json.loads(said(folder, "--json"))
    near, far = entries(found, "blocks")
    assert near["layers"] == [0, 1, 3, 4, 6, 7] and far["layers"] == [2, 5]
    assert near["copies"] == 6 and near["parameters"] == cost.count(net.blocks[0]).parameters
    told = {"heads": 4, "kv_heads": 2, "head_size": 8, "window": 8, "qk_norm": "RMSNorm"}
    assert near["parts"][0]["options"] == told
    assert far["parts"][0]["options"] == {"heads": 4, "kv_heads": 1, "head_size": 12}
    assert [(part["options"]["base"], part["layers"]) for part in entries(found, "positions")] == [
        (1e4, [0, 1, 3, 4, 6, 7]), (1e6, [2, 5]),
    ]  # fmt: skip
    assert entries(found, "head")[0]["parameters"] == 320 * 32 and found["net"]["options"]["tie_embeddings"] is False
    assert found["flops_per_token"]["forward"] < cost.flops_per_token(GPT(**SIZES | {"depth": 8}), training=False) * 2
    text = said(folder)
    assert "blocks 0-1, 3-4, 6-7: PreNorm  6 x " in text and "blocks 2, 5: PreNorm  2 x " in text
    assert "positions of blocks 2, 5: RoPE, base 1,000,000" in text
    every = [line for line in said(folder, "--all").splitlines() if "─ block " in line]
    assert [int(re.findall(r"block (\d+):", line)[0]) for line in every] == list(range(8))


def test_experts_are_named_and_counted_as_one_token_meets_them(save: Save, said: Callable[..., str]) -> None:
    folder, net = save(feedforward=[component("SwiGLU"), component("MoE", experts=6, top_k=2, shared=2, hidden=16)])
    found = json.loads(said(folder, "--json"))
    dense, mixed = entries(found, "blocks")
    assert dense["layers"] == [0, 2] and mixed["layers"] == [1, 3]
    told = {"hidden": 16, "experts": 6, "top_k": 2, "shared": 2}
    assert mixed["parts"][1]["options"] == told and mixed["parts"][1]["kind"] == "MoE"
    assert found["parameters"]["parameters"] - found["parameters"]["active"] == 2 * 4 * 3 * 16 * 32
    assert re.search(r"^feed-forward +[\d,]+ +[\d,]+ +", said(folder), re.MULTILINE)
    assert cost.count(net).active == found["parameters"]["active"]


def test_the_type_of_the_weights_is_the_files(save: Save, said: Callable[..., str]) -> None:
    folder, net = save(dtype=torch.bfloat16)
    found = json.loads(said(folder, "--json"))
    assert (found["dtype"], found["precision"]) == ("bfloat16", "bf16-true")
    assert found["file_bytes"] == (folder / "checkpoints/best.ckpt").stat().st_size
    assert found["training_memory"]["weights"] == 2 * cost.count(net).parameters
    assert found["generation_memory"]["per_token"] == 4 * 2 * 32 * 2


def test_options_of_parts() -> None:
    sizes = nn.Sizes(32, 4, 2, 48, 320, 0.0, 8)
    heads = {"heads": 4, "kv_heads": 4, "head_size": 8}
    for part, told in (
        (nn.SelfAttention(sizes), heads),
        (nn.SelfAttention(sizes, bias=True, scale=0.5), heads | {"bias": True, "scale": 0.5}),
        (nn.SelfAttention(sizes, dropout=0.1), heads | {"dropout": 0.1}),
        (nn.SelfAttention(sizes, qk_norm=nn.RMSNorm, qk_norm_over="heads", out_bias=True),
         heads | {"qk_norm": "RMSNorm", "qk_norm_over": "heads", "out_bias": True}),
        (nn.SelfAttention(sizes, attn_softcap=50.0, sinks=True, value_embedding=True, bias=True, out_bias=False),
         heads | {"bias": True, "out_bias": False, "attn_softcap": 50.0, "sinks": True, "value_embedding": True}),
        (nn.MLP(sizes, activation=partial(nn.GELU, "tanh"), bias=True),
         {"hidden": 128, "bias": True, "activation": "GELU(approximate tanh)"}),
        (nn.RMSNorm(sizes, eps=1e-6, affine=False), {"eps": 1e-6, "affine": False}),
        (nn.LayerNorm(sizes, bias=True), {"bias": True}),
        (nn.RoPE(sizes, scaling=partial(nn.LinearScaling, 4.0)), {"base": 1e4, "scaling": "LinearScaling(factor 4.0)"}),
    ):  # fmt: skip
        assert options(part) == told


class OneNorm(nn.PreNorm):
    """A part of a user's that keeps none of its arguments."""

    def __init__(self, *parts: Any, shared: int = 0) -> None:
        super().__init__(*parts)


def test_arguments_that_a_part_does_not_keep_are_not_told() -> None:
    sizes = nn.Sizes(32, 4, 2, 48, 320, 0.0, 8)
    assert options(OneNorm(sizes, nn.SelfAttention(sizes), nn.MLP(sizes), nn.RMSNorm, shared=1)) == {}


def test_options_of_the_whole_net() -> None:
    plain = anatomy(GPT(**SIZES))
    assert plain.options == SIZES
    net = GPT(**SIZES, dropout=0.1, logit_softcap=5.0, embedding_scale=2.0, embedding_norm=True, residual_scalars=True)
    tree = anatomy(net)
    added = {
        "dropout": 0.1,
        "logit_softcap": 5.0,
        "embedding_scale": 2.0,
        "embedding_norm": True,
        "residual_scalars": True,
    }
    assert {name: value for name, value in tree.options.items() if name not in SIZES} == added
    assert sum(leaves(part) for part in tree.parts) == tree.parameters == cost.count(net).parameters


def leaves(part: Part) -> int:
    """Parameters of the innermost entries of a tree."""
    return part.copies * (sum(leaves(inner) for inner in part.parts) if part.parts else part.parameters)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ([3], "3"), ([0, 1], "0-1"), (range(12), "0-11"), (range(0, 12, 2), "0, 2, 4 ... 10"), ([5, 11], "5, 11"),
        ([0, 1, 2, 4, 5, 7], "0-2, 4-5, 7"), (range(5, 48, 6), "5, 11, 17 ... 47"),
    ],
)  # fmt: skip
def test_numbers_of_layers_in_few_words(numbers: Any, words: str) -> None:
    assert spans(numbers) == words


def test_a_class_of_the_users_needs_trust_and_is_shown(
    save: Save, said: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from lit_gpt.nn import LayerNorm\n\n\nclass Louder(LayerNorm):\n"
        "    def __init__(self, sizes, volume: float = 1.0):\n        super().__init__(sizes)\n"
        "        self.volume = volume\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LIT_GPT_TRUST", "mine")
    folder, _ = save(norm={"class_path": "mine.Louder", "init_args": {"volume": 1.5}})
    text = said(folder)
    assert "norms: Louder, volume 1.5  8 x 32" in text
    assert f"\n  LIT_GPT_TRUST=mine lit-gpt generate {folder} " in text
    monkeypatch.delenv("LIT_GPT_TRUST")
    assert main(["inspect", str(folder)]) == 2


def test_no_weight_is_read(save: Save, said: Callable[..., str]) -> None:
    """A file whose numbers were changed is still what it is; who needs the numbers refuses it."""
    folder, _ = save()
    file = folder / "checkpoints" / "best.ckpt"
    manifest.write_manifest(file, {"step": 1234, "bytes": file.stat().st_size, "sha256": "0" * 64})
    assert "step 1,234" in said(folder)
    assert main(["generate", str(folder)]) == 2


def test_neither_lightning_nor_anything_on_standard_error(save: Save) -> None:
    folder, _ = save()
    code = (
        "import sys; from lit_gpt.__main__ import main\n"
        f"assert main(['inspect', {str(folder)!r}, '--json']) == 0\n"
        "assert not {'lightning', 'transformers', 'rich'} & set(sys.modules)"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stderr == "" and json.loads(done.stdout)["step"] == 1234


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere does not exist"),
        (["EMPTY"], "holds no checkpoint"),
        (["OTHER"], "other.ckpt is not a checkpoint of lit_gpt"),
        (["TEXT"], "text.ckpt is not a readable checkpoint"),
        (["RUN", "--context", "0"], "--context is 0; give at least 1"),
        (["RUN", "--batch_size", "-1"], "--batch_size is -1; give at least 1"),
        (["RUN", "--context", "49"], "--context is 49, but the net's positions end at 48; give at most 48"),
        (["RUN", "--contxt", "3"], "did you mean --context?"),
        (["RUN", "--context", "many"], "--context: invalid int value: 'many'"),
        ([], "the following arguments are required: run"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, save: Save, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    torch.save({"model": 1}, tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("nothing")
    places = {"RUN": save()[0], "EMPTY": tmp_path / "empty", "OTHER": tmp_path / "other.ckpt"}
    places["TEXT"] = tmp_path / "text.ckpt"
    assert main(["inspect", *[str(places.get(argument, argument)) for argument in arguments]]) == 2
    shown = capfd.readouterr()
    assert shown.out == "" and shown.err.startswith("lit-gpt: error: ") and shown.err.count("\n") == 1
    assert message in shown.err
