"""Saved: the tokenizer of a file, corpus, run, checkpoint or hub folder."""

from pathlib import Path

from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.tokenizers.tokenizer import Tokenizer
from lit_gpt.errors import UserError


class Saved(Tokenizer):
    """A trained tokenizer: of a corpus, a run, a checkpoint, or a published model.

    Args:
        path: A tokenizer's JSON file, a checkpoint (.ckpt), or a folder that holds either (a corpus, a run, a model of
            the Hugging Face hub, which gives Pretrained).
    """

    def __new__(cls, path: str) -> Tokenizer:  # type: ignore[misc]  # gives the class that was saved
        file = Path(path)
        if file.is_dir():
            inside = ("tokenizer.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt")
            candidates = [file / name for name in inside if (file / name).exists()]
            if not candidates or candidates[0].is_dir():
                raise UserError(f"{path} holds no tokenizer (no {', '.join(inside)}); give the file itself")
            file = candidates[0]
        if file.suffix != ".ckpt":
            return _from_library_file(file) or Tokenizer.load(file)
        from lit_gpt.checkpoint.contents import read

        state = read(file, verify=False).tokenizer
        if state is None:
            raise UserError(f"checkpoint {file} holds no tokenizer; give the tokenizer's own file")
        return Tokenizer.restore(state, file=file)

    def __init__(self, path: str) -> None:  # for the command line's help; never called
        raise AssertionError(path)


def _from_library_file(file: Path) -> Tokenizer | None:
    """The tokenizer of a tokenizer.json of the tokenizers library and the files beside it; None for other files."""
    if file.name != "tokenizer.json":
        return None
    try:
        content = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or "class_path" in content or not {"model", "added_tokens"} <= content.keys():
        return None
    from lit_gpt.data.tokenizers.pretrained import Pretrained

    return Pretrained.from_folder(file.parent)
