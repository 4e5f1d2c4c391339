"""Import a Hugging Face model as a run directory: `lit-gpt import`."""

import shlex
from pathlib import Path

from lit_gpt import atomic_io
from lit_gpt.commands.parser import Parser
from lit_gpt.errors import UserError
from lit_gpt.train import run_folder

FILE = "imported.ckpt"
EXAMPLE = """examples:
  lit-gpt import downloads/SmolLM-135M --out runs/smol
  lit-gpt import Qwen/Qwen3-0.6B --out runs/qwen --dtype float32

A folder holds config.json, model.safetensors (or shards and their index) and tokenizer.json. Its architecture is read
from config.json; a field that has no counterpart here is an error, so what is imported computes the same. No code of
the folder is run and no pickle is read. The run directory works wherever a trained one does: generate, inspect, export,
fit --model.init_from, validate (with a text: --data.source.paths FILE)."""


def parser() -> Parser:
    """Return the parser of `lit-gpt import`."""
    made = Parser(
        prog="lit-gpt import",
        description="Import a Hugging Face model as a run directory.",
        epilog=EXAMPLE,
    )
    add = made.add_argument
    add("model", help="a folder, or the name of a model on the hub")
    add("--out", metavar="FOLDER", help="new run directory (default: runs/<name of the model>)")
    add(
        "--dtype", choices=("float32", "float16", "bfloat16", "float64"),
        help="dtype of the weights in the checkpoint (default: as stored)",
    )  # fmt: skip
    add("--tokenizer", metavar="FOLDER", help="use the tokenizer of another folder")
    add("--revision", help="branch, tag or commit of a model on the hub (default: the newest)")
    return made


def main(argv: list[str]) -> int:
    """Run the command; return its exit code."""
    arguments = parser().parse_args(argv)
    out = Path(arguments.out or Path("runs") / Path(arguments.model.rstrip("/")).name)
    free(out)
    # importing torch takes a second: only after the arguments are checked
    import torch

    from lit_gpt.data.progress import Progress, say
    from lit_gpt.hub.agreement import notes
    from lit_gpt.hub.folder import Tensors
    from lit_gpt.hub.importer import find_tensors, read_model, read_tokenizer, write_checkpoint

    model = read_model(folder_of(arguments.model, arguments.revision))
    tensors = Tensors(model.folder)
    find_tensors(model, tensors)
    tokenizer = read_tokenizer(model, Path(arguments.tokenizer) if arguments.tokenizer else None)
    for line in notes(model.folder, model.config):
        say(line)
    dtype = getattr(torch, arguments.dtype) if arguments.dtype else tensors.widest
    hint = "nothing was written: free some space, or choose another --out"
    with atomic_io.disk_errors(out, tensors.bytes, hint), atomic_io.staged_folder(out, "importing") as staged:
        lock = run_folder.lock(staged)  # a run that starts meanwhile does not sweep what is locked
        folder = staged / run_folder.CHECKPOINTS
        folder.mkdir()
        with Progress("importing", tensors.bytes, "bytes") as progress:
            write_checkpoint(model, tensors, tokenizer, folder / FILE, dtype, progress.advance)
        for link in ("best.ckpt", "last.ckpt"):
            (folder / link).symlink_to(FILE)
        facts = run_folder.facts(["import", *argv], torch.get_num_threads())
        run_folder.write_facts(staged, facts | {"state": "imported", "imported": model.family.architecture})
        free(out)
    lock.close()
    parameters = sum(p.numel() for p in model.net.parameters())
    kind = str(dtype).removeprefix("torch.")
    print(
        f"{model.family.architecture}, {parameters:,} parameters in {kind}, {tokenizer.vocab_size:,} tokens, "
        f"context {model.net.context:,}: {out}"
    )
    ask = '--chat "..."' if tokenizer.chat_templates else "--prompt 'Once upon a time'"
    print(f"next: lit-gpt generate {shlex.quote(str(out))} {ask}")
    print(f"      lit-gpt inspect {shlex.quote(str(out))}")
    shorter = " --data.context 512" if model.net.context > 512 else ""
    print(
        f"      lit-gpt fit --config configs/finetune.yaml --model.init_from {shlex.quote(str(out))}"
        f" --data.source.paths my_book.txt{shorter} --model.optimizer.lr 5e-5"
    )
    return 0


def free(out: Path) -> None:
    """Check that the folder can be created.

    Raises:
        UserError: It exists and is not empty, or is a file, or cannot be created.
    """
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
    if out.exists() or out.is_symlink():
        raise UserError(f"{out} exists already; nothing was written: choose another --out, or remove it")
    run_folder.writable(out.parent)


def folder_of(model: str, revision: str | None) -> Path:
    """The folder of a path or of a model on the hub, which is downloaded.

    Raises:
        UserError: It does not exist.
    """
    from lit_gpt.hub.download import download, is_hub_name

    path = Path(model)
    if path.exists() or not is_hub_name(model):
        if revision is not None:
            raise UserError(f"--revision {revision} is for models on the hub; {model} is a path")
        if not path.exists():
            raise UserError(f"there is no folder {model}; give one with config.json, or the name of a model on the hub")
        return path
    return download(model, revision)
