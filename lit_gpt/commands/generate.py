"""Write on from a prompt with a trained run or checkpoint, streaming.

Knows the arguments, where text comes from and goes to; the writing itself is `lit_gpt.generate.writer`.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import IO, Any

from lit_gpt.commands.parser import Parser
from lit_gpt.errors import UserError

EXAMPLE = """example:
  lit-gpt generate runs/quickstart --prompt "def main(" --max_new_tokens 100 --temperature 0.8 --top_k 50 --seed 1
  lit-gpt generate runs/quickstart --prompt_file draft.txt --stop $'\\n\\n' > continuation.txt

The prompt and the text go to standard output, the summary to standard error."""


def parser() -> Parser:
    """Return the parser of `lit-gpt generate`."""
    made = Parser(
        prog="lit-gpt generate",
        description="Write on from a prompt with a trained run or checkpoint, streaming.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("run", help="run directory (its best checkpoint is taken, else its last) or .ckpt file")
    text = made.add_mutually_exclusive_group()
    text.add_argument("--prompt", metavar="TEXT", help="what to go on from; - reads standard input (default: nothing)")
    text.add_argument("--prompt_file", metavar="FILE", help="a UTF-8 file to go on from, taken as it stands")
    add("--max_new_tokens", type=int, default=200, metavar="N", help="tokens at most (default: 200)")
    add(
        "--temperature", type=float, default=0.8, metavar="X",
        help="0 takes the likeliest token each time, above 1 gets wilder (default: 0.8)",
    )  # fmt: skip
    add("--top_k", type=int, metavar="K", help="draw from the K likeliest tokens")
    add("--top_p", type=float, metavar="P", help="draw from the likeliest tokens that hold P of the probability")
    add("--min_p", type=float, metavar="P", help="draw from tokens at least P times as likely as the likeliest")
    add(
        "--repetition_penalty", type=float, default=1.0, metavar="X",
        help="above 1 makes tokens that occurred less likely (default: 1)",
    )  # fmt: skip
    add("--seed", type=int, metavar="N", help="same seed, same text (default: a fresh one)")
    add("--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be given several times")
    add("--samples", type=int, default=1, metavar="N", help="texts to write from the same prompt (default: 1)")
    add(
        "--device", default="auto", metavar="NAME",
        help="cpu, cuda, cuda:1, mps, or auto: a GPU where there is one (default: auto)",
    )  # fmt: skip
    add(
        "--echo", action=argparse.BooleanOptionalAction, default=True,
        help="print the prompt ahead of the text (default: yes)",
    )  # fmt: skip
    return made


def main(argv: list[str]) -> int:
    """Run the command; return its exit code."""
    arguments = parser().parse_args(argv)
    if arguments.samples < 1:
        raise UserError(f"--samples is {arguments.samples}; give at least 1")
    prompt = read_prompt(arguments.prompt, arguments.prompt_file, sys.stdin)
    # torch takes a second to import: after the arguments are known to be right
    from lit_gpt.checkpoint import load
    from lit_gpt.generate.writer import Writer

    net, tokenizer = load(arguments.run, device=find_device(arguments.device))
    steps = Writer(net, tokenizer).stream_batch(
        [prompt] * arguments.samples,
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        min_p=arguments.min_p,
        repetition_penalty=arguments.repetition_penalty,
        seed=arguments.seed,
        stop=arguments.stop,
    )
    show(steps, prompt if arguments.echo else "", arguments.samples, sys.stdout, sys.stderr)
    return 0


def read_prompt(prompt: str | None, file: str | None, stdin: IO[str]) -> str:
    """Return the prompt's text as it stands, from the argument, a file or standard input."""
    if file is None and prompt != "-":
        return prompt or ""
    where = "standard input" if file is None else file
    # through the bytes, so that line ends stay and the machine's locale plays no part
    try:
        content = stdin.buffer.read() if file is None else Path(file).read_bytes()  # type: ignore[attr-defined]
    except OSError as error:
        raise UserError(f"the prompt cannot be read: {where}: {error.strerror}; give a UTF-8 file") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 at byte {error.start}; convert it to UTF-8") from None


def find_device(name: str) -> Any:
    """Return the torch device of this name; `auto` is a GPU where there is one.

    Raises:
        UserError: a name that torch does not know or a device that this machine lacks.
    """
    import torch

    if name == "auto":
        best = torch.accelerator.current_accelerator(check_available=True)
        return best if best is not None else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise UserError(f"--device is {name!r}, which this machine does not have; give auto or cpu") from None
    return device


def show(steps: Any, prompt: str, samples: int, out: IO[str], err: IO[str]) -> None:
    """Print the texts as they come: the first as it is written, the others, written beside it, each in its turn.

    Args:
        steps: of `Writer.stream_batch`: one piece of each text a step, None once it has ended.
        prompt: printed ahead of each text.
        samples: how many texts there are.
    """
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows ? and the text goes on
    waiting = [""] * samples
    turn, tokens, start = 0, 0, time.perf_counter()

    def head(number: int) -> str:
        title = "" if samples == 1 else f"--- sample {number + 1} of {samples} ---\n"
        return title + prompt

    out.write(head(0))
    out.flush()
    try:
        for step in steps:
            tokens += sum(piece is not None for piece in step)
            for row, piece in enumerate(step):
                waiting[row] += piece or ""
            out.write(waiting[turn])
            waiting[turn] = ""
            while turn + 1 < samples and step[turn] is None:
                turn += 1
                out.write(f"\n{head(turn)}{waiting[turn]}")
                waiting[turn] = ""
            out.flush()
        for row in range(turn + 1, samples):
            out.write(f"\n{head(row)}{waiting[row]}")
    finally:
        # also after Ctrl-C, so that the shell's prompt stands on a line of its own
        if not isinstance(sys.exception(), BrokenPipeError):
            seconds = time.perf_counter() - start
            out.write("\n")
            out.flush()
            err.write(f"{tokens} tokens in {seconds:.2f} s, {tokens / max(seconds, 1e-9):.1f} tokens/s\n")
