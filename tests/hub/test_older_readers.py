"""What is exported means the same to transformers 4.57 and 5 as to us: within the original context, and past it."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from random_models import COMMON, Case, cases, make, save
from rounding import assert_only_rounded
from safetensors.torch import load_file, save_file

from lit_gpt import checkpoint
from lit_gpt.commands import export, import_
from lit_gpt.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# Without their own requirements, which the tests' environment has: torch is there once.
OLDER = ["transformers==4.57.6", "huggingface_hub==0.36.2", "tokenizers==0.22.2"]
ORIGINAL = 32
SHORT, LONG = 20, 80
LENGTHS = ("short", "long", "short again")  # a rotary table that grew goes back
SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 2.5},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": ORIGINAL,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": ORIGINAL},
    "yarn, mscales": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": ORIGINAL, "mscale": 1.0,
        "mscale_all_dim": 0.5, "beta_fast": 6.0, "truncate": False,
    },
    "longrope": {"rope_type": "longrope", "original_max_position_embeddings": ORIGINAL},
    "longrope, factor": {"rope_type": "longrope", "factor": 9.0, "original_max_position_embeddings": ORIGINAL},
}  # fmt: skip
# One case of each family with rotary positions; Gemma 3 has parameters for each kind of layer.
PLAIN = {
    "llama": "multi-head", "mistral": "window", "mixtral": "two of four experts", "olmo2": "as published",
    "phi3": "grouped, part of a head, tied", "qwen2": "windows above, tied", "qwen3": "wide heads",
    "qwen3_moe": "all layers sparse", "smollm3": "every fourth layer without positions", "starcoder2": "window",
    "gpt_neox": "a quarter turned, side by side", "gemma3": "two bases", "gemma2": "window in every other layer",
}  # fmt: skip


@dataclass(frozen=True)
class Scaled(Case):
    """A family's case with a scaling of its rotary positions."""

    scaling: str = ""

    def config(self) -> Any:
        plain = super().config()
        arguments = COMMON | self.module.CASES[self.name]
        rope = dict(SCALINGS[self.scaling])
        size = plain.head_dim if getattr(plain, "head_dim", None) else plain.hidden_size // plain.num_attention_heads
        both = plain.rope_parameters
        old = both.get("full_attention") or both
        share = old.get("partial_rotary_factor", 1.0)
        rope |= {"rope_theta": old["rope_theta"]} | ({"partial_rotary_factor": share} if share != 1 else {})
        if rope["rope_type"] == "longrope":
            pairs = int(size * share) // 2
            rope |= {"short_factor": [1.0 + 0.1 * i for i in range(pairs)]}
            rope |= {"long_factor": [2.0 + 0.7 * i for i in range(pairs)]}
        whole = {**both, "full_attention": rope} if "full_attention" in both else rope
        arguments |= {
            "rope_parameters": whole, "max_position_embeddings": ORIGINAL if self.scaling == "dynamic" else 128,
        }  # fmt: skip
        if self.family == "phi3":
            arguments["original_max_position_embeddings"] = ORIGINAL
        if self.family == "mixtral":
            arguments["head_dim"] = size  # transformers trips over its own default of None
        return getattr(transformers, self.module.ARCHITECTURE).config_class(**arguments)


def all_cases() -> dict[str, Case]:
    plain = {one.id: one.values[0] for one in cases()}
    pairs = [(family, scaling) for family in PLAIN for scaling in SCALINGS]
    # Phi-3 has LongRoPE alone.
    scaled = [Scaled(f, PLAIN[f], scaling) for f, scaling in pairs if f != "phi3" or "longrope" in scaling]
    return plain | {f"{one.family} with {one.scaling}": one for one in scaled}


@dataclass(frozen=True)
class Read:
    ours: dict[str, torch.Tensor]
    theirs: dict[str, torch.Tensor]
    newer: dict[str, torch.Tensor]
    faults: dict[str, str]
    sizes: dict[str, Any]


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the older transformers, to be put ahead of the path."""
    folder = tmp_path_factory.mktemp("older")
    words = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *OLDER]
    subprocess.run(words, check=True, timeout=280)
    return folder


@pytest.fixture(scope="module")
def read(older: Path, tmp_path_factory: pytest.TempPathFactory) -> Read:
    """All cases imported, exported and read by the older transformers in one process."""
    home = tmp_path_factory.mktemp("exports")
    ids = Case("llama", "multi-head").ids()
    given = {"short": ids[:, :SHORT].contiguous(), "long": ids[:, :LONG].contiguous()}
    save_file(given, home / "ids.safetensors")
    ours, newer, folders, sizes, refused = {}, {}, {}, {}, {}
    for place, (name, case) in enumerate(all_cases().items()):
        assert import_.main([str(save(make(case), home / f"in{place}")), "--out", str(home / f"run{place}")]) == 0
        words = [str(home / f"run{place}"), "--out", str(home / f"out{place}"), "--family", case.module.ARCHITECTURE]
        try:
            export.main(words)
        except UserError as fault:
            refused[name] = str(fault)
            continue
        folders[name] = home / f"out{place}"
        net = checkpoint.load(home / f"run{place}")[0]
        sizes[name] = net.sizes
        with torch.no_grad():
            ours |= {f"{name}/{length}": net(one) for length, one in given.items()}
            now = transformers.AutoModelForCausalLM.from_pretrained(folders[name], attn_implementation="eager").eval()
            newer |= {f"{name}/{length}": now(given[length.split()[0]]).logits for length in LENGTHS}
    job = {"ids": home / "ids.safetensors", "out": home / "found.safetensors", "cases": folders}
    (home / "job.json").write_text(json.dumps(job, default=str))
    script = Path(__file__).with_name("older_reader.py")
    environment = os.environ | {"PYTHONPATH": str(older), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, str(script), str(home / "job.json")], env=environment, check=True, timeout=280)
    faults = json.loads((home / "found.json").read_text())
    return Read(ours, load_file(home / "found.safetensors"), newer, faults | refused, sizes)


# What the older classes cannot say, they refuse; and what they do not refuse they must not misread.
REFUSED = (
    r"olmo2(:.*Llama 3 scaling| with (llama3|yarn|longrope).*)",  # linear and dynamic alone
    r"phi3 with longrope, factor",  # its factor of attention follows from the lengths alone
)


def test_the_reader_is_the_older_one(read: Read) -> None:
    assert read.faults["version"] == "4.57.6" and transformers.__version__.startswith("5.")


@pytest.mark.parametrize("name", all_cases())
def test_both_generations_read_the_same_net(name: str, read: Read) -> None:
    refused = re.fullmatch("|".join(REFUSED), name)
    if refused:
        assert "`rope_scaling` must be a dictionary with" in read.faults[name]
    else:
        assert read.faults.get(name) is None
    sizes = read.sizes[name]
    for who, theirs in (("transformers 5", read.newer), ("transformers 4.57", {} if refused else read.theirs)):
        for length in LENGTHS if theirs else ():
            ours = read.ours[f"{name}/{length.split()[0]}"]
            assert_only_rounded(theirs[f"{name}/{length}"], ours, sizes.depth, sizes.width, what=f"{who}, {length}")
