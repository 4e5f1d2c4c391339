"""Show what a prepared text is made of: tokens and how often they occur, lengths, overlap with the training text."""

import functools
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_gpt.commands import stats_figures
from lit_gpt.commands.parser import Parser
from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from lit_gpt.data.corpus.prepared import Prepared
    from lit_gpt.data.corpus.statistics import Statistics

NOTES = """example:
  lit-gpt stats runs/quickstart
  lit-gpt stats my_corpus --plot stats.png --tensorboard runs/stats

A corpus is the folder that `lit-gpt prepare` names (or the data.folder given to it). Of a run its data is looked at,
and prepared again where it is gone.

keys of --json:
  path tokenizer              kind, vocab_size
  splits                      by name: documents, tokens, trained_on, bytes, lengths,
                              histogram (first, last, documents), used, unused (ids), ids_for (how many ids
                              make up a share of the tokens), most_common,
                              least_common (id, token, count), unseen (tokens whose id does not occur in training),
                              overlap (ngram, ngrams, shared, documents, shared_documents, repeated; null for train)"""
TRAIN = "train"
SHARES = (0.5, 0.9, 0.99)
_WIDTH = 24  # characters of the longest bar


def parser() -> Parser:
    """The parser of `lit-gpt stats`."""
    made = Parser(
        prog="lit-gpt stats",
        description=(__doc__ or "").partition("\n")[0],
        epilog=NOTES,
    )
    add = made.add_argument
    add("corpus", help="folder of a prepared text, or a run directory")
    add("--top", type=int, default=10, metavar="N", help="most and least common tokens to show (default: 10)")
    add(
        "--ngram", type=int, default=13, metavar="N",
        help="tokens in the stretches by which texts are compared (default: 13)",
    )  # fmt: skip
    add("--plot", metavar="FILE", help="write the figures to a file: .png, .svg or .pdf")
    add("--tensorboard", metavar="DIR", help="write figures, histograms and tables for TensorBoard")
    add("--json", action="store_true", help="print one JSON object and nothing else; its keys stand below")
    return made


def main(argv: list[str]) -> int:
    """Runs the command."""
    arguments = parser().parse_args(argv)
    for name in ("top", "ngram"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is {getattr(arguments, name)}; give at least 1")
    if arguments.plot is not None:
        _check_plot(Path(arguments.plot))
    from lit_gpt.data.corpus.statistics import statistics
    from lit_gpt.data.progress import Progress

    prepared = prepared_of(arguments.corpus)
    corpora, tokenizer = prepared.corpora, prepared.tokenizer
    with Progress("reading tokens", sum(map(len, corpora.values())), "tokens") as progress:
        splits = statistics(corpora, TRAIN, arguments.ngram, (tokenizer.bos, tokenizer.eos), advance=progress.advance)
    found = {split.removeprefix("extra/"): one for split, one in splits.items()}
    if arguments.json:
        print(json.dumps(numbers(prepared, found, arguments.top), indent=1, ensure_ascii=False))
    else:
        show(prepared, found, arguments.top)
    following = []
    if arguments.plot is not None or arguments.tensorboard is not None:
        figures = stats_figures.figures(found, tokenizer, arguments.top)
        if arguments.plot is not None:
            stats_figures.save(figures, Path(arguments.plot))
        if arguments.tensorboard is not None:
            tables = {title: markdown(table) for title, table in _tables(prepared, found, arguments.top)}
            stats_figures.log(figures, found, tables, arguments.tensorboard)
            following.append(f"tensorboard --logdir {shlex.quote(arguments.tensorboard)}")
    if not arguments.json:
        if arguments.plot is None and arguments.tensorboard is None:
            following.append(f"lit-gpt stats {shlex.quote(arguments.corpus)} --plot stats.png --tensorboard runs/stats")
        elif arguments.plot is not None:
            print(f"figures: {arguments.plot}")
        print("\n  ".join(("next:", *(following or [f"lit-gpt prepare --verify {shlex.quote(str(prepared.folder))}"]))))
    return 0


def prepared_of(path: str) -> "Prepared":
    """The prepared text that a path means: its folder, or a run's data.

    Raises:
        UserError: it is neither.
    """
    from lit_gpt.data.corpus.prepared import open_prepared

    folder = Path(path)
    if (folder / "config.yaml").is_file() and (folder / "run.json").is_file():
        from lit_gpt.commands.prepare import data_of
        from lit_gpt.config.base_checkpoint import check_run_folder
        from lit_gpt.config.command_line import CommandLine

        settings = CommandLine([])
        settings.add_file(folder / "config.yaml", functools.partial(check_run_folder, folder=folder, trust=()))
        prepared: Prepared = data_of(settings).text.prepared
        return prepared
    if not folder.is_dir():
        raise UserError(f"{path} is no folder; give one that `lit-gpt prepare` named, or a run directory")
    if (folder / "ids.bin").is_file():
        raise UserError(f"{path} is one split of a prepared text; give the folder above it, {folder.resolve().parent}")
    return open_prepared(folder)


def numbers(prepared: "Prepared", found: dict[str, "Statistics"], top: int) -> dict[str, Any]:
    """All that is shown, as plain data."""
    tokenizer = prepared.tokenizer
    facts: dict[str, Any] = {
        "path": str(prepared.folder),
        "tokenizer": {"kind": type(tokenizer).__name__, "vocab_size": tokenizer.vocab_size},
        "splits": {},
    }
    for split, one in found.items():
        ids = {"most_common": _common(one, top), "least_common": _common(one, top, least=True)}
        named = {
            name: [{"id": id, "token": tokenizer.token(id), "count": int(one.counts[id])} for id in which]
            for name, which in ids.items()
        }
        unseen = None if split == TRAIN or TRAIN not in found else int(one.counts[found[TRAIN].counts == 0].sum())
        facts["splits"][split] = {
            "documents": one.documents,
            "tokens": one.tokens,
            "trained_on": one.trained_on,
            "bytes": one.bytes,
            "lengths": _lengths(one),
            "histogram": one.length_histogram(),
            "used": len(one.ranked),
            "unused": unused(prepared, one),
            "ids_for": {str(share): one.ids_for(share) for share in SHARES},
            **named,
            "unseen": unseen,
            "overlap": None if one.overlap is None else vars(one.overlap),
        }
    return facts


def unused(prepared: "Prepared", one: "Statistics") -> list[int]:
    """Ids that never occur, without special tokens and those that no token has."""
    import numpy as np

    tokenizer = prepared.tokenizer
    aside = tokenizer.special_ids | tokenizer.unused_ids
    return [id for id in np.flatnonzero(one.counts == 0).tolist() if id not in aside]


def show(prepared: "Prepared", found: dict[str, "Statistics"], top: int) -> None:
    """Prints the title and the tables."""
    from rich.console import Console

    tokenizer = prepared.tokenizer
    print(f"{prepared.folder}: {type(tokenizer).__name__} tokenizer of {tokenizer.vocab_size:,} tokens\n")
    # A file's lines are not torn at an edge that it has not.
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 200)
    for title, table in _tables(prepared, found, top):
        with console.capture() as captured:
            console.print(table)
        print(title, *(line.rstrip() for line in captured.get().splitlines()), "", sep="\n")


def markdown(table: "Table") -> str:
    """A table for TensorBoard's page of texts."""
    cells = [[str(cell).replace("|", "\\|").replace("`", "'") for cell in column.cells] for column in table.columns]
    heads = [str(column.header) or " " for column in table.columns]
    rows = [heads, ["---"] * len(heads), *zip(*cells, strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def bar(share: float) -> str:
    """A bar as long as a share of the longest one, in eighths of a character; what is there is seen."""
    eighths = max(round(share * _WIDTH * 8), 1 if share > 0 else 0)
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]


def _tables(prepared: "Prepared", found: dict[str, "Statistics"], top: int) -> list[tuple[str, "Table"]]:
    shown = [
        ("texts", _texts(found)),
        ("lengths of documents, in tokens", _histogram(found)),
    ]
    if any(one.overlap for one in found.values()):
        shown.append(("held-out texts in the training text", _overlap(found)))
    first = next(iter(found))
    shown += [
        (f"ids of {first}", _coverage(prepared, found[first])),
        (f"how often the id of each rank occurs in {first} (Zipf; bars are logarithmic)", _zipf(found[first])),
        (f"most common tokens of {first}", _ids(prepared, found[first], _common(found[first], top))),
        (f"least common tokens of {first}", _rare(prepared, found[first], _common(found[first], top, least=True))),
    ]
    return shown


def _table(*columns: str, left: tuple[int, ...] = (0,)) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(columns):
        table.add_column(name, justify="left" if number in left else "right", no_wrap=True)
    return table


def _texts(found: dict[str, "Statistics"]) -> "Table":
    masked = any(one.trained_on < one.tokens for one in found.values())
    learned = ["trained on"] if masked else []
    table = _table("", "documents", "tokens", *learned, "bytes", "a token", "median", "99 %", "longest")
    for split, one in found.items():
        share = [f"{one.trained_on / max(one.tokens, 1):.1%}"] if masked else []
        lengths = _lengths(one)
        table.add_row(
            split, f"{one.documents:,}", f"{one.tokens:,}", *share, f"{one.bytes:,}",
            f"{one.bytes / max(one.trained_on, 1):.2f}", *(f"{lengths[name]:,}" for name in ("median", "p99", "most")),
        )  # fmt: skip
    return table


def _lengths(one: "Statistics") -> dict[str, Any]:
    quantiles = {name: one.length_at(share) for name, share in (("least", 0.0), ("median", 0.5), ("p90", 0.9))}
    mean = round(one.tokens / max(one.documents, 1), 1)
    return quantiles | {"p99": one.length_at(0.99), "most": one.length_at(1.0), "mean": mean}


def _histogram(found: dict[str, "Statistics"]) -> "Table":
    bins = {split: {(start, end): many for start, end, many in one.length_histogram()} for split, one in found.items()}
    first, *others = found
    table = _table("tokens", first, "", *others, left=(2,))
    spans = sorted({span for of_split in bins.values() for span in of_split})
    most = max(bins[first].values(), default=1)
    for start, end in spans:
        many = bins[first].get((start, end), 0)
        rest = (f"{bins[split].get((start, end), 0):,}" for split in others)
        table.add_row(f"{start:,} to {end:,}" if start < end else "1", f"{many:,}", bar(many / most), *rest)
    return table


def _overlap(found: dict[str, "Statistics"]) -> "Table":
    table = _table("", "", "in all", "in train", "", left=(0, 1, 4))
    for split, one in found.items():
        if (over := one.overlap) is None:
            continue
        unseen = int(one.counts[found[TRAIN].counts == 0].sum()) if TRAIN in found else 0
        for name, many, shared in (
            (f"stretches of {over.ngram} tokens", over.ngrams, over.shared),
            ("whole documents", over.documents, over.shared_documents),
            ("tokens, by their ids", one.tokens, one.tokens - unseen),
        ):
            share = shared / many if many else 0.0
            table.add_row(split, name, f"{many:,}", f"{share:.2%}", bar(share))
            split = ""
        if over.repeated:
            table.add_row("", "documents that repeat its own", f"{over.repeated:,}", "", "")
    return table


def _coverage(prepared: "Prepared", one: "Statistics") -> "Table":
    from lit_gpt.data.tokenizers.display import display_token

    table = _table("", "ids", "share", "", left=(0, 3))
    size, never = len(one.counts), unused(prepared, one)
    lines = [(f"make up {share:.0%} of the tokens", one.ids_for(share)) for share in SHARES]
    for name, many in (*lines, ("occur", len(one.ranked)), ("never occur", len(never))):
        table.add_row(name, f"{many:,}", f"{many / size:.1%}", bar(many / size))
    if never:
        some = " ".join(display_token(prepared.tokenizer, id) for id in never[:4])
        table.add_row("", "", "", f"{some}{' ...' if len(never) > 4 else ''}")
    return table


def _zipf(one: "Statistics") -> "Table":
    import math

    table = _table("rank", "count", "", "share up to it", left=(2,))
    ranked, done = one.ranked, 0
    ranks = [step * 10**power for power in range(8) for step in (1, 2, 5) if step * 10**power <= len(ranked)]
    sums = ranked.cumsum()
    for rank in dict.fromkeys([*ranks, *([len(ranked)] if len(ranked) else [])]):
        count, done = int(ranked[rank - 1]), int(sums[rank - 1])
        share = math.log(count + 1) / math.log(int(ranked[0]) + 1)
        table.add_row(f"{rank:,}", f"{count:,}", bar(share), f"{done / one.tokens:.1%}")
    return table


def _common(one: "Statistics", top: int, least: bool = False) -> list[int]:
    """Ids that occur, by how often; of equally common ones the smaller id first."""
    import numpy as np

    ids = np.flatnonzero(one.counts)
    order = np.argsort(one.counts[ids] if least else -one.counts[ids], kind="stable")
    return ids[order[:top]].tolist()


def _ids(prepared: "Prepared", one: "Statistics", ids: list[int]) -> "Table":
    from lit_gpt.data.tokenizers.display import display_token

    table = _table("token", "id", "count", "share", "", left=(0, 4))
    most = int(one.counts[ids].max()) if ids else 1
    for id in ids:
        count = int(one.counts[id])
        share = f"{count / one.tokens:.2%}"
        table.add_row(display_token(prepared.tokenizer, id), str(id), f"{count:,}", share, bar(count / most))
    return table


def _rare(prepared: "Prepared", one: "Statistics", ids: list[int]) -> "Table":
    from lit_gpt.data.tokenizers.display import display_token

    table = _table("token", "id", "count")
    for id in ids:
        table.add_row(display_token(prepared.tokenizer, id), str(id), f"{int(one.counts[id]):,}")
    return table


def _check_plot(file: Path) -> None:
    if file.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise UserError(f"--plot is {file}; give a file that ends in .png, .svg or .pdf")
    if not file.absolute().parent.is_dir():
        raise UserError(f"--plot is {file}, but there is no folder {file.parent}; make it, or give another")
