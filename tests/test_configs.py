"""Each file in configs/ parses, builds and trains, made small by what is typed after it."""

import math
from pathlib import Path

import pytest

from lit_gpt import load
from lit_gpt.__main__ import main
from lit_gpt.cli import build

CONFIGS = Path(__file__).parents[1] / "configs"
WHOLE = sorted(file for file in CONFIGS.glob("*.yaml") if file.stem != "finetune")
OVERLAYS = sorted(CONFIGS.glob("trainer/*.yaml"))
SMALL = {
    "model.net.width": 32,
    "model.net.depth": 2,
    "model.net.heads": 4,
    "model.net.context": 16,
    "data.batch_size": 2,
    "data.val_batch_size": 64,
    "trainer.max_steps": 2,
    "trainer.precision": "32-true",
    "trainer.accumulate_grad_batches": 1,
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.limit_val_batches": 1,
    "trainer.enable_progress_bar": False,
    "trainer.log_every_n_steps": 1,
    "sample.max_new_tokens": 3,
}


def small(folder: Path, text: Path, config: Path) -> dict[str, object]:
    """What makes a config small enough for a test, on a text of the tests' own."""
    tokenizer = {} if "char" in config.read_text(encoding="utf-8") else {"data.tokenizer.vocab_size": 300}
    source = {"data.source": {"class_path": "TextFiles", "init_args": {"paths": str(text)}}}
    return {**SMALL, **tokenizer, **source, "trainer.default_root_dir": str(folder)}


@pytest.mark.parametrize("config", WHOLE, ids=lambda file: file.stem)
def test_a_config_builds_and_trains(config: Path, tmp_path: Path, text_file: Path) -> None:
    run = build(config, small(tmp_path, text_file, config))
    run.trainer.fit(run.model, run.data)
    assert run.trainer.global_step == 2
    assert math.isfinite(float(run.trainer.callback_metrics["val_loss"]))
    net, tokenizer = load(tmp_path / config.stem)
    assert net.vocab_size >= tokenizer.vocab_size


def test_finetune_takes_net_and_tokenizer_from_any_run(tmp_path: Path, text_file: Path) -> None:
    base = build(CONFIGS / "llama.yaml", small(tmp_path, text_file, CONFIGS / "llama.yaml"))
    base.trainer.fit(base.model, base.data)
    typed = {key: value for key, value in SMALL.items() if not key.startswith("model.net.")}
    typed |= {"data.source.paths": str(text_file), "trainer.default_root_dir": str(tmp_path)}
    run = build(CONFIGS / "finetune.yaml", {**typed, "model.init_from": str(tmp_path / "llama")})
    assert run.model.net.sizes == base.model.net.sizes
    assert run.data.tokenizer.fingerprint() == base.data.tokenizer.fingerprint()
    run.trainer.fit(run.model, run.data)
    assert run.trainer.global_step == 2


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda file: file.stem)
@pytest.mark.parametrize("config", [CONFIGS / "gpt2.yaml", CONFIGS / "quickstart.yaml"], ids=lambda file: file.stem)
def test_an_overlay_goes_over_a_config(config: Path, overlay: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config", str(config), "--config", str(overlay), "--print_config"])
    assert ended.value.code == 0
    wanted = "accelerator: cpu" if overlay.stem == "cpu" else "accelerator: gpu"
    assert wanted in capsys.readouterr().out


@pytest.mark.parametrize("file", [*WHOLE, CONFIGS / "finetune.yaml", *OVERLAYS], ids=lambda file: file.stem)
def test_a_config_says_in_its_first_lines_what_it_does(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("# ")


def test_the_rate_that_is_logged_is_the_one_that_was_typed(tmp_path: Path, text_file: Path) -> None:
    """shakespeare_char gives its embeddings, the first group of the optimizer, ten times the rate."""
    config = CONFIGS / "shakespeare_char.yaml"
    run = build(config, {**small(tmp_path, text_file, config), "model.schedule": "WarmupLinear"})
    run.trainer.fit(run.model, run.data)
    peaks = [group["initial_lr"] for group in run.trainer.optimizers[0].param_groups]
    assert peaks[0] == pytest.approx(10 * peaks[1])
    assert 0 < run.model.accumulators.lr <= peaks[1]
