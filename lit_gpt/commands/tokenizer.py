"""Train a tokenizer by itself, encode and decode with one, and count what one makes of texts.

Knows arguments and what is shown; the numbers come from `lit_gpt.data.tokenizers.fertility`.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Iterator
from os.path import expanduser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_gpt import atomic_io
from lit_gpt.commands.parser import Parser
from lit_gpt.config import user_paths
from lit_gpt.config.yaml_files import nearest
from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from lit_gpt.data.tokenizers.fertility import Counts
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

_TRAIN = """usage: lit-gpt tokenizer train --out FILE [--config FILE] [--data.KEY VALUE ...]

Train a tokenizer on a text, as `lit-gpt prepare` and `lit-gpt fit` do by themselves, and write it to a file.

  --out FILE               where the tokenizer goes, such as tokenizer.json; it must not be there yet
  --data.source CLASS      where the text comes from: TextFiles (--data.source.paths my_text/), JsonLines, Parquet, ...
  --data.tokenizer CLASS   BPE (the default), Byte, Char, WordPiece, SentencePiece, Tiktoken, Pretrained, Saved
  --data.tokenizer.help CLASS   the arguments of one, such as --data.tokenizer.vocab_size
  --config FILE            a YAML file, as for fit: its data section is taken

All keys of the data are those of `lit-gpt prepare --help`. The tokenizer learns from the training split, so give the
same split as in training, or --data.val_fraction 0 to learn from all of the text.

examples:
  lit-gpt tokenizer train --data.source.paths books/ --data.tokenizer.vocab_size 32768 --out tokenizer.json
  lit-gpt tokenizer train --data.source.paths zh/ --data.tokenizer SentencePiece --out zh.json
  lit-gpt fit --data.source.paths books/ --data.tokenizer Saved --data.tokenizer.path tokenizer.json
"""
_HELP = """usage: lit-gpt tokenizer ACTION ...

Train a tokenizer by itself, encode and decode with one, and count what one makes of texts.

  train --out FILE           learn from a text; its keys are those of `lit-gpt prepare`
  encode TOKENIZER [TEXT]    text, or standard input, to ids
  decode TOKENIZER [ID ...]  ids, or those on standard input, to text
  stats TOKENIZER --text ..  compression, tokens a word, how often each token occurs

TOKENIZER is a tokenizer's file, a corpus folder, a run, a checkpoint (.ckpt) or a folder of the Hugging Face hub.

examples:
  lit-gpt tokenizer train --data.source.paths books/ --data.tokenizer.vocab_size 32768 --out tokenizer.json
  lit-gpt tokenizer encode tokenizer.json "To be, or not to be"
  lit-gpt tokenizer decode tokenizer.json 2514 307 11
  lit-gpt tokenizer stats tokenizer.json --text en=books/ zh=poems.txt --plot zipf.png

lit-gpt tokenizer ACTION --help    options of one
"""
_STATS = """example:
  lit-gpt tokenizer stats tokenizer.json --text en=books/ zh=poems.txt code=src/ --plot zipf.png

One row for each text: bytes and characters that a token stands for (more is shorter), tokens that a word needs
(fertility: less is better; languages that need many pay for it in time and context), share of the tokens that are unk.
A word is a run of letters and digits, a Chinese or Japanese character by itself.

keys of --json:
  tokenizer vocab_size   class, ids
  texts                  by name: bytes, characters, words, tokens, unknown
  most_common            id, token, count; over all texts
  unused                 ids that no text used, special tokens left out"""
_UNUSED = 8  # shown by their text


def main(argv: list[str]) -> int:
    """Runs the command."""
    action, *rest = argv or [""]
    if action in ("-h", "--help"):
        print(_HELP, end="")
        return 0
    if action not in ACTIONS:
        near = nearest(action, ACTIONS)
        would = f"did you mean {near}?" if near else f"give {', '.join(ACTIONS)}; see lit-gpt tokenizer --help"
        raise UserError(f"lit-gpt tokenizer does not know {action!r}; {would}" if action else f"what to do? {would}")
    return ACTIONS[action](rest)


def _parser(action: str, description: str, epilog: str | None = None) -> Parser:
    made = Parser(
        prog=f"lit-gpt tokenizer {action}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "tokenizer", metavar="TOKENIZER", help="a tokenizer's file, a corpus, a run, a .ckpt, a hub folder"
    )
    return made


def _load(path: str) -> "Tokenizer":
    from lit_gpt.data.tokenizers.from_checkpoint import Saved

    tokenizer: Tokenizer = Saved(path)
    return tokenizer


# -- train -------------------------------------------------------------------------------------------------------------


def train(argv: list[str]) -> int:
    """Runs `lit-gpt tokenizer train`."""
    if {"-h", "--help"} & set(argv):
        print(_TRAIN, end="")
        return 0
    words, out = _out(argv)
    if out.exists():
        raise UserError(f"--out {out} is there already; give another file, or remove it first")
    if not out.absolute().parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.absolute().parent}; make it first")
    from lit_gpt.commands.prepare import data_of
    from lit_gpt.config.command_line import CommandLine
    from lit_gpt.data.corpus.train_tokenizer import train_tokenizer

    recipe = data_of(CommandLine(words)).recipe()
    tokenizer = recipe.tokenizer
    learns = not tokenizer.trained
    if learns:
        train_tokenizer(recipe, recipe.scans())
    with atomic_io.disk_errors(out):
        tokenizer.save(out)
    learned = f"learned from {recipe.source.describe()}" if learns else "nothing to learn"
    print(f"{out}: {type(tokenizer).__name__} of {tokenizer.vocab_size:,} ids, {learned}")
    print(f"\nnext:\n  lit-gpt tokenizer stats {shlex.quote(str(out))} --text FILE")
    print(f"  lit-gpt fit --data.tokenizer Saved --data.tokenizer.path {shlex.quote(str(out))} --data.source.paths ...")
    return 0


def _out(argv: list[str]) -> tuple[list[str], Path]:
    """The words for the data, and where the tokenizer goes."""
    words, out, rest = [], "", user_paths.in_words(argv)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if option == "--out":
            out = value if equals else rest.pop(0) if rest else ""
        else:
            words.append(word)
    if not out or out.startswith("--"):
        raise UserError("where to? give --out FILE, such as --out tokenizer.json; see lit-gpt tokenizer train --help")
    return words, Path(out)


# -- encode and decode -------------------------------------------------------------------------------------------------


def encode(argv: list[str]) -> int:
    """Prints the ids of a text, one token a line, or all in one line."""
    from lit_gpt.commands.generate import read_prompt
    from lit_gpt.data.tokenizers.display import display_token

    made = _parser("encode", "Text to ids: one token a line, a summary on standard error.")
    made.add_argument("text", nargs="?", default="-", help="what to encode; - or none: standard input is read")
    made.add_argument("--ids", action="store_true", help="print the ids alone, in one line, as decode takes them")
    arguments = made.parse_intermixed_args(argv)
    tokenizer = _load(arguments.tokenizer)
    text = read_prompt(arguments.text, None, sys.stdin)
    try:
        ids = tokenizer.encode(text)
    except UnicodeEncodeError as fault:
        raise UserError(f"the text has half a surrogate pair at position {fault.start}; leave it out") from None
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
    made = _parser("decode", "Ids to text, and nothing else; special tokens are left out.")
    made.add_argument("ids", nargs="*", metavar="ID", help="what to decode; without any, standard input is read")
    arguments = made.parse_intermixed_args(argv)
    tokenizer = _load(arguments.tokenizer)
    words = arguments.ids or sys.stdin.read().split()
    for word in words:
        if not word.isdecimal():
            raise UserError(f"{word!r} is no token id; give whole numbers from 0 to {tokenizer.vocab_size - 1}")
    text = tokenizer.decode(int(word) for word in words)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # the text's own bytes, whatever the machine's locale
    sys.stdout.write(text + ("\n" if sys.stdout.isatty() else ""))
    return 0


# -- stats -------------------------------------------------------------------------------------------------------------


def stats(argv: list[str]) -> int:
    """Prints what a tokenizer makes of texts."""
    made = _parser("stats", "Compression, tokens a word and frequencies of tokens on texts.", _STATS)
    add = made.add_argument
    add(
        "--text", "--paths", nargs="+", action="extend", required=True, metavar="[NAME=]PATH",
        help="UTF-8 files, folders or globs, each a row under its name (default: its path)",
    )  # fmt: skip
    add("--top", type=int, default=10, metavar="N", help="most common tokens to show (default: 10)")
    add("--plot", metavar="FILE", help="draw how often tokens occur, by rank (Zipf): .png, .svg or .pdf")
    add("--json", action="store_true", help="print one JSON object and nothing else; its keys stand below")
    arguments = made.parse_args(argv)
    if arguments.top < 1:
        raise UserError(f"--top is {arguments.top}; give at least 1")
    if arguments.plot is not None and Path(arguments.plot).suffix not in (".png", ".svg", ".pdf"):
        raise UserError(f"--plot {arguments.plot} is of no known kind; name a .png, .svg or .pdf")
    from lit_gpt.data.progress import Progress, say
    from lit_gpt.data.sources.text_files import TextFiles
    from lit_gpt.data.tokenizers.fertility import count

    texts = dict(_named(word) for word in arguments.text)
    if len(texts) < len(arguments.text):
        raise UserError("--text gives two texts one name; name them apart, as in --text a=one.txt b=two.txt")
    tokenizer = _load(arguments.tokenizer)
    sources = {name: TextFiles(path) for name, path in texts.items()}
    for source in sources.values():
        source.files()  # says what is missing before anything is counted
    with Progress("tokenizing") as progress:
        found = {name: count(tokenizer, source, progress.advance) for name, source in sources.items()}
    for source in sources.values():
        for note in source.notes():
            say(note)
    facts = _facts(tokenizer, found, arguments.top)
    if arguments.json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
    else:
        print("\n".join(_report(tokenizer, facts)))
    if arguments.plot is not None:
        from lit_gpt.commands.zipf_figure import draw

        draw({name: one.frequencies for name, one in found.items()}, Path(arguments.plot))
    if not arguments.json:
        told = shlex.join(arguments.text)
        path = shlex.quote(arguments.tokenizer)
        plot = f"lit-gpt tokenizer stats {path} --text {told} --plot zipf.png"
        encoded = f'lit-gpt tokenizer encode {path} "some text"'
        print(f"\nfigure: {arguments.plot}\n\nnext:\n  {encoded}" if arguments.plot else f"\nnext:\n  {plot}")
    return 0


def _named(word: str) -> tuple[str, str]:
    name, equals, path = word.partition("=")
    return (name, expanduser(path)) if equals and name and not Path(word).exists() else (word, expanduser(word))


def _facts(tokenizer: "Tokenizer", found: dict[str, "Counts"], top: int) -> dict[str, Any]:
    import numpy as np

    from lit_gpt.data.tokenizers.display import display_token

    frequencies = np.sum([one.frequencies for one in found.values()], axis=0)
    order = (-frequencies).argsort(kind="stable")[:top].tolist()
    plain = (id for id in range(tokenizer.vocab_size) if id not in tokenizer.special_ids)
    return {
        "tokenizer": type(tokenizer).__name__,
        "vocab_size": tokenizer.vocab_size,
        "texts": {
            name: {
                "bytes": one.bytes,
                "characters": one.characters,
                "words": one.words,
                "tokens": one.tokens,
                "unknown": None if tokenizer.unk is None else int(one.frequencies[tokenizer.unk]),
            }
            for name, one in found.items()
        },
        "most_common": [
            {"id": id, "token": display_token(tokenizer, id), "count": int(frequencies[id])}
            for id in order
            if frequencies[id]
        ],
        "unused": [id for id in plain if not frequencies[id]],
    }


def _report(tokenizer: "Tokenizer", facts: dict[str, Any]) -> Iterator[str]:
    from lit_gpt.data.tokenizers.display import display_token

    yield f"{facts['tokenizer']} of {facts['vocab_size']:,} ids"
    yield ""
    head = ("text", "bytes", "tokens", "bytes/token", "characters/token", "tokens/word", "unk")
    rows: list[tuple[str, ...]] = [head]
    for name, one in facts["texts"].items():
        tokens = max(one["tokens"], 1)
        unknown = "-" if one["unknown"] is None else f"{one['unknown'] / tokens:.2%}"
        words = f"{one['tokens'] / one['words']:.3f}" if one["words"] else "-"
        size, length = f"{one['bytes'] / tokens:.3f}", f"{one['characters'] / tokens:.3f}"
        rows.append((name, f"{one['bytes']:,}", f"{one['tokens']:,}", size, length, words, unknown))
    yield from _table(rows, left=1)
    yield ""
    total = sum(one["tokens"] for one in facts["texts"].values())
    rows = [("count", "share", "id", "token")]
    for one in facts["most_common"]:
        rows.append((f"{one['count']:,}", f"{one['count'] / total:.2%}", str(one["id"]), one["token"]))
    yield from _table(rows, left=0, last_left=True)
    yield ""
    unused = facts["unused"]
    some = ", ".join(f"{id} {display_token(tokenizer, id)}" for id in unused[:_UNUSED])
    more = ", ..." if len(unused) > _UNUSED else ""
    share = len(unused) / max(facts["vocab_size"], 1)
    yield f"unused ids: {len(unused):,} ({share:.1%}){f': {some}{more}' if some else ''}"


def _table(rows: list[tuple[str, ...]], left: int, last_left: bool = False) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            f"{cell:<{width}}" if column < left or (last_left and column == len(row) - 1) else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


ACTIONS = {"train": train, "encode": encode, "decode": decode, "stats": stats}
