"""Export a run as a Hugging Face model folder for transformers: `lit-gpt export`."""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from lit_gpt import atomic_io
from lit_gpt.commands.parser import Parser
from lit_gpt.config.trust import check_untrusted
from lit_gpt.errors import UserError
from lit_gpt.train import run_folder

EXAMPLE = """examples:
  lit-gpt export runs/smol --format hf --out exported/
  lit-gpt export runs/smol --format hf --out exported/ --family LlamaForCausalLM --dtype bfloat16

The folder loads with AutoModelForCausalLM and AutoTokenizer, without remote code. A net that no family of transformers
can represent is an error that names the differences."""


def parser() -> Parser:
    """Return the parser of `lit-gpt export`."""
    made = Parser(
        prog="lit-gpt export",
        description="Export a run as a Hugging Face model folder.",
        epilog=EXAMPLE,
    )
    add = made.add_argument
    add("run", help="run directory (its best checkpoint is taken, else its last) or .ckpt file")
    add("--format", choices=("hf",), default="hf", help="hf: config.json, safetensors, tokenizer (default: hf)")
    add("--out", required=True, metavar="FOLDER", help="new folder")
    add("--family", metavar="NAME", help="architecture, such as LlamaForCausalLM (default: the first that fits)")
    add(
        "--dtype",
        choices=("float32", "float16", "bfloat16", "float64"),
        help="dtype of the weights (default: stored)",
    )
    add("--max_shard_size", default="5GB", metavar="SIZE", help="largest safetensors file (default: 5GB)")
    return made


def main(argv: list[str]) -> int:
    """Run the command; return its exit code."""
    arguments = parser().parse_args(argv)
    if not re.fullmatch(r"\d+(\.\d+)?[KMGT]B", arguments.max_shard_size):
        raise UserError(f"--max_shard_size is {arguments.max_shard_size!r}; give a size such as 5GB or 200MB")
    out = Path(arguments.out)
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists already; nothing was written: choose another --out, or remove it")
    run_folder.writable(out.absolute().parent)
    import torch

    from lit_gpt import checkpoint
    from lit_gpt.data.formats.chat import Chat
    from lit_gpt.data.progress import Progress
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer
    from lit_gpt.data.tokenizers.tokenizer_json import ends_of, with_ends, with_templates
    from lit_gpt.hub.exporter import choose, write_folder
    from lit_gpt.model import GPT

    saved = checkpoint.read(arguments.run)
    file, net = saved.path, saved.net_config()
    if net["class_path"] not in ("lit_gpt.GPT", "lit_gpt.model.GPT"):  # its public and its full name
        raise UserError(f"{file} holds a {net['class_path']}, a class that no other program knows")
    check_untrusted(net, GPT, file, "model.net")
    tokenizer = Tokenizer.restore(saved.tokenizer or {}, file=file)
    files, format = tokenizer.hub_files(), checkpoint.load_format(file, tokenizer)
    if isinstance(format, Chat):
        template = format.template.program(tokenizer.roles.get("bos"))
        if template is None:
            print(f"without a chat template: {type(format.template).__name__} has no Jinja program", file=sys.stderr)
        else:
            files = with_templates(files, template)
    stops = [tokenizer.special_id(name) for name in format.stops] + sorted(tokenizer.end_ids)
    if set(stops) - set(ends_of(files, tokenizer.eos)):
        files = with_ends(files, ids(tokenizer), stops)
    family, config = choose(net["init_args"], files, saved.origin, arguments.family)
    weights = saved.weights
    if arguments.dtype:
        weights = Cast(weights, getattr(torch, arguments.dtype))
    size = sum(one.numel() for one in weights.values()) * weights["embedding.weight"].dtype.itemsize  # after a cast
    hint = "nothing was written: free some space, or choose another --out"
    with atomic_io.disk_errors(out, size, hint), atomic_io.staged_folder(out) as staged:
        with Progress("exporting", size, "bytes") as progress:
            write_folder(
                staged, family, config, net["init_args"], weights, files, ids(tokenizer),
                arguments.max_shard_size, progress.advance,
            )  # fmt: skip
    where = shlex.quote(str(out))
    print(f"{family.architecture}: {out}")
    start = [{"role": "user", "content": "How are you?"}] if isinstance(format, Chat) else "Once"
    call = f'pipeline("text-generation", {json.dumps(str(out))})({json.dumps(start)})'
    code = f"from transformers import pipeline; print({call})"
    print(f"next: python -c {shlex.quote(code)}")
    print(f"      lit-gpt import {where} --out runs/again")
    return 0


class Cast(dict[str, Any]):
    """Tensors by name, each cast when it is read."""

    def __init__(self, tensors: dict[str, Any], dtype: Any) -> None:
        super().__init__(tensors)
        self.dtype = dtype

    def __getitem__(self, name: str) -> Any:
        return super().__getitem__(name).to(self.dtype)


def ids(tokenizer: Any) -> dict[str, Any]:
    """The ids of BOS, EOS and padding, as fields of config.json."""
    return {f"{role}_token_id": getattr(tokenizer, role) for role in ("bos", "eos", "pad")}
