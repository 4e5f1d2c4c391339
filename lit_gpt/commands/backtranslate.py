"""`lit-gpt backtranslate`: translate documents there and back, for more training text that says the same.

Takes the --data.source.* and --config of fit, of which only source and filters count.
"""

import json
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lit_gpt.commands.parser import Parser
from lit_gpt.config.command_line import CommandLine
from lit_gpt.errors import UserError

_RUN_DEFAULTS: dict[str, Any] = {"temperature": 0.8, "seed": 1, "device": "auto"}  # a function has no use for them
_HELP = """Send each document of a text through a translator and its translation through another one back, and write
what comes out as JSON lines: {"text": ..., "original": ...}. Such texts say the same in other words; trained on beside
the original, they help where there is little text (Sennrich et al. 2016, arXiv:1511.06709).

A translator is
  a function    module:function, of a file in this folder or on PYTHONPATH; it gets a list of texts and returns the
                list of their translations:  def german(texts: list[str]) -> list[str]: ...
  or a run      runs/NAME or a .ckpt file, trained with --data.format Seq2Seq on pairs of source and target

Documents are split into paragraphs, long ones into groups of sentences of at most --max_chars characters, and joined
again.
Repeat the command to resume one that was stopped; it ends with the same bytes."""
_EXAMPLE = """  --data.source CLASS   where the documents come from, as for fit: --data.source.paths my_text/ is enough
                        for files; --data.source JsonLines, Parquet, ... with their arguments
  --data.filters LIST   which documents are dropped, as for fit
  --config FILE         a YAML file, as for fit: source and filters of its data section are taken

examples:
  lit-gpt backtranslate --data.source.paths books/ --there my_translator:german --back my_translator:english \\
    --out again.jsonl
  lit-gpt backtranslate --config configs/mine.yaml --there runs/en_de --back runs/de_en --out again.jsonl
  lit-gpt fit --data.source.paths again.jsonl --data.val_source.paths held_out/
"""


def parser() -> Parser:
    """Return the parser of the command's own options."""
    parser = Parser(
        prog="lit-gpt backtranslate",
        usage="lit-gpt backtranslate --data.source.paths P --there T --back T --out FILE.jsonl [options]",
        description=_HELP,
        epilog=_EXAMPLE,
    )
    add = parser.add_argument
    add("--there", required=True, metavar="TRANSLATOR", help="module:function or run, into the other language")
    add("--back", required=True, metavar="TRANSLATOR", help="module:function or run, from the other language")
    add("--out", required=True, metavar="FILE.jsonl", help="the file to write; it must not exist yet")
    add("--max_chars", type=int, default=500, metavar="N", help="most characters of a text for a translator (500)")
    add("--batch_size", type=int, default=16, metavar="N", help="texts that go to a translator at once (16)")
    add("--temperature", type=float, metavar="X", help="of runs: 0 takes the likeliest token each time (0.8)")
    add("--seed", type=int, metavar="N", help="of runs: another seed, another text (1)")
    add("--device", metavar="NAME", help="of runs: cpu, cuda, mps, or auto: a GPU where there is one (auto)")
    add("--keep_unchanged", action="store_true", help="also write documents that come back unchanged")
    return parser


def main(argv: list[str]) -> int:
    """Runs the command."""
    started = time.monotonic()
    options, words = parser().parse_known_args(argv)
    for word in words:
        if word.startswith("--") and not word.startswith(("--data.source", "--data.filters", "--config")):
            parser().error(f"unrecognized arguments: {word}")
    out = Path(options.out)
    _check(options, out)
    command_line = CommandLine(words)
    if not command_line.has("data.source"):
        raise UserError("which documents? give --data.source.paths my_text/, or a --config with a data.source")
    from lit_gpt.commands.backtranslation import BackTranslation
    from lit_gpt.commands.prepare import data_of
    from lit_gpt.data.corpus.scan import scan

    data = data_of(command_line)
    recipe = data.text.recipe()
    source = recipe.source
    if tags := source.special_tokens:
        raise UserError(
            f"the documents carry tags ({', '.join(tags)}), which a translation would lose; translate each source of"
            " the Mixture by itself, and tag the result"
        )
    there, back = _translators(options)
    work = BackTranslation(
        there,
        back,
        max_chars=options.max_chars,
        batch_size=options.batch_size,
        seed=_RUN_DEFAULTS["seed"] if options.seed is None else options.seed,
        keep_unchanged=options.keep_unchanged,
    )
    scanned = scan(source, recipe.filters)
    counts, was_finished = work.run(_documents(source, scanned), scanned.fingerprint, scanned.characters, out)
    print("\n".join(_report(counts, out, was_finished, source.describe(), options.keep_unchanged)))
    print(f"  {'seconds':13} {time.monotonic() - started:.1f}")
    if counts["written"]:
        print("\n".join(_next_commands(_plain(data.text.parts["source"]), out)))
    else:
        print("\nnothing new came back; look at how the translators change a text")
    return 0


def _check(options: Any, out: Path) -> None:
    for name in ("max_chars", "batch_size"):
        if getattr(options, name) < 1:
            raise UserError(f"--{name} is {getattr(options, name)}; give at least 1")
    if options.temperature is not None and not 0 <= options.temperature < float("inf"):
        raise UserError(f"--temperature is {options.temperature}; give 0 or more")
    if out.suffix not in (".jsonl", ".ndjson"):
        raise UserError(f"--out {out}: JsonLines finds files that end in .jsonl; give such a name")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; give a file, such as {out / 'again.jsonl'}")


def _translators(options: Any) -> Iterator[Any]:
    from lit_gpt.commands.generate import find_device
    from lit_gpt.commands.translators import Function, Run, is_function

    names = {way: getattr(options, way) for way in ("there", "back")}
    typed = {name: getattr(options, name) for name in _RUN_DEFAULTS if getattr(options, name) is not None}
    if typed and all(map(is_function, names.values())):
        raise UserError(f"--{next(iter(typed))} is for runs, and both translators are functions; remove it")
    settings = {**_RUN_DEFAULTS, **typed}
    for way, name in names.items():
        if is_function(name):
            yield Function(f"--{way}", name)
        else:
            yield Run(f"--{way}", name, settings["temperature"], find_device(settings["device"]))


def _documents(source: Any, scanned: Any) -> Iterator[str]:
    """The texts that pass the filters, each whole."""
    from lit_gpt.data.corpus.scan import kept
    from lit_gpt.data.formats.format import PlainText

    format = PlainText()
    for chunk in kept(source, scanned, divisible=False):
        try:
            yield "".join(segment.text for segment in format.segments(chunk.content, 0))
        except UserError as error:
            raise UserError(f"{chunk.where}: {error}" if chunk.where else str(error)) from None


def _plain(value: Any) -> Any:
    """Factories as class_path and init_args."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, partial):
        return {"class_path": value.func.__name__, "init_args": _plain(value.keywords)}
    return value


def _report(counts: Counter[str], out: Path, was_finished: bool, source: str, keep_unchanged: bool) -> Iterator[str]:
    def documents(name: str) -> str:
        return f"{counts[name]:,} document{'' if counts[name] == 1 else 's'}"

    yield f"{out} ({'was finished already' if was_finished else 'finished'})"
    yield f"  {'source':13} {source}"
    yield f"  {'translated':13} {documents('documents')}, {counts['characters']:,} characters"
    yield f"  {'written':13} {documents('written')}, {counts['new_characters']:,} characters"
    dropped = counts["unchanged"] and not keep_unchanged
    yield f"  {'unchanged':13} {documents('unchanged')}{'; dropped (--keep_unchanged writes them)' if dropped else ''}"
    if counts["empty"]:
        yield f"  {'dropped':13} {documents('empty')} that came back empty"
    if counts["endless"]:
        yield f"  {'dropped':13} {documents('endless')} whose translation reached no end within the run's context"


def _next_commands(source: Any, out: Path) -> Iterator[str]:
    path = shlex.quote(str(out))
    again = {"class_path": "JsonLines", "init_args": {"paths": str(out)}}
    sources = shlex.quote(json.dumps({"original": source, "again": again}))
    yield "\nnext (give a validation text that was not translated, or it has been seen in other words):"
    yield f"  lit-gpt fit --data.source.paths {path} --data.val_source.paths held_out/"
    yield f"  lit-gpt fit --data.source Mixture --data.source.sources {sources} --data.val_source.paths held_out/"
