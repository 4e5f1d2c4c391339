"""Small records, and runs that were trained on such, for tests that ask a run."""

import json
import random
from pathlib import Path

import torch

from lit_gpt.data.formats.format import Format
from lit_gpt.model import GPT

WORDS = ["cat", "dog", "sun", "moon", "rain", "hill"]
RECORDS = ["--data.source=JsonLines", "--data.source.field=null", "--data.sequences=Prompts", "--data.batch_size=32"]
NET = ["--model.net.width=32", "--model.net.depth=1", "--model.net.heads=2", "--model.net.context=64"]
FEW = ["--trainer.accelerator=cpu", "--model.optimizer.lr=1e-2", "--trainer.enable_progress_bar=false"]


def records(name: str, kind: str) -> str:
    """A file of words and what is to be answered to them: the same in capitals."""
    draw, lines = random.Random(3), []
    for word in draw.choices(WORDS, k=300):
        said = [{"role": "user", "content": word}, {"role": "assistant", "content": word.upper()}]
        lines.append({"messages": said} if kind == "Chat" else {"source": word, "target": word.upper()})
    Path(name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"--data.source.paths={name}"


def made_run(name: str, format: Format, context: int = 128) -> Path:
    """A run of a net with random weights that was trained, as its checkpoint says, on this format."""
    from lit_gpt.data.tokenizers.byte_and_char import Byte

    folder = Path("runs", name, "checkpoints")
    folder.mkdir(parents=True)
    sizes = {"vocab_size": 320, "width": 16, "depth": 1, "heads": 2, "context": context, "seed": 5}
    tokenizer = Byte(special=format.for_tokenizer(Byte()).special_tokens)
    torch.save(
        {
            "format_version": 1,
            "state_dict": {f"net.{name}": tensor for name, tensor in GPT(**sizes).state_dict().items()},
            "config": {"model": {"net": {"class_path": "lit_gpt.model.GPT", "init_args": sizes}}},
            "tokenizer": tokenizer.state(),
            "format": format.configuration(),
            "global_step": 1,
        },
        folder / "best.ckpt",
    )
    return folder.parent
