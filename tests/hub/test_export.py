"""What is exported: nets of one's own, refusals that say why, shards, types; transformers loads all of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rounding import assert_only_rounded
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_gpt import checkpoint
from lit_gpt.__main__ import main
from lit_gpt.cli import build
from lit_gpt.data.progress import Progress
from lit_gpt.generate.text_generator import TextGenerator

TINY = [
    *("--model.net.width=32", "--model.net.depth=2", "--model.net.heads=4", "--model.net.context=32"),
    *("--data.batch_size=2", "--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu"),
    *("--trainer.enable_progress_bar=false", "--sample.max_new_tokens=1"),
]
GPT2 = [
    "--model.net.feedforward={class_path: MLP, init_args: {bias: true, activation: {class_path: GELU, init_args: "
    "{approximate: tanh}}}}",
    "--model.net.attention.bias=true",
    "--model.net.norm.bias=true",
    "--data.tokenizer={class_path: BPE, init_args: {vocab_size: 300}}",
]
LLAMA = [
    "--model.net.feedforward=SwiGLU",
    "--model.net.norm=RMSNorm",
    "--model.net.position=RoPE",
    "--model.net.attention.kv_heads=2",
    "--model.net.tie_embeddings=false",
    "--data.tokenizer=Byte",
]


def trained(words: list[str], folder: Path, text: Path) -> Path:
    """A run after one step."""
    run = build(None, [*TINY, f"--trainer.default_root_dir={folder}", f"--data.source.paths={text}", *words])
    run.trainer.fit(run.model, run.data)
    return folder / "run"


@pytest.mark.parametrize(
    ("words", "architecture"),
    [
        (GPT2, "GPT2LMHeadModel"),
        (LLAMA, "LlamaForCausalLM"),
        ([*LLAMA, "--model.net.attention.window=8"], "MistralForCausalLM"),
        ([*LLAMA, "--model.net.attention.qk_norm=RMSNorm"], "Qwen3ForCausalLM"),
        ([*LLAMA, "--model.net.feedforward=MoE", "--model.net.feedforward.experts=4"], "MixtralForCausalLM"),
        ([*LLAMA, "--model.net.position=[RoPE, NoPosition]"], "SmolLM3ForCausalLM"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@torch.no_grad()
def test_a_net_of_ones_own_goes_out_and_comes_back(
    words: list[str], architecture: str, tmp_path: Path, text_file: Path
) -> None:
    run = trained(words, tmp_path, text_file)
    net, tokenizer = checkpoint.load(run)
    out = tmp_path / "out"
    assert main(["export", str(run), "--format", "hf", "--out", str(out)]) == 0
    assert json.loads((out / "config.json").read_text())["architectures"] == [architecture]
    theirs, their_tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    ids = tokenizer.encode("the cat sat on a mat and saw the moon")
    assert their_tokenizer("the cat sat on a mat and saw the moon", add_special_tokens=False).input_ids == ids
    batch = torch.tensor([ids[:30]])
    assert_only_rounded(theirs(batch).logits, net(batch), net.sizes.depth, net.sizes.width)
    assert main(["import", str(out), "--out", str(tmp_path / "again")]) == 0
    again = checkpoint.load(tmp_path / "again")[0]
    for name, weight in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name


@pytest.mark.parametrize("template", ["ChatML", "Llama3", "Gemma", "Phi3"])
@pytest.mark.parametrize("tokenizer", ["Byte", "{class_path: BPE, init_args: {vocab_size: 400, bos: <s>}}"])
def test_a_conversation_is_laid_out_by_transformers_as_it_was_learned(
    template: str, tokenizer: str, tmp_path: Path
) -> None:
    asked = [{"role": "user", "content": " What is\na cat? "}, {"role": "assistant", "content": "It sat.\n"}]
    asked += [{"role": "user", "content": 'And a "mat" 🙂?'}]
    records = tmp_path / "chats.jsonl"
    records.write_text("".join(json.dumps({"messages": asked[:2]}) + "\n" for _ in range(20)))
    words = [*LLAMA[:-1], f"--data.tokenizer={tokenizer}", "--data.source.field=null", "--data.sequences=Prompts"]
    words += ["--data.format=Chat", f"--data.format.template={template}", "--model.net.context=128"]
    run, out = trained(words, tmp_path, records), tmp_path / "out"
    assert main(["export", str(run), "--out", str(out)]) == 0
    ours = checkpoint.load(run)[1]
    generator = TextGenerator(*checkpoint.load(run), checkpoint.load_format(run, ours))
    theirs = AutoTokenizer.from_pretrained(out)
    ids = theirs.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
    assert ids == generator.question({"messages": asked})
    ends = json.loads((out / "generation_config.json").read_text())["eos_token_id"]
    assert generator.format.stops and {ours.special_id(name) for name in generator.format.stops} <= set(ends)
    with pytest.raises(Exception, match=f"{template} knows the roles"):
        theirs.apply_chat_template([{"role": "judge", "content": "no"}])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([*LLAMA, "--model.net.position=ALiBi"], "position is ALiBi, there RoPE"),
        ([*LLAMA, "--model.net.block=PostNorm"], "block is PostNorm, there PreNorm"),
        ([*LLAMA, "--model.net.attention.sinks=true"], "attention.sinks is True, there False"),
        ([*LLAMA, "--model.net.feedforward=[SwiGLU, GeGLU]"], "feedforward is GeGLU, there SwiGLU"),
        ([*GPT2, "--model.net.norm.bias=false"], "norm.bias is False, there True"),
        (
            [*GPT2, "--model.net.feedforward.activation=ReLUSquared"],
            "activation is ReLUSquared, there GELU",
        ),
        ([*LLAMA, "--model.net.residual_scalars=true"], "residual_scalars is True, there False"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_family_can_express_is_refused_with_the_reason(
    words: list[str], reason: str, tmp_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(words, tmp_path, text_file)
    capsys.readouterr()
    assert main(["export", str(run), "--out", str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "no family of transformers can express this net; the nearest, " in printed
    assert reason in printed, printed
    assert not (tmp_path / "out").exists()


def test_a_family_that_brings_its_own_tokenizer_is_refused(
    tmp_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*LLAMA, "--model.net.attention.bias=true", "--model.net.attention.out_bias=false"]
    run = trained(words, tmp_path, text_file)
    capsys.readouterr()
    assert main(["export", str(run), "--out", str(tmp_path / "out")]) == 2
    assert (
        "Qwen2ForCausalLM can express this net, but transformers reads any tokenizer beside it as Qwen2Tokenizer"
        in capsys.readouterr().err
    )


def test_options(
    tmp_path: Path, text_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(LLAMA, tmp_path, text_file)
    shown: list[Progress] = []

    def seen(progress: Progress) -> Progress:
        shown.append(progress)
        return progress

    monkeypatch.setattr(Progress, "__enter__", seen)

    def export(*words: Any) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["export", str(run), "--out", str(tmp_path / f"out{len(words)}"), *map(str, words)])
        return code, capsys.readouterr().err

    assert export("--dtype", "bfloat16", "--max_shard_size", "20KB")[0] == 0
    assert [progress.done for progress in shown] == [progress.total for progress in shown] != []
    out = tmp_path / "out4"
    index = json.loads((out / "model.safetensors.index.json").read_text())
    shards = sorted(set(index["weight_map"].values()))
    assert len(shards) > 1 and all((out / shard).stat().st_size < 21_000 for shard in shards)
    theirs = AutoModelForCausalLM.from_pretrained(out)
    assert theirs.dtype == torch.bfloat16
    net, _ = checkpoint.load(run)
    assert torch.equal(theirs.lm_head.weight, net.head.weight.bfloat16())
    assert main(["import", str(out), "--out", str(tmp_path / "again")]) == 0
    assert checkpoint.load(tmp_path / "again")[0].head.weight.dtype == torch.bfloat16

    code, printed = export("--family", "Olmo2ForCausalLM")
    assert code == 2 and printed.startswith("lit-gpt: error: Olmo2ForCausalLM cannot express this net: ")
    for reason in (
        "block is PreNorm, there ResPostNorm",
        "attention.qk_norm is none, there RMSNorm",
        "attention.qk_norm_over is head, there heads",
    ):
        assert reason in printed
    assert "did you mean LlamaForCausalLM?" in export("--family", "LlamaForCausal")[1]
    assert "did you mean Qwen3MoeForCausalLM?" in export("--family", "qwen3_moe")[1]
    assert "did you mean" not in export("--family", "FalconForCausalLM")[1]
    printed = export("--family", "GPTNeoXForCausalLM")[1]
    assert "feedforward is SwiGLU, there MLP" in printed and "activation" not in printed
    for size in ("many", "1B", "GB"):
        assert "give a size such as 5GB" in export("--max_shard_size", size)[1]
    (tmp_path / "out0").mkdir()
    (tmp_path / "out0" / "mine").touch()
    code, printed = export()
    assert code == 2 and "exists already; nothing was written" in printed
