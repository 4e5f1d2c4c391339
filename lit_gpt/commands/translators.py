"""Translators for `lit-gpt backtranslate`: a Python function `module:function`, or a run that was trained on pairs."""

import hashlib
import importlib
import re
from pathlib import Path
from typing import Any

from lit_gpt.checkpoint import manifest
from lit_gpt.config.yaml_files import nearest
from lit_gpt.errors import UserError

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class Translator:
    """The base of translators."""

    #: Texts that no piece may contain, as they mean something to the translator.
    separators: tuple[str, ...] = ()

    def fits(self, text: str) -> bool:
        """Whether the translator takes a text at once; if it takes a text, it takes all its beginnings."""
        return True

    def translate(self, texts: list[str], seeds: list[int]) -> list[str | None]:
        """A stripped translation of each text, drawn with its seed; None where generation reached no end."""
        raise NotImplementedError

    def configuration(self) -> dict[str, Any]:
        """What decides the translations."""
        raise NotImplementedError


def is_function(name: str) -> bool:
    """Whether a name is `module:function`, and not the path of a run."""
    return bool(_FUNCTION.fullmatch(name)) and not Path(name).exists()


class Function(Translator):
    """A Python function from a list of texts to the list of their translations.

    Args:
        option: For errors: --there or --back.
        name: module:function; the module is imported from the current folder or PYTHONPATH.
    """

    def __init__(self, option: str, name: str) -> None:
        self.name, self.label = name, f"{option} {name}"
        module, _, function = name.partition(":")
        try:
            functions = {key: value for key, value in vars(importlib.import_module(module)).items() if callable(value)}
        except Exception as error:
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            if missing is not None and f"{module}.".startswith(f"{missing}."):
                raise UserError(
                    f"{self.label}: there is no module {module} in this folder or on PYTHONPATH; check its name"
                ) from error
            raise UserError(f"{self.label}: importing {module} raised {_one_line(error)}; fix it") from error
        if function not in functions:
            near = nearest(function, functions)
            hint = f"did you mean {module}:{near}?" if near else "check its name"
            raise UserError(f"{self.label}: {module} has no function {function}; {hint}")
        self._call = functions[function]

    def translate(self, texts: list[str], seeds: list[int]) -> list[str | None]:
        try:
            translations = self._call(list(texts))
        except Exception as error:
            raise UserError(
                f"{self.label} raised {_one_line(error)} for {len(texts)} text(s), the first {_short(texts[0])}; fix it"
                " and repeat the command, which resumes where it stopped"
            ) from error
        if not isinstance(translations, list | tuple):
            raise UserError(f"{self.label} returned a {type(translations).__name__}, not a list of translations")
        if len(translations) != len(texts):
            counts = f"{len(translations)} translation(s) for {len(texts)} text(s)"
            raise UserError(f"{self.label} returned {counts}; it has to return one for each, in their order")
        for text, translation in zip(texts, translations, strict=True):
            if not isinstance(translation, str):
                what = type(translation).__name__
                raise UserError(f"{self.label} returned a {what} for {_short(text)}; it has to return texts")
            try:
                translation.encode()
            except UnicodeEncodeError as error:
                code = f"U+{ord(translation[error.start]):04X}"
                raise UserError(f"{self.label} returned {code} for {_short(text)}, which is no character") from None
        return [translation.strip() for translation in translations]

    def configuration(self) -> dict[str, Any]:
        return {"function": self.name}


class Run(Translator):
    """A run that was trained with data.format Seq2Seq, prompted as in training.

    Args:
        option: For errors: --there or --back.
        path: Run directory or checkpoint.
        temperature: Of sampling; 0 takes the likeliest token each time.
        device: Where it runs.
    """

    def __init__(self, option: str, path: str, temperature: float, device: Any) -> None:
        from lit_gpt.checkpoint import find, load, load_format
        from lit_gpt.data.formats.records import Seq2Seq
        from lit_gpt.generate.text_generator import TextGenerator

        try:
            file = find(path)
        except UserError as error:
            raise UserError(f"{option}: {error}; a translator is a run, a .ckpt file or module:function") from None
        net, tokenizer = load(file, device=device)
        format = load_format(file, tokenizer)
        if not isinstance(format, Seq2Seq):
            raise UserError(
                f"{option} {path} was trained on {type(format).__name__}, not on pairs of source and target"
                " (data.format Seq2Seq); give a run that was, or a module:function that asks it"
            )
        self.separators = () if format.separator is None else (format.separator,)
        self.label, self._field, self._temperature = f"{option} {path}", format.source, temperature
        self._generator = TextGenerator(net, tokenizer, format)
        self._max_tokens = net.context // 2  # half of the context is for the source, half for the target
        if manifest.manifest_path(file).exists():
            sha256 = manifest.read_manifest(file)["sha256"]
        else:
            with file.open("rb") as opened:
                sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
        self._configuration = {"run": sha256, "temperature": temperature, "device": str(device)}

    def fits(self, text: str) -> bool:
        return len(self._prompt(text)) <= self._max_tokens

    def translate(self, texts: list[str], seeds: list[int]) -> list[str | None]:
        prompts = [self._prompt(text) for text in texts]
        for text, prompt in zip(texts, prompts, strict=True):
            if len(prompt) > self._max_tokens:
                context = 2 * self._max_tokens
                raise UserError(f"{self.label}: its context of {context} tokens is too short for {_short(text)}")
        translations, lengths = [""] * len(texts), [0] * len(texts)
        sampling: dict[str, Any] = {"temperature": self._temperature, "seed": seeds}
        for step in self._generator.stream_batch(prompts, max_new_tokens=self._max_tokens, **sampling):
            for row, piece in enumerate(step):
                translations[row] += piece or ""
                lengths[row] += piece is not None
        finished = [length < self._max_tokens for length in lengths]
        return [text.strip() if ended else None for text, ended in zip(translations, finished, strict=True)]

    def configuration(self) -> dict[str, Any]:
        return self._configuration

    def _prompt(self, text: str) -> list[int]:
        try:
            return self._generator.question({self._field: text})
        except UserError as error:
            raise UserError(f"{self.label}: {error}: {_short(text)}") from None


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
