"""Translate documents there and back, for further training text that says the same in other words.

Takes the --data.source.* and --config of fit, of which only source and filters count. Knows arguments and what is
shown; the work is `lit_gpt.data.augment.backtranslation`, the translators are in `translators`.
"""

import argparse
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lit_gpt.commands.parser import Parser
from lit_gpt.config.command_line import CommandLine, with_text_files
from lit_gpt.config.yaml_values import parse_words, part_of
from lit_gpt.errors import UserError

KEYS = ("source", "filters")  # of the data
_DEFAULTS: dict[str, Any] = {"temperature": 0.8, "seed": 1, "device": "auto"}  # what a function has no use for
_HELP = """Send each document of a text through a translator and its translation through another one back, and write
what comes out as JSON lines: {"text": ..., "original": ...}. Such texts say the same in other words; trained on beside
the original, they help where there is little text (Sennrich et al. 2016, arXiv:1511.06709).

A translator is
  a function    module:function, of a file in this folder or on PYTHONPATH; it gets a list of texts and returns the
                list of their translations:  def german(texts: list[str]) -> list[str]: ...
  or a run      runs/NAME or a .ckpt file, trained with --data.format Seq2Seq on pairs of source and target

Documents are cut into paragraphs, long ones into sentences of at most --most characters together, and joined again.
A stopped run goes on where it was when the same is typed again, and ends with the same bytes."""
_EXAMPLE = """  --data.source CLASS   where the documents come from, as for fit: --data.source.paths my_text/ is enough
                        for files; --data.source JsonLines, Parquet, ... with their arguments
  --data.filters LIST   what leaves documents out, as for fit
  --config FILE         a YAML file, as for fit: source and filters of its data section are taken

examples:
  lit-gpt backtranslate --data.source.paths books/ --there my_translator:german --back my_translator:english \\
    --out again.jsonl
  lit-gpt backtranslate --config configs/mine.yaml --there runs/en_de --back runs/de_en --out again.jsonl
  lit-gpt fit --data.source.paths again.jsonl --data.val_source.paths held_out/
"""


def parser() -> Parser:
    """Return the parser of the command's own options."""
    made = Parser(
        prog="lit-gpt backtranslate",
        usage="lit-gpt backtranslate --data.source.paths P --there T --back T --out FILE.jsonl [options]",
        description=_HELP,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--there", required=True, metavar="TRANSLATOR", help="module:function or run, into the other language")
    add("--back", required=True, metavar="TRANSLATOR", help="module:function or run, from the other language")
    add("--out", required=True, metavar="FILE.jsonl", help="what is written; it must not be there yet")
    add("--most", type=int, default=500, metavar="N", help="characters that go to a translator in one text (500)")
    add("--batch_size", type=int, default=16, metavar="N", help="texts that go to a translator at once (16)")
    add(
        "--temperature", type=float, metavar="X",
        help="of runs: 0 takes the likeliest token each time, above 1 gets wilder (0.8)",
    )  # fmt: skip
    add("--seed", type=int, metavar="N", help="of runs: another seed, another text (1)")
    add("--device", metavar="NAME", help="of runs: cpu, cuda, mps, or auto: a GPU where there is one (auto)")
    add(
        "--keep_unchanged", action="store_true",
        help="also write documents that come back as they were (they are left out and counted)",
    )  # fmt: skip
    return made


def main(argv: list[str]) -> int:
    """Runs the command."""
    started = time.monotonic()
    options, words = parser().parse_known_args(argv)
    for word in words:
        if word.startswith("--") and not word.startswith(("--data.", "--config")):
            parser().error(f"unrecognized arguments: {word}")
    out = Path(options.out)
    check(options, out)
    recipe, section = texts(CommandLine(words))
    from lit_gpt.data.augment.backtranslation import BackTranslation
    from lit_gpt.data.corpus.scan import scan

    there, back = translators(options)
    work = BackTranslation(
        there,
        back,
        most=options.most,
        together=options.batch_size,
        seed=_DEFAULTS["seed"] if options.seed is None else options.seed,
        keep_unchanged=options.keep_unchanged,
    )
    found = scan(recipe.source, recipe.filters)
    counts, was_done = work.run(documents(recipe.source, found), found.fingerprint, found.characters, out)
    print("\n".join(report(counts, out, was_done, recipe.source.describe())))
    print(f"  {'seconds':13} {time.monotonic() - started:.1f}")
    print("\n".join(next_commands(section, out, counts)))
    return 0


def check(options: Any, out: Path) -> None:
    """Refuses numbers and names that cannot be."""
    for name in ("most", "batch_size"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} is {getattr(options, name)}; give at least 1")
    if options.temperature is not None and not 0 <= options.temperature < float("inf"):
        raise UserError(f"--temperature is {options.temperature}; give 0 or more")
    if out.suffix not in (".jsonl", ".ndjson"):
        raise UserError(f"--out {out}: JsonLines finds files that end in .jsonl; give such a name")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; give a file, such as {out / 'again.jsonl'}")


def translators(options: Any) -> Iterator[Any]:
    """The two translators, once what was typed for runs is known to have one."""
    from lit_gpt.commands.generate import find_device
    from lit_gpt.commands.translators import Function, Run, is_function

    names = {way: getattr(options, way) for way in ("there", "back")}
    typed = {name: getattr(options, name) for name in _DEFAULTS if getattr(options, name) is not None}
    if typed and all(map(is_function, names.values())):
        raise UserError(f"--{next(iter(typed))} is for runs, and both translators are functions; leave it out")
    settings = {**_DEFAULTS, **typed}
    for way, name in names.items():
        if is_function(name):
            yield Function(f"--{way}", name)
        else:
            yield Run(f"--{way}", name, settings["temperature"], find_device(settings["device"]))


def texts(command_line: CommandLine) -> tuple[Any, Any]:
    """The recipe of a text with its source and filters alone, and the source as plain settings.

    Raises:
        UserError: no source, another key, or a value that cannot be.
    """
    import inspect

    import yaml
    from jsonargparse import ArgumentError, ArgumentParser

    from lit_gpt.config.errors import explain
    from lit_gpt.data.module import TokenData

    if not command_line.has("data.source"):
        raise UserError("which documents? give --data.source.paths my_text/, or a --config with a data.source")
    made = ArgumentParser(prog="lit-gpt backtranslate", exit_on_error=False)
    made.add_argument("--config", action="config")
    others = {name for name in inspect.signature(TokenData.__init__).parameters if name not in ("self", *KEYS)}
    made.add_class_arguments(TokenData, "data", skip=others)
    try:
        config = parse_words(made, list(_words(with_text_files(command_line))))
    except (ArgumentError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(explain(str(error), made, command_line.argv, command_line.layers)) from None
    plain = yaml.safe_load(made.dump(config, skip_validation=True))["data"]["source"]
    recipe = made.instantiate(config).data.recipe()
    if tags := recipe.source.special_tokens:
        raise UserError(
            f"the documents carry tags ({', '.join(tags)}), which a translation would lose; translate each source of"
            " the Mixture by itself, and tag what comes out"
        )
    return recipe, plain


def _words(words: list[str]) -> Iterator[str]:
    """The words, with only source and filters of each config."""
    rest = iter(words)
    for word in rest:
        if word != "--config":
            yield word
            continue
        text = next(rest)
        parts = {key: part_of(text, "data", key) for key in KEYS}
        if kept := ", ".join(f'"{key}": {part}' for key, part in parts.items() if part is not None):
            yield from ("--config", f'{{"data": {{{kept}}}}}')


def documents(source: Any, found: Any) -> Iterator[str]:
    """The texts that stay, each whole."""
    from lit_gpt.data.corpus.scan import staying
    from lit_gpt.data.formats.format import PlainText

    format = PlainText()
    for chunk in staying(source, found, joined=True):
        try:
            yield "".join(segment.text for segment in format.segments(chunk.content, 0))
        except UserError as fault:
            raise UserError(f"{chunk.where}: {fault}" if chunk.where else str(fault)) from None


def report(counts: dict[str, int], out: Path, was_done: bool, source: str) -> Iterator[str]:
    """Lines that say what was written and what was left out."""
    yield f"{out} ({'was finished already' if was_done else 'finished'})"
    yield f"  {'source':13} {source}"
    yield f"  {'translated':13} {_documents(counts['documents'])}, {counts['characters']:,} characters"
    yield f"  {'written':13} {_documents(counts['written'])}, {counts['new_characters']:,} characters"
    kept = counts["documents"] - counts["empty"] - counts["endless"] == counts["written"]
    unchanged = "" if kept or not counts["unchanged"] else "; left out (--keep_unchanged writes them too)"
    yield f"  {'unchanged':13} {_documents(counts['unchanged'])}{unchanged}"
    if counts["empty"]:
        yield f"  {'left out':13} {_documents(counts['empty'])} that came back empty"
    if counts["endless"]:
        what = "whose translation came to no end within the run's context"
        yield f"  {'left out':13} {_documents(counts['endless'])} {what}"


def _documents(count: int) -> str:
    return f"{count:,} document{'' if count == 1 else 's'}"


def next_commands(section: Any, out: Path, counts: dict[str, int]) -> Iterator[str]:
    """What to type to train on it."""
    if not counts["written"]:
        yield "\nnothing new came back; look at what the translators make of a text"
        return
    again = {"class_path": "JsonLines", "init_args": {"paths": str(out)}}
    sources = json.dumps({"original": section, "again": again})
    yield "\nnext (give a validation text that was not translated, or what is measured has been seen in other words):"
    yield f"  lit-gpt fit --data.source.paths {shlex.quote(str(out))} --data.val_source.paths held_out/"
    yield (
        f"  lit-gpt fit --data.source Mixture --data.source.sources {shlex.quote(sources)}"
        " --data.val_source.paths held_out/"
    )
