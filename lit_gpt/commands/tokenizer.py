"""`lit-gpt tokenizer`: train a tokenizer, encode and decode with one, and measure its compression and fertility."""

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_gpt import atomic_io
from lit_gpt.commands.parser import Parser
from lit_gpt.config.yaml_files import nearest
from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.fertility import Counts
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

_HELP = """usage: lit-gpt tokenizer ACTION ...

Train a tokenizer, encode and decode with one, and measure how well it compresses texts.

  train --out FILE           train on a text; its keys are those of `lit-gpt prepare`
  encode TOKENIZER [TEXT]    text, or standard input, to ids
  decode TOKENIZER [ID ...]  ids, or those on standard input, to text
  stats TOKENIZER --text ..  compression, fertility, token frequencies

TOKENIZER is a tokenizer's file, a corpus folder, a run, a checkpoint (.ckpt) or a folder of the Hugging Face hub.

examples:
  lit-gpt tokenizer train --data.source.paths books/ --data.tokenizer.vocab_size 32768 --out tokenizer.json
  lit-gpt tokenizer encode tokenizer.json "To be, or not to be"
  lit-gpt tokenizer decode tokenizer.json 2514 307 11
  lit-gpt tokenizer stats tokenizer.json --text en=books/ zh=poems.txt --plot zipf.png

lit-gpt tokenizer ACTION --help    options of one
"""
_TRAIN = """keys of the data:
  --data.source CLASS   where the text comes from: TextFiles (--data.source.paths my_text/), JsonLines, Parquet, ...
  --data.tokenizer CLASS   BPE (the default), Byte, Char, WordPiece, SentencePiece, Tiktoken, Pretrained, Saved
  --data.tokenizer.help CLASS   the arguments of one, such as --data.tokenizer.vocab_size
  --config FILE         a YAML file, as for fit, whose data section is used

All keys of the data are those of `lit-gpt prepare --help`. The tokenizer is trained on the training split, so give the
same split as in training, or --data.val_fraction 0 to train it on all of the text.

examples:
  lit-gpt tokenizer train --data.source.paths books/ --data.tokenizer.vocab_size 32768 --out tokenizer.json
  lit-gpt tokenizer train --data.source.paths zh/ --data.tokenizer SentencePiece --out zh.json
  lit-gpt fit --data.source.paths books/ --data.tokenizer Saved --data.tokenizer.path tokenizer.json
"""
_STATS = """example:
  lit-gpt tokenizer stats tokenizer.json --text en=books/ zh=poems.txt code=src/ --plot zipf.png

One row for each text: bytes and characters per token (more compression is better), tokens per word (fertility: less is
better; languages with a high fertility cost more time and context), share of the tokens that are unk. A word is a run
of letters and digits, or one Chinese or Japanese character.

keys of --json:
  tokenizer vocab_size   class, number of ids
  texts                  by name: bytes, characters, words, tokens, unknown
  most_common            id, token, count; over all texts
  unused                 ids that no text used, without special tokens"""
_SHOWN_UNUSED = 8


def main(argv: list[str]) -> int:
    """Runs the command."""
    action, *rest = argv or [""]
    if action in ("-h", "--help"):
        print(_HELP, end="")
        return 0
    if action not in ACTIONS:
        near = nearest(action, ACTIONS)
        hint = f"did you mean {near}?" if near else f"give {', '.join(ACTIONS)}; see lit-gpt tokenizer --help"
        raise UserError(f"lit-gpt tokenizer does not know {action!r}; {hint}" if action else f"what to do? {hint}")
    return ACTIONS[action](rest)


def _parser(action: str, description: str, epilog: str | None = None) -> Parser:
    prog = f"lit-gpt tokenizer {action}"
    parser = Parser(prog=prog, description=description, epilog=epilog)
    if action != "train":
        kinds = "a tokenizer's file, a corpus, a run, a .ckpt, a hub folder"
        parser.add_argument("tokenizer", metavar="TOKENIZER", help=kinds)
    return parser


def _load(path: str) -> "Tokenizer":
    from lit_gpt.data.tokenizers.from_checkpoint import Saved

    tokenizer: Tokenizer = Saved(path)
    return tokenizer


def train(argv: list[str]) -> int:
    """Trains a tokenizer, as prepare and fit do, and writes it to a file."""
    parser = _parser("train", "Train a tokenizer on a text, as prepare and fit do, and write it to a file.", _TRAIN)
    parser.add_argument("--out", required=True, metavar="FILE", help="the file to write; it must not exist yet")
    options, words = parser.parse_known_args(argv)
    out = Path(options.out)
    if out.exists():
        raise UserError(f"--out {out} exists; give another file, or remove it first")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.absolute().parent}; create it first")
    from lit_gpt.commands.prepare import data_of
    from lit_gpt.config.command_line import CommandLine
    from lit_gpt.data.corpus.train_tokenizer import train_tokenizer

    recipe = data_of(CommandLine(words)).text.recipe()
    tokenizer = recipe.tokenizer
    origin = "trained already"
    if not tokenizer.trained:
        train_tokenizer(recipe, recipe.scans())
        origin = f"trained on {recipe.source.describe()}"
    with atomic_io.disk_errors(out):
        tokenizer.save(out)
    path = shlex.quote(str(out))
    print(f"{out}: {type(tokenizer).__name__} of {tokenizer.vocab_size:,} ids, {origin}")
    print(f"\nnext:\n  lit-gpt tokenizer stats {path} --text FILE")
    print(f"  lit-gpt fit --data.tokenizer Saved --data.tokenizer.path {path} --data.source.paths ...")
    return 0


def encode(argv: list[str]) -> int:
    """Prints the ids of a text, one token a line, or all in one line."""
    from lit_gpt.commands.generate import read_prompt
    from lit_gpt.data.tokenizers.display import display_token

    parser = _parser("encode", "Text to ids: one token a line, a summary on standard error.")
    parser.add_argument("text", nargs="?", default="-", help="the text; - (default) reads standard input")
    parser.add_argument("--ids", action="store_true", help="print the ids alone, in one line, as decode takes them")
    arguments = parser.parse_intermixed_args(argv)
    tokenizer = _load(arguments.tokenizer)
    text = read_prompt(arguments.text, None, sys.stdin)
    try:
        ids = tokenizer.encode(text)
    except UnicodeEncodeError as error:
        raise UserError(f"the text has half a surrogate pair at position {error.start}; remove it") from None
    if arguments.ids:
        print(*ids)
        return 0
    width = len(str(max(ids, default=0)))
    for id in ids:
        print(f"{id:>{width}}  {display_token(tokenizer, id)}")
    size = len(text.encode())
    ratio = f", {size / len(ids):.2f} bytes a token" if ids else ""
    print(f"{len(ids):,} tokens, {len(text):,} characters, {size:,} bytes{ratio}", file=sys.stderr)
    return 0


def decode(argv: list[str]) -> int:
    """Prints the text of ids, and nothing else."""
    parser = _parser("decode", "Ids to text, and nothing else; special tokens are skipped.")
    parser.add_argument("ids", nargs="*", metavar="ID", help="the ids; without any, standard input is read")
    arguments = parser.parse_intermixed_args(argv)
    tokenizer = _load(arguments.tokenizer)
    words = arguments.ids or sys.stdin.read().split()
    for word in words:
        if not word.isdecimal():
            raise UserError(f"{word!r} is no token id; give whole numbers from 0 to {tokenizer.vocab_size - 1}")
    text = tokenizer.decode(map(int, words))
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # the text's own bytes in any locale
    sys.stdout.write(text + ("\n" if sys.stdout.isatty() else ""))
    return 0


def stats(argv: list[str]) -> int:
    """Prints compression, fertility and token frequencies on texts."""
    parser = _parser("stats", "Compression, fertility and token frequencies on texts.", _STATS)
    add = parser.add_argument
    add(
        "--text", "--paths", nargs="+", action="extend", required=True, metavar="[NAME=]PATH",
        help="UTF-8 files, folders or globs, each a row under its name (default: its path)",
    )  # fmt: skip
    add("--top", type=int, default=10, metavar="N", help="most common tokens to show (default: 10)")
    add("--plot", metavar="FILE", help="draw token frequencies by rank (Zipf): .png, .svg or .pdf")
    add("--json", action="store_true", help="print one JSON object and nothing else, with the keys below")
    arguments = parser.parse_args(argv)
    if arguments.top < 1:
        raise UserError(f"--top is {arguments.top}; give at least 1")
    if arguments.plot is not None and Path(arguments.plot).suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"--plot {arguments.plot} is of no known kind; name a .png, .svg or .pdf")
    from lit_gpt.data.progress import Progress, say
    from lit_gpt.data.sources.text_files import TextFiles
    from lit_gpt.data.tokenizers.fertility import count

    texts = dict(map(_named, arguments.text))
    if len(texts) < len(arguments.text):
        raise UserError("--text gives two texts one name; give different ones, as in --text a=one.txt b=two.txt")
    tokenizer = _load(arguments.tokenizer)
    sources = {name: TextFiles(path) for name, path in texts.items()}
    for source in sources.values():
        source.files()  # raises for missing files before anything is counted
    with Progress("tokenizing") as progress:
        counts = {name: count(tokenizer, source, progress.advance) for name, source in sources.items()}
    for source in sources.values():
        for note in source.notes():
            say(note)
    facts = _facts(tokenizer, counts, arguments.top)
    print(json.dumps(facts, ensure_ascii=False, indent=2) if arguments.json else "\n".join(_report(tokenizer, facts)))
    if arguments.plot is not None:
        from lit_gpt.commands.zipf_figure import draw

        draw({name: one.frequencies for name, one in counts.items()}, Path(arguments.plot))
    if not arguments.json:
        path = shlex.quote(arguments.tokenizer)
        if arguments.plot:
            print(f'\nfigure: {arguments.plot}\n\nnext:\n  lit-gpt tokenizer encode {path} "some text"')
        else:
            words = shlex.join(arguments.text)
            print(f"\nnext:\n  lit-gpt tokenizer stats {path} --text {words} --plot zipf.png")
    return 0


def _named(word: str) -> tuple[str, str]:
    name, equals, path = word.partition("=")
    return (name, expanduser(path)) if equals and name and not Path(word).exists() else (word, expanduser(word))


def _facts(tokenizer: "Tokenizer", counts: dict[str, "Counts"], top: int) -> dict[str, Any]:
    """What --json prints."""
    import numpy as np

    from lit_gpt.data.tokenizers.display import display_token

    frequencies = np.sum([one.frequencies for one in counts.values()], axis=0)
    order = (-frequencies).argsort(kind="stable")[:top].tolist()
    texts = {}
    for name, one in counts.items():
        sizes = {"bytes": one.bytes, "characters": one.characters, "words": one.words, "tokens": one.tokens}
        texts[name] = {**sizes, "unknown": None if tokenizer.unk is None else int(one.frequencies[tokenizer.unk])}
    ordinary = (id for id in range(tokenizer.vocab_size) if id not in tokenizer.special_ids)
    return {
        "tokenizer": type(tokenizer).__name__,
        "vocab_size": tokenizer.vocab_size,
        "texts": texts,
        "most_common": [
            {"id": id, "token": display_token(tokenizer, id), "count": int(frequencies[id])}
            for id in order
            if frequencies[id]
        ],
        "unused": [id for id in ordinary if not frequencies[id]],
    }


def _report(tokenizer: "Tokenizer", facts: dict[str, Any]) -> Iterator[str]:
    from lit_gpt.data.tokenizers.display import display_token

    yield f"{facts['tokenizer']} of {facts['vocab_size']:,} ids\n"
    rows: list[tuple[str, ...]] = [("text", "bytes", "tokens", "bytes/token", "characters/token", "tokens/word", "unk")]
    for name, one in facts["texts"].items():
        tokens = max(one["tokens"], 1)
        unknown = "-" if one["unknown"] is None else f"{one['unknown'] / tokens:.2%}"
        fertility = f"{one['tokens'] / one['words']:.3f}" if one["words"] else "-"
        compression = f"{one['bytes'] / tokens:.3f}", f"{one['characters'] / tokens:.3f}"
        rows.append((name, f"{one['bytes']:,}", f"{one['tokens']:,}", *compression, fertility, unknown))
    yield _table(rows, left=0)
    total = sum(one["tokens"] for one in facts["texts"].values())
    common = [
        (f"{one['count']:,}", f"{one['count'] / total:.2%}", str(one["id"]), one["token"])
        for one in facts["most_common"]
    ]
    yield _table([("count", "share", "id", "token"), *common], left=3)
    unused = facts["unused"]
    some = ", ".join(f"{id} {display_token(tokenizer, id)}" for id in unused[:_SHOWN_UNUSED])
    more = ", ..." if len(unused) > _SHOWN_UNUSED else ""
    share = len(unused) / max(facts["vocab_size"], 1)
    yield f"unused ids: {len(unused):,} ({share:.1%}){f': {some}{more}' if some else ''}"


def _table(rows: Sequence[tuple[str, ...]], left: int) -> str:
    """Columns aligned to the right, except for the one of index `left`, and an empty line."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            f"{cell:{'<' if column == left else '>'}{widths[column]}}" for column, cell in enumerate(row)
        ).rstrip()
        for row in rows
    )
    return "\n".join([*lines, ""])


ACTIONS = {"train": train, "encode": encode, "decode": decode, "stats": stats}
