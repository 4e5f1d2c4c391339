"""Translators as they are named on the command line: a function of the user's, or a run that learned from pairs.

Knows how each is found, asked and checked; does not know documents, or what becomes of the translations.
"""

import importlib
import re
from pathlib import Path
from typing import Any

from lit_gpt.checkpoint import manifest
from lit_gpt.config.yaml_files import nearest
from lit_gpt.data.augment.backtranslation import Translator
from lit_gpt.errors import UserError

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_function(name: str) -> bool:
    """Whether a name is `module:function`, and not the path of a run."""
    return bool(_FUNCTION.fullmatch(name)) and not Path(name).exists()


class Function(Translator):
    """A function of the user's: from a list of texts to the list of their translations.

    Args:
        option: How it was given, for errors: --there or --back.
        name: module:function; the module is found from the current folder and on PYTHONPATH.
    """

    def __init__(self, option: str, name: str) -> None:
        self.option, self.name = option, name
        module, _, function = name.partition(":")
        try:
            found = importlib.import_module(module)
        except Exception as fault:
            absent = fault.name if isinstance(fault, ModuleNotFoundError) else None
            if absent is not None and f"{module}.".startswith(f"{absent}."):
                raise UserError(
                    f"{option} {name}: there is no module {module} in this folder or on PYTHONPATH; check its name"
                ) from fault
            raise UserError(f"{option} {name}: importing {module} raised {_told(fault)}; mend it") from fault
        self._call = getattr(found, function, None)
        if not callable(self._call):
            near = nearest(function, (one for one in vars(found) if callable(getattr(found, one))))
            has = f"did you mean {module}:{near}?" if near else "check its name"
            raise UserError(f"{option} {name}: {module} has no function {function}; {has}")

    def translate(self, texts: list[str], seeds: list[int]) -> list[str | None]:
        assert callable(self._call)
        try:
            made = self._call(list(texts))
        except Exception as fault:
            raise UserError(
                f"{self.option} {self.name} raised {_told(fault)} for {len(texts)} text(s), the first"
                f" {_short(texts[0])}; mend it and run the same again, it goes on where it stopped"
            ) from fault
        if not isinstance(made, list | tuple):
            raise UserError(f"{self.option} {self.name} returned a {type(made).__name__}, not a list of translations")
        if len(made) != len(texts):
            raise UserError(
                f"{self.option} {self.name} returned {len(made)} translation(s) for {len(texts)} text(s); it has to"
                " return one for each, in their order"
            )
        for text, one in zip(texts, made, strict=True):
            if not isinstance(one, str):
                raise UserError(
                    f"{self.option} {self.name} returned a {type(one).__name__} for {_short(text)}; it has to return"
                    " texts"
                )
            try:
                one.encode("utf-8")
            except UnicodeEncodeError as fault:
                raise UserError(
                    f"{self.option} {self.name} returned U+{ord(one[fault.start]):04X} for {_short(text)}, which is no"
                    " character"
                ) from None
        return [one.strip() for one in made]

    def configuration(self) -> dict[str, Any]:
        return {"function": self.name}


class Run(Translator):
    """A run that was trained with data.format Seq2Seq, asked as it learned.

    Args:
        option: How it was given, for errors: --there or --back.
        path: Run directory or checkpoint.
        temperature: Of what is drawn; 0 takes the likeliest token each time.
        device: Where it runs.
    """

    def __init__(self, option: str, path: str, temperature: float, device: Any) -> None:
        from lit_gpt.checkpoint import find, load, load_format
        from lit_gpt.data.formats.records import Seq2Seq
        from lit_gpt.generate.text_generator import TextGenerator

        try:
            file = find(path)
        except UserError as fault:
            raise UserError(f"{option}: {fault}; a translator is a run, a .ckpt file or module:function") from None
        net, tokenizer = load(file, device=device)
        format = load_format(file, tokenizer)
        if not isinstance(format, Seq2Seq):
            raise UserError(
                f"{option} {path} was trained on {type(format).__name__}, not on pairs of source and target"
                " (data.format Seq2Seq); give a run that was, or a module:function that asks it"
            )
        self.apart = () if format.separator is None else (format.separator,)
        self._field, self._generator, self._temperature = (
            format.source,
            TextGenerator(net, tokenizer, format),
            temperature,
        )
        self._place = f"{option} {path}"
        known = manifest.manifest_path(file).exists()
        self._sha256 = manifest.read_manifest(file)["sha256"] if known else _digest(file)
        self._device = str(device)

    def fits(self, text: str) -> bool:
        """Half of the context is for the source, half for the target."""
        return len(self._question(text)) <= self._room()

    def translate(self, texts: list[str], seeds: list[int]) -> list[str | None]:
        asks = [self._question(text) for text in texts]
        room = self._room()
        for text, ids in zip(texts, asks, strict=True):
            if len(ids) > room:
                raise UserError(f"{self._place}: its context of {2 * room} tokens is too short for {_short(text)}")
        made, sizes = [""] * len(texts), [0] * len(texts)
        for step in self._generator.stream_batch(asks, max_new_tokens=room, temperature=self._temperature, seed=seeds):
            for row, piece in enumerate(step):
                made[row] += piece or ""
                sizes[row] += piece is not None
        return [text.strip() if size < room else None for text, size in zip(made, sizes, strict=True)]

    def configuration(self) -> dict[str, Any]:
        return {"run": self._sha256, "temperature": self._temperature, "device": self._device}

    def _room(self) -> int:
        return self._generator.net.context // 2

    def _question(self, text: str) -> list[int]:
        try:
            return self._generator.question({self._field: text})
        except UserError as fault:
            raise UserError(f"{self._place}: {fault}: {_short(text)}") from None


def _digest(file: Path) -> str:
    import hashlib

    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _told(fault: BaseException) -> str:
    said = " ".join(str(fault).split())
    return f"{type(fault).__name__}: {said}" if said else type(fault).__name__


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
