"""Saved: a tokenizer that was learned before, wherever it lies.

Knows: files, checkpoints, runs, folders of the hub. Does not know: any one tokenizer.
"""

from pathlib import Path

from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError


class Saved(Tokenizer):
    """A tokenizer that was learned before: of a corpus, of a run, of a checkpoint, of a model made elsewhere.

    Args:
        path: A tokenizer's JSON file, a checkpoint (.ckpt), or a folder that holds either (a corpus, a run, a model of
            the Hugging Face hub, which gives Pretrained).
    """

    def __new__(cls, path: str) -> Tokenizer:  # type: ignore[misc]  # the class that was saved, not this one
        found = Path(path)
        if found.is_dir():
            inside = ("tokenizer.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt")
            found = next((found / name for name in inside if (found / name).exists()), found)
            if found.is_dir():
                raise UserError(f"{path} holds no tokenizer (no {', '.join(inside)}); give the file itself")
        if found.suffix != ".ckpt":
            return _of_others(found) or Tokenizer.load(found)
        from lit_gpt.checkpoint.contents import read

        state = read(found, verify=False).tokenizer
        if state is None:
            raise UserError(f"checkpoint {found} holds no tokenizer; give the tokenizer's own file")
        return Tokenizer.restore(state, file=found)

    def __init__(self, path: str) -> None:  # read by the command line for its menu; never run
        raise AssertionError(path)


def _of_others(file: Path) -> Tokenizer | None:
    """The tokenizer of a tokenizer.json that the tokenizers library wrote, with what lies beside it; else None."""
    if file.name != "tokenizer.json":
        return None
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if (
        not isinstance(content, dict)
        or "class_path" in content
        or "model" not in content
        or "added_tokens" not in content
    ):
        return None
    from lit_gpt.data.tokenizers.pretrained import Pretrained

    return Pretrained.from_folder(file.parent)
