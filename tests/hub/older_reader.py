"""Run by itself with an older transformers ahead of the path: what it makes of exported folders, short and long.

Usage: older_reader.py JOB, a JSON file of {"ids": file, "out": file, "cases": {name: folder}}. Writes to ``out`` what
it said for each folder within the original context (`<name>/short`) and past it (`<name>/long`); a folder that it
cannot load is named in `<out>.json` with the reason.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, __version__


@torch.no_grad()
def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    ids = load_file(job["ids"])
    found, faults = {}, {"version": __version__}
    for name, folder in job["cases"].items():
        try:
            model, loading = AutoModelForCausalLM.from_pretrained(
                folder, attn_implementation="eager", output_loading_info=True
            )
            assert not any(loading.values()), loading
            assert model.dtype == torch.float32
            for length in ("short", "long", "short again"):
                found[f"{name}/{length}"] = model.eval()(ids[length.split()[0]]).logits
        except Exception as fault:  # whatever it is, it is reported
            faults[name] = f"{type(fault).__name__}: {fault}"
    save_file(found, job["out"])
    Path(job["out"]).with_suffix(".json").write_text(json.dumps(faults))


if __name__ == "__main__":
    main()
