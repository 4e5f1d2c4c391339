"""What an import holds in memory: far less than the model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from random_models import tokenizer
from safetensors.torch import save_file

from lit_gpt.hub.importer import read_model
from lit_gpt.hub.weights import pairs

LARGEST = 1.3  # times the size of the model
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32_000, "hidden_size": 1280,
    "intermediate_size": 3456, "num_hidden_layers": 21, "num_attention_heads": 20, "hidden_act": "silu",
}  # fmt: skip
GPT2 = {
    "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 50_257, "n_embd": 1280, "n_layer": 23,
    "n_head": 20,
}  # fmt: skip
# In a process of its own: its largest resident set stands in /proc when it ends (ru_maxrss begins with the parent's).
PROGRAM = """
import re, sys
from lit_gpt.__main__ import main
code = main(["import", *sys.argv[1:]])
print(code, int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say what a process held")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("config", [CONFIG, GPT2], ids=["Llama", "GPT-2, all matrices transposed"])
def test_half_a_billion_parameters(config: dict[str, object], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    model = read_model(folder)
    own, weights = model.net.state_dict(), {}
    for pair in pairs(model.family.table, model.net):
        for name, like in zip(
            pair.theirs, pair.mapping.to_theirs([own[one] for one in pair.ours], model.net), strict=True
        ):
            weights[name] = torch.zeros(like.shape, dtype=torch.bfloat16)
    size = sum(tensor.nbytes for tensor in weights.values())
    assert size > 2 * 490e6
    save_file(weights, folder / "model.safetensors")
    del weights
    tokenizer(folder)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), "--out", str(tmp_path / "run")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    code, resident = done.stdout.split()[-2:]
    assert code == "0"
    print(f"{int(resident) / size:.2f} of {size / 1e9:.2f} GB")
    assert int(resident) < LARGEST * size
