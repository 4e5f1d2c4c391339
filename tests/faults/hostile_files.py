"""A generator of files that strangers could send: checkpoints, run folders, Hugging Face folders, YAML and archives.

Each would leave a mark outside, start a process, import a stranger's module or take all memory if it were believed.
"""

import bz2
import copy
import gzip
import hashlib
import io
import itertools
import json
import lzma
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

STRANGER = "stranger_package"  # a module of this name lies on the path and leaves a mark when it is imported
Payload = Callable[[Path], Any]


def _class(path: str, /, **arguments: Any) -> Payload:
    """A class path with arguments; MARK among them is the file that must not appear."""
    return lambda mark: {
        "class_path": path,
        "init_args": {key: value.replace("MARK", str(mark)) for key, value in arguments.items()},
    }


#: What a file may name in place of a component.
PAYLOADS: dict[str, Payload] = {
    "os.system": _class("os.system", command="touch MARK"),
    "module of a module": _class("torch.serialization.os.system", command="touch MARK"),
    "module of ours": _class("lit_gpt.train.run_folder.subprocess.Popen", args="touch MARK"),
    "function of torch": _class("torch.utils.collect_env.run", command="touch MARK"),
    "torch.hub": _class("torch.hub.load", repo_or_dir="MARK", model="x", source="local"),
    "builtin": _class("builtins.exec", source="open('MARK', 'w')"),
    "stranger": _class(f"{STRANGER}.Evil", path="MARK"),
    "stranger in a string": lambda mark: f"{STRANGER}.Evil",
    "function in a string": lambda mark: "os.getcwd",
    "alias of another class": _class("lit_gpt.train.run_folder.Path", path="MARK"),
    "class of a wrong type": _class("lightning.pytorch.loggers.CSVLogger", save_dir="MARK"),
    "wrong class of ours": _class("lit_gpt.data.corpus.memmap.Column", path="MARK"),
    "class that opens files": _class("logging.FileHandler", filename="MARK"),
    "class of torch that runs code": _class("torch.jit.CompilationUnit", lang="MARK"),
    "attribute of a class": _class("lit_gpt.model.GPT.__init__", x="MARK"),
    "file of settings": lambda mark: str(mark.parent / "inner.yaml"),
    "list": lambda mark: [{"class_path": "os.system", "init_args": {"command": f"touch {mark}"}}],
    "number": lambda mark: {"class_path": 7, "init_args": []},
}
#: Where a checkpoint names components.
PLACES = (
    "config.model.net",
    "config.model.net.init_args.norm",
    "config.model.net.init_args.attention",
    "config.model.net.init_args.position",
    "config.model.net.init_args.feedforward.0.init_args.activation",
    "config.model.objective",
    "config.model.optimizer",
    "config.model.schedule",
    "config.data.tokenizer",
    "config.data.source",
    "config.data.format",
    "config.data.filters",
    "config.data.sampler",
    "config.data.sequences",
    "tokenizer",
    "format",
)
TRAINER = ("callbacks", "logger", "strategy", "plugins", "profiler", "accelerator")


class Hostile(NamedTuple):
    """A hostile file or folder.

    Args:
        name: What it is, for messages.
        kind: checkpoint, run, hub, yaml, archive or prepared.
        place: Where in it the payload stands.
        path: The run folder, file or folder.
    """

    name: str
    kind: str
    place: str
    path: Path


def put(values: Any, place: str, payload: Any) -> Any:
    """A copy of nested values with a payload at a dotted place."""
    made = copy.deepcopy(values)
    *above, last = place.split(".")
    at = made
    for key in above:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if isinstance(at, list):
        at[int(last)] = payload
    else:
        at[last] = payload
    return made


def run_folder(base: Path, folder: Path, checkpoint: Any = None, config: Any = None) -> Path:
    """A run folder as `lit-gpt fit` leaves it, with another checkpoint or another config.yaml.

    Args:
        base: The folder of a run that is as it should be.
        folder: Where the new one goes.
        checkpoint: A dict to save, or the bytes of the file; by default that of the base.
        config: The text of config.yaml; by default that of the base.
    """
    (folder / "checkpoints").mkdir(parents=True)
    file = folder / "checkpoints" / "last-000002.ckpt"
    if isinstance(checkpoint, bytes):
        file.write_bytes(checkpoint)
    elif checkpoint is not None:
        torch.save(checkpoint, file)
    else:
        shutil.copy((base / "checkpoints" / "last.ckpt").resolve(), file)
    facts = {"step": 2, "bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    file.with_name(f"{file.name}.json").write_text(json.dumps(facts))
    (folder / "checkpoints" / "last.ckpt").symlink_to(file.name)
    shutil.copy(base / "run.json", folder / "run.json")
    (folder / "config.yaml").write_text((base / "config.yaml").read_text() if config is None else config)
    return folder


def checkpoints(base: Path, root: Path, mark: Path, every: int = 1) -> Iterator[Hostile]:
    """Checkpoints whose settings, tokenizer or format name something else than a component; each of `every`."""
    values = torch.load(base / "checkpoints" / "last.ckpt", weights_only=True)
    for number, (place, (name, payload)) in enumerate(itertools.product(PLACES, PAYLOADS.items())):
        if number % every == 0:
            folder = run_folder(base, root / f"c{number}", put(values, place, payload(mark)))
            yield Hostile(f"{place}: {name}", "checkpoint", place, folder)
    if every > 1:
        return
    for name, odd in {
        "deep": put(values, "config.model.net.init_args.norm", _deep(200)),
        "bomb": put(values, "config.data.source", _shared(60)),
        "no settings": {**values, "config": "os.system"},
        "depth": put(values, "config.model.net.init_args.depth", 10**9),
        "weights": {**values, "state_dict": {"net.x": "os.system"}},
        "tokenizer with a place": {**values, "tokenizer": _state("Pretrained", path="/etc")},
        "tokenizer that downloads": {**values, "tokenizer": _state("Tiktoken", encoding="gpt2")},
        "tokenizer with a class": {**values, "tokenizer": _state("BPE", vocab_size=PAYLOADS["os.system"](mark))},
    }.items():
        yield Hostile(name, "checkpoint", name, run_folder(base, root / f"o-{name.replace(' ', '_')}", odd))


def _state(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"lit_gpt.data.{name}", "init_args": arguments, "learned": {}}


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def _shared(levels: int) -> Any:
    value: Any = ["x"]
    for _ in range(levels):
        value = [value, value]
    return value


class _Reduced:
    """Pickled as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self._call


def pickles(base: Path, root: Path, mark: Path) -> Iterator[Hostile]:
    """Checkpoints that call a function when they are unpickled, in each layout that torch reads."""
    import subprocess

    values = torch.load(base / "checkpoints" / "last.ckpt", weights_only=True)
    calls = {
        "os.system": _Reduced(os.system, f"touch {mark}"),
        "subprocess": _Reduced(subprocess.Popen, ["touch", str(mark)]),
        "exec": _Reduced(exec, f"open({str(mark)!r}, 'w')"),
        "open": _Reduced(open, str(mark), "w"),
        "torch.hub": _Reduced(torch.hub.load, str(mark), "x", "local"),
    }
    for name, call in calls.items():
        for layout in ("zip", "legacy", "plain"):
            for key in ("state_dict", "config"):
                file = io.BytesIO()
                made = {**values, key: call}
                if layout == "plain":
                    pickle.dump({key: call}, file)
                else:
                    torch.save(made, file, _use_new_zipfile_serialization=layout == "zip")
                folder = run_folder(base, root / f"p-{name}-{layout}-{key}", file.getvalue())
                yield Hostile(f"{name} in {key}, {layout}", "checkpoint", "pickle", folder)
    swollen = io.BytesIO()
    with zipfile.ZipFile(swollen, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (1 << 26))
    yield Hostile("swollen zip", "checkpoint", "pickle", run_folder(base, root / "p-swollen", swollen.getvalue()))


def run_folders(base: Path, root: Path, mark: Path) -> Iterator[Hostile]:
    """Run folders whose checkpoint is as it should be and whose config.yaml is not."""
    config = yaml.safe_load((base / "config.yaml").read_text())
    places = [f"trainer.{key}" for key in TRAINER]
    places += ["data.tokenizer", "data.source", "model.objective", "model.optimizer"]
    for place in places:
        for name in ("os.system", "module of a module", "stranger", "class of a wrong type", "file of settings"):
            made = put(config, place, PAYLOADS[name](mark))
            folder = root / f"r-{place}-{name.replace(' ', '_')}"
            yield Hostile(f"{place}: {name}", "run", place, run_folder(base, folder, config=yaml.safe_dump(made)))
    writers = {
        "trainer.callbacks": _class("lightning.pytorch.callbacks.ModelCheckpoint", dirpath="MARK"),
        "trainer.logger": _class("lightning.pytorch.loggers.CSVLogger", save_dir="MARK"),
        "trainer.profiler": _class("lightning.pytorch.profilers.SimpleProfiler", dirpath="MARK", filename="x"),
        "trainer.strategy": _class("lightning.pytorch.strategies.DDPStrategy", ddp_comm_hook="os.system"),
        "data": lambda mark: str(mark),
        "config": lambda mark: str(mark),
    }
    for place, payload in writers.items():
        made = put(config, place, payload(mark))
        yield Hostile(
            f"{place}: writes", "run", place, run_folder(base, root / f"w-{place}", config=yaml.safe_dump(made))
        )
    for name, text in YAML.items():
        yield Hostile(f"config.yaml: {name}", "run", name, run_folder(base, root / f"y-{name}", config=text))


#: Texts that are no settings. An anchor's name and its aliases stand for ten times as much on each line.
_NEXT = tuple(zip("abcdefgh", "bcdefghi", strict=True))
YAML = {
    "aliases": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in _NEXT),
    "merges": "a: &a {k: 1}\n"
    + "".join(f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n" for old, new in _NEXT),
    "circle": "model: &a [*a]\n",
    "deep flow": "model: " + "[" * 900 + "]" * 900 + "\n",
    "deep block": "".join(f"{' ' * level}k:\n" for level in range(900)),
    "deep unclosed": "model: " + "{a: " * 20_000 + "\n",
    "object": "model: !!python/object/apply:os.system ['touch x']\n",
    "name": "model: !!python/name:os.system\n",
    "number": "seed_everything: " + "9" * 100_000 + "\n",
    "sexagesimal": "seed_everything: !!int 1" + ":59" * 300_000 + "\n",
    "date": "name: !!timestamp 2026-13-41\n",
}  # fmt: skip


def yaml_files(root: Path, mark: Path) -> Iterator[Hostile]:
    """Files for --config."""
    for name, text in YAML.items():
        file = root / f"{name.replace(' ', '_')}.yaml"
        file.write_text(text)
        yield Hostile(name, "yaml", name, file)
    for place in ("data.tokenizer", "data.source", "model.optimizer", "model.net.norm"):
        for name in ("os.system", "module of a module", "function of torch", "builtin"):
            values: dict[str, Any] = {"model": {"net": {}}, "data": {}}
            file = root / f"{place}-{name.replace(' ', '_')}.yaml"
            file.write_text(yaml.safe_dump(put(values, place, PAYLOADS[name](mark))))
            yield Hostile(f"{place}: {name}", "yaml", place, file)


def hub_folders(exported: Path, root: Path, mark: Path) -> Iterator[Hostile]:
    """Folders of the Hugging Face layout with code, pickles, paths that lead out, and templates without end."""
    code = f"open({str(mark)!r}, 'w')\n"
    deep = "[" * 100_000 + "]" * 100_000
    loops = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3

    def made(name: str, **files: str | bytes) -> Hostile:
        folder = root / f"h-{name.replace(' ', '_')}"
        shutil.copytree(exported, folder)
        for file, content in files.items():
            target = folder / file.replace("__", ".")
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return Hostile(name, "hub", name, folder)

    config = json.loads((exported / "config.json").read_text())
    settings = json.loads((exported / "tokenizer_config.json").read_text())
    auto = {"AutoModelForCausalLM": "modeling.Evil", "AutoConfig": "modeling.Evil", "AutoTokenizer": "modeling.Evil"}
    yield made("code", config__json=json.dumps({**config, "auto_map": auto}), modeling__py=code)
    own = {**settings, "auto_map": auto, "tokenizer_class": "Evil"}
    yield made("tokenizer code", tokenizer_config__json=json.dumps(own), modeling__py=code, tokenization__py=code)
    pickled = pickle.dumps(_Reduced(os.system, f"touch {mark}"))
    weights = made("pickled weights", pytorch_model__bin=pickled)
    (weights.path / "model.safetensors").unlink()
    yield weights
    yield made("index leads out", model__safetensors__index__json=json.dumps({"weight_map": {"x": "../x"}}))
    for file in ("config__json", "tokenizer_config__json", "tokenizer__json", "generation_config__json"):
        yield made(f"deep {file}", **{file: deep})
        yield made(f"deep object in {file}", **{file: '{"a": ' + deep + "}"})
        yield made(f"list in {file}", **{file: "[1]"})
    yield made("template", tokenizer_config__json=json.dumps({**settings, "chat_template": loops}))
    yield made("template file", chat_template__jinja=loops)
    reach = "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ cycler.__init__.__globals__.os.system('touch x') }}"
    yield made("template that reaches out", chat_template__jinja=reach)


PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def archives(root: Path) -> Iterator[Hostile]:
    """Compressed texts, and records, of 80 MB that are some kilobytes long."""
    zeros = b"0" * 80_000_000
    for suffix, pack in PACK.items():
        if suffix != ".gz":  # deflate cannot do more than a thousandfold
            file = root / f"bomb.txt{suffix}"
            file.write_bytes(pack(zeros))
            yield Hostile(f"text{suffix}", "archive", suffix, file)
    import zstandard

    file = root / "bomb.jsonl.zst"
    file.write_bytes(zstandard.ZstdCompressor().compress(b'{"text": "' + zeros + b'"}\n'))
    yield Hostile("records.zst", "archive", ".zst", file)
    file = root / "deep.jsonl"
    file.write_text('{"text": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    yield Hostile("deep records", "archive", ".jsonl", file)


def prepared_folders(prepared: Path, root: Path, mark: Path) -> Iterator[Hostile]:
    """Prepared texts whose tokenizer or manifest is not what it should be."""
    state = json.loads((prepared / "tokenizer.json").read_text())
    texts = {
        f"tokenizer: {name}": ("tokenizer.json", json.dumps({**state, **payload(mark)}))
        for name, payload in PAYLOADS.items()
        if isinstance(payload(mark), dict)
    }
    for file in ("manifest.json", "tokenizer.json", "train/manifest.json"):
        texts[f"deep {file}"] = (file, '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
        texts[f"list in {file}"] = (file, "[1]")
    for number, (name, (file, text)) in enumerate(texts.items()):
        folder = root / f"prepared{number}"
        shutil.copytree(prepared, folder)
        (folder / file).write_text(text)
        yield Hostile(name, "prepared", name, folder)
