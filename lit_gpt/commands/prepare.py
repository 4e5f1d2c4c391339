"""Tokenize text ahead of training and say what there is.

Takes the same --data.* and --config as fit. Of a config's other sections only what decides the windows counts: the
net's context and `init_from`, whose tokenizer is taken.
"""

import argparse
import inspect
import shlex
import sys
import time
from collections.abc import Iterator
from typing import Any

from lit_gpt import signals
from lit_gpt.config import limits, user_paths
from lit_gpt.config.command_line import CommandLine, Option, with_text_files
from lit_gpt.config.validation import ConfigChecker
from lit_gpt.config.yaml_files import load_yaml
from lit_gpt.config.yaml_values import parse_words
from lit_gpt.errors import UserError

ENGINES = ("processes", "ray")
_HELP = """Tokenize text and keep the ids, as fit does by itself where they are not there yet. Example: `lit-gpt prepare
--data.source TextFiles --data.source.paths my_text/ --data.tokenizer.vocab_size 8192`. Run the same again after it was
stopped, and it goes on where it was."""


def main(argv: list[str]) -> int:
    """Runs `lit-gpt prepare`."""
    started = time.monotonic()
    words, own = _own_options(user_paths.in_words(argv))
    if isinstance(own["verify"], str):
        return _verify(own["verify"])
    command_line = CommandLine(words)
    data = data_of(command_line)
    data.text.engine = _engine(own["engine"], own["workers"])
    with signals.doing("preparing text", "the same command goes on where it was"):
        data.setup()
    if own["verify"]:
        data.text.prepared.verify()
    print("\n".join(report(data)))
    if own["verify"]:
        print(f"  {'verified':10} every byte is as it was written")
    print(f"  {'seconds':10} {time.monotonic() - started:.1f}")
    print(f"\nnext:\n  {shlex.join(['lit-gpt', 'fit', *words])}")
    return 0


def report(data: Any) -> Iterator[str]:
    """Lines that say what was prepared, and where."""
    from lit_gpt.data.reporting import notes

    prepared, tokenizer = data.text.prepared, data.tokenizer
    yield f"{prepared.folder} ({'up to date' if prepared.reused else 'prepared'})"
    recipe = data.text.recipe()  # of a folder that is up to date, what is asked for now: the text may have moved
    for split, source in {"": recipe.source, **recipe.own_sources()}.items():
        yield f"  {split or 'source':10} {source.describe()}"
    size = f"{tokenizer.vocab_size:,} ids, {data.vocab_size:,} in the net"
    yield f"  {'tokenizer':10} {type(tokenizer).__name__}: {size}"
    for split, corpus in prepared.corpora.items():
        yield f"  {split.removeprefix('extra/'):10} {_counts(corpus)}"
    yield from (f"  {'dropped':10} {line}" for line in prepared.dropped())
    yield from (f"  {'read':10} {line}" for line in prepared.notes())
    batches = data.batches_per_epoch()
    rows = data.sequences("train")
    kind = {"Windows": "windows", "Packed": "packed rows"}.get(type(rows).__name__, "rows")
    size = "" if data.sampler.whole_batches else f" of {data.batch_size}"
    plural = "" if batches == 1 else "es"
    yield f"  {'epoch':10} {len(rows):,} {kind} of {data.context}, {batches:,} batch{plural}{size}"
    yield from (f"  {'rows':10} {line}" for line in notes(data))


def _counts(corpus: Any) -> str:
    ratio = f" ({corpus.bytes / max(len(corpus), 1):.2f} a token)" if corpus.loss_mask is None else " of it trained on"
    documents = f"{corpus.documents:,} document{'' if corpus.documents == 1 else 's'}"
    longest = f"the longest {corpus.manifest['longest']:,}"
    return f"{len(corpus):,} tokens, {documents} ({longest}), {corpus.bytes:,} bytes{ratio}"


def _verify(folder: str) -> int:
    from lit_gpt.data.corpus.prepared import open_prepared

    prepared = open_prepared(folder)
    prepared.verify()
    for split, corpus in prepared.corpora.items():
        print(f"{split.removeprefix('extra/'):10} {_counts(corpus)}")
    print(f"{folder}: every byte is as it was written")
    return 0


def _engine(name: str, workers: int | None) -> Any:
    from lit_gpt.data.corpus.engines import Processes

    if name == "ray":
        from lit_gpt.data.corpus.ray_engine import Ray

        return Ray(workers)
    return None if workers is None else Processes(workers)


def _own_options(argv: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The words for the data, and the options of this command."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, argument_default=None)
    parser.add_argument("--verify", nargs="?", const=True, default=False)
    parser.add_argument("--workers", nargs="?", const="")
    parser.add_argument("--engine", nargs="?", const="", default="processes")
    options, words = parser.parse_known_args(argv)
    own = vars(options)
    if own["workers"] is not None:
        if not own["workers"].isdecimal() or int(own["workers"]) < 1:
            raise UserError(f"--workers: expected a number of processes of at least 1, got {own['workers']!r}")
        own["workers"] = int(own["workers"])
    if isinstance(own["verify"], str) and len(argv) > 2 - any(word.startswith("--verify=") for word in argv):
        raise UserError(
            f"--verify {own['verify']} reads a prepared folder and takes nothing else; give it alone, or --verify"
            " without a folder to check what is prepared"
        )
    if own["engine"] not in ENGINES:
        raise UserError(f"--engine: expected {' or '.join(ENGINES)}, got {own['engine']!r}")
    return words, own


def data_of(command_line: CommandLine) -> Any:
    """The TokenData that the words of a command line describe, with the context and the tokenizer of the net."""
    from jsonargparse import ArgumentParser

    from lit_gpt.config.base_checkpoint import BaseCheckpoint
    from lit_gpt.config.class_paths import class_path
    from lit_gpt.config.registry import import_components
    from lit_gpt.config.schema import default_classes
    from lit_gpt.data.module import TokenData
    from lit_gpt.model import GPT

    import_components()
    parser = ArgumentParser(prog="lit-gpt prepare", description=_HELP, exit_on_error=False)
    # Read apart, listed here for --help.
    parser.add_argument("--workers", type=int | None, help="processes that tokenize (default: one for each core)")
    parser.add_argument("--engine", default="processes", help="processes of this machine, or a cluster: ray")
    parser.add_argument(
        "--verify", metavar="[FOLDER]", help="read every byte again and compare; with a folder, do nothing else"
    )
    parser.add_argument("--config", action="config", help="a YAML file, as for fit; may be given several times")
    parser.add_class_arguments(TokenData, "data")
    # Written as the parser writes classes, so that arguments of a default class can be typed without naming it.
    classes = default_classes(TokenData)
    parser.set_defaults({f"data.{n}": {"class_path": class_path(c)} for n, c in classes.items()})
    checker = ConfigChecker({"data": TokenData}, {})
    words = checker.check(_options_of_data(with_text_files(command_line)))
    checker.check_required()
    config = parse_words(parser, words)
    plain = load_yaml(parser.dump(config, skip_validation=True, skip_unset=False))
    limits.check({"data": plain["data"]}, {"data": TokenData}, command_line.where)
    init_from, context = command_line.get("model.init_from"), command_line.get("model.net.context")
    base_checkpoint = BaseCheckpoint.read(str(init_from), command_line.trust) if init_from else None
    if config.data.context is None:
        if context is None:
            trained = base_checkpoint.net["init_args"] if base_checkpoint else {}
            context = trained.get("context") or inspect.signature(GPT).parameters["context"].default
        if not str(context).isdecimal():
            raise UserError(f"model.net.context: expected a whole number, got {context!r}")
        config.data.context = int(context)
    data = parser.instantiate(config).data
    if base_checkpoint:
        data.use_tokenizer(base_checkpoint.tokenizer_object())
    return data


def _options_of_data(typed: list[Option]) -> Iterator[Option]:
    """Those of the typed options that are of the data, with only the data section of each config file."""
    for option in typed:
        if option.file is not None:
            yield option._replace(file=option.file.only("data"))
        elif option.key.partition(".")[0] not in ("model", "trainer", "seed_everything", "name"):
            yield option
        elif option.key not in ("model.net.context", "model.init_from"):  # read apart
            print(f"prepare leaves --{option.key} to fit", file=sys.stderr)
