"""How often a net writes lines in the format of its poems: 5 + 5 or 7 + 7 characters, a comma between, a stop behind.

python benchmarks/poem_format.py runs/tang_poems tang_poems_zh.txt
"""

import argparse
import re
import time
from collections.abc import Iterable
from pathlib import Path

from lit_gpt import load
from lit_gpt.generate.text_generator import TextGenerator

HEAD = 2  # lines of a poem that are its title and its poet
LINE = re.compile(r"(?:(\w{5})[，？！](\w{5})|(\w{7})[，？！](\w{7}))[。？！]")


def lines_of(poems: Iterable[str]) -> list[str]:
    """The lines of all poems, without their heads."""
    return [line for poem in poems for line in poem.strip("\n").split("\n")[HEAD:]]


def share(lines: list[str]) -> str:
    """How many lines have the format, as words."""
    formed = sum(LINE.fullmatch(line) is not None for line in lines)
    return f"{formed:,} of {len(lines):,} lines ({formed / max(len(lines), 1):.1%})"


def main() -> None:
    """Prints the share in the corpus and in what the net writes, and some of that."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run directory or a checkpoint")
    parser.add_argument("text", type=Path, help="the poems it was trained on, a blank line between two")
    parser.add_argument("--poems", type=int, default=200, help="how many are written")
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top_k", type=int, default=50)
    parser.add_argument(
        "--max_new_tokens", type=int, default=94, help="a poem that is longer is cut before its last line"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    net, tokenizer = load(options.run)
    started = time.perf_counter()
    written = TextGenerator(net, tokenizer).generate_batch(
        [""] * options.poems,
        max_new_tokens=options.max_new_tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        seed=options.seed,
    )
    seconds = time.perf_counter() - started
    poems = [poem if len(poem) < options.max_new_tokens else poem.rpartition("\n")[0] for poem in written]
    ended = sum(len(poem) < options.max_new_tokens for poem in written)
    theirs, ours = lines_of(options.text.read_text(encoding="utf-8").split("\n\n")), lines_of(poems)
    known = set(theirs)
    print(f"in the corpus   {share(theirs)}")
    print(f"written         {share(ours)}, {sum(line in known for line in ours):,} of them stand in the corpus")
    within = f"{ended:,} came to their end within {options.max_new_tokens} characters"
    print(f"poems           {len(poems):,} in {seconds:.1f} s, {within}")
    for poem in poems[:3]:
        print(f"\n{poem.strip()}")


if __name__ == "__main__":
    main()
