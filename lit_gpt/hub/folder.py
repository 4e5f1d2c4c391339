"""Reading of a Hugging Face folder: config.json and the tensors of its safetensors files, one at a time."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.data.progress import say
from lit_gpt.errors import UserError

SINGLE, INDEX, ADAPTER = "model.safetensors", "model.safetensors.index.json", "adapter_config.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a folder.

    Raises:
        UserError: It is missing or not readable.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one with config.json, *.safetensors and tokenizer.json")
    if (folder / ADAPTER).exists() and not (folder / "config.json").exists():
        raise UserError(f"{folder} holds an adapter ({ADAPTER}) and no model; merge it into its base, then give that")
    return read_json(folder / "config.json", "; give a folder with config.json, *.safetensors and tokenizer.json")


def read_json(file: Path, hint: str = "") -> dict[str, Any]:
    """Read an object from a JSON file.

    Raises:
        UserError: It is missing, not readable or not an object.
    """
    try:
        values = parse_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file.parent} has no {file.name}{hint}") from None
    except (OSError, ValueError) as fault:
        raise UserError(f"{file} cannot be read ({fault}); fetch it again") from None
    if not isinstance(values, dict):
        raise UserError(f"{file} is not a JSON object; fetch it again")
    return values


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


class Tensors:
    """The tensors of a folder by name: shapes and dtypes at once, values on demand.

    A file is opened for each read, so that its pages do not stay in memory.

    Args:
        folder: With model.safetensors, or shards and their index.

    Raises:
        UserError: No safetensors, a missing shard, a damaged file, or two files with different values of a tensor.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file_of: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self.others: dict[str, str] = {}  # dtypes of tensors that are not floats, such as masks
        promised: set[str] = set()
        for file in self._files(promised):
            self._look(file)
        if lacking := sorted(promised - self.shapes.keys()):
            raise UserError(f"{self.folder} lacks the tensor {lacking[0]}, which {INDEX} names; fetch it again")

    def _files(self, promised: set[str]) -> list[Path]:
        if (self.folder / ADAPTER).exists():
            raise UserError(
                f"{self.folder} holds an adapter ({ADAPTER}) beside a model; whether it counts depends on the reader: "
                "merge it into the weights, or remove its files"
            )
        index = self.folder / INDEX
        if index.exists():
            where = read_json(index).get("weight_map")
            if not isinstance(where, dict) or not all(isinstance(name, str) for name in where.values()):
                raise UserError(f"{index} has no weight_map of names and files; fetch it again")
            promised.update(where)
            names = sorted(set(where.values()))
            if any(Path(name).name != name for name in names):
                raise UserError(f"{index} names files outside its folder; they are not read")
            missing = [name for name in names if not (self.folder / name).exists()]
            whole = (self.folder / SINGLE).exists() and SINGLE not in names
            if whole and missing == names:
                say(f"{index} is not used: its shards are gone, and {SINGLE} is there")
                promised.clear()
                return [self.folder / SINGLE]
            if missing or not names:
                what = ", ".join(missing) or "any shard"
                instead = f"; or remove {INDEX} if {SINGLE} is meant" if whole else ""
                raise UserError(f"{self.folder} lacks {what}, which {INDEX} names; fetch it again{instead}")
            # All are read: a tensor in two of them must be the same in both.
            return [self.folder / name for name in ([*names, SINGLE] if whole else names)]
        if (self.folder / SINGLE).exists():
            return [self.folder / SINGLE]
        pickles = [file.name for pattern in _PICKLES for file in sorted(self.folder.glob(pattern))]
        if pickles:
            raise UserError(
                f"{self.folder} holds its weights as {pickles[0]} only, a format whose files can run code; "
                "take a version with *.safetensors, or convert it with safetensors"
            )
        raise UserError(f"{self.folder} holds no {SINGLE} and no {INDEX}; fetch the weights too")

    def _look(self, file: Path) -> None:
        try:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():
                    if name in self._file_of:
                        self._compare(name, opened.get_tensor(name), file)
                        continue
                    part = opened.get_slice(name)
                    self._file_of[name] = file
                    self.shapes[name] = tuple(part.get_shape())
                    if (kind := part.get_dtype()) in DTYPES:
                        self.dtypes[name] = DTYPES[kind]
                    else:
                        self.others[name] = str(kind)
        except (SafetensorError, OSError) as fault:
            raise UserError(f"{file} is damaged or cut short ({fault}); fetch it again") from None

    def _compare(self, name: str, other: Tensor, file: Path) -> None:
        one = self.read(name)
        # as bytes, so that NaN equals NaN
        if one.dtype != other.dtype or one.shape != other.shape or not torch.equal(_bytes(one), _bytes(other)):
            raise UserError(
                f"{self.folder} holds {name} twice, and the two differ: in {self._file_of[name].name} and in "
                f"{file.name}; remove the file that is not meant{f' (and {INDEX})' if file.name == SINGLE else ''}"
            )

    def keep(self, names: set[str]) -> None:
        """Forget all other tensors.

        Raises:
            UserError: One of these is not a float.
        """
        for name in sorted(names & self.others.keys()):
            raise UserError(
                f"{self._file_of[name]}: {name} is {self.others[name]}; only {', '.join(DTYPES)} can be read"
            )
        self.others = {}
        self.shapes = {name: shape for name, shape in self.shapes.items() if name in names}
        self.dtypes = {name: dtype for name, dtype in self.dtypes.items() if name in names}

    def read(self, name: str) -> Tensor:
        """One tensor, memory-mapped from its file."""
        with safe_open(self._file_of[name], "pt") as opened:
            found: Tensor = opened.get_tensor(name)
        return found

    @property
    def widest(self) -> torch.dtype:
        """The smallest dtype that holds all tensors without loss."""
        found = torch.bfloat16 if set(self.dtypes.values()) == {torch.bfloat16} else torch.float16
        for dtype in self.dtypes.values():
            found = torch.promote_types(found, dtype)
        return found

    @property
    def bytes(self) -> int:
        """Size of all tensors in bytes."""
        sizes = (torch.Size(shape).numel() * self.dtypes[name].itemsize for name, shape in self.shapes.items())
        return sum(sizes)
