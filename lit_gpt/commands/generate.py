"""Write on from a prompt with a trained run or checkpoint, streaming.

Knows the arguments, where text comes from and goes to; the writing itself is `lit_gpt.generate.text_generator`.
"""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import IO, Any, NamedTuple

from lit_gpt import signals
from lit_gpt.commands.parser import Parser
from lit_gpt.config.safe_parsing import parse_json
from lit_gpt.errors import UserError

_VARIABLES = "'{enable_thinking: false}'"
_LIKE = """'{"source": "..."}'"""
EXAMPLE = """example:
  lit-gpt generate runs/quickstart --prompt "def main(" --max_new_tokens 100 --temperature 0.8 --top_k 50 --seed 1
  lit-gpt generate runs/quickstart --prompt_file draft.txt --stop $'\\n\\n' > continuation.txt
  lit-gpt generate runs/translator --record '{"source": "Good morning"}' --temperature 0
  lit-gpt generate runs/assistant --chat "What is a prime number?"
  lit-gpt generate runs/bilingual --tag '<|zh|>'

A record is laid out in the run's data.format; nothing in it is read as a special token.
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
    text.add_argument(
        "--record", metavar="JSON",
        help="a record without its answer, for a run trained on such; - reads it from standard input",
    )  # fmt: skip
    text.add_argument("--chat", metavar="TEXT", help="what a user says, for a run trained on conversations")
    add(
        "--chat_template", metavar="TEMPLATE",
        help="of conversations: a name among the model's, a .jinja file, a folder (default: as trained, else its own)",
    )  # fmt: skip
    add(
        "--template_variables", metavar="MAPPING",
        help="values of variables that the chat template reads, as JSON or YAML: '{enable_thinking: false}'",
    )  # fmt: skip
    add(
        "--tag", action="append", default=[], metavar="TOKEN",
        help="special token ahead of it all, such as <|en|> of a Mixture with tags; may be given several times",
    )  # fmt: skip
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
        "--echo", action=argparse.BooleanOptionalAction,
        help="print the prompt ahead of the text (default: yes, but only the answer to --record and --chat)",
    )  # fmt: skip
    return made


def main(argv: list[str]) -> int:
    """Run the command; return its exit code."""
    arguments = parser().parse_args(argv)
    if arguments.samples < 1:
        raise UserError(f"--samples is {arguments.samples}; give at least 1")
    asks = arguments.record is not None or arguments.chat is not None
    given = read_record(arguments.record, sys.stdin) if arguments.record is not None else arguments.chat
    if not asks and (arguments.chat_template is not None or arguments.template_variables is not None):
        raise UserError("--chat_template and --template_variables are of conversations; give --chat or --record")
    variables = read_variables(arguments.template_variables)
    text = "" if asks else read_prompt(arguments.prompt, arguments.prompt_file, sys.stdin)
    # torch takes a second to import: after the arguments are known to be right
    from lit_gpt.checkpoint import load, load_format
    from lit_gpt.generate.text_generator import TextGenerator

    net, tokenizer = load(arguments.run, device=find_device(arguments.device))
    format, prompt = load_format(arguments.run, tokenizer), text
    if asks:
        format, record = asking(format, tokenizer, given, arguments.run, arguments.chat_template)
        if variables:
            format = with_variables(format, variables)
        text = "".join(segment.text for segment in format.question(record))
    else:
        for told in (hint(format), spelled(tokenizer, prompt)):
            if told:
                print(told, file=sys.stderr)
    generator = TextGenerator(net, tokenizer, format)
    ids = generator.question(record) if asks else generator.encode(prompt)
    if arguments.tag:
        nothing = not asks and not prompt and not tokenizer.starts_with_bos
        ids = tagged([] if nothing else ids, arguments.tag, tokenizer)
    steps = generator.stream_batch(
        [ids] * arguments.samples,
        max_new_tokens=arguments.max_new_tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        min_p=arguments.min_p,
        repetition_penalty=arguments.repetition_penalty,
        seed=arguments.seed,
        stop=arguments.stop,
    )
    echo = arguments.echo if arguments.echo is not None else not asks
    show(steps, text if echo else "", arguments.samples, sys.stdout, sys.stderr, Context(net.context, len(ids)))
    return 0


def read_prompt(prompt: str | None, file: str | None, stdin: IO[str]) -> str:
    """Return the prompt's text as it stands, from the argument, a file or standard input."""
    if file is None and prompt != "-":
        return prompt or ""
    return _read(file, stdin)


def read_record(typed: str, stdin: IO[str]) -> dict[str, Any]:
    """Return the record that was typed, or that standard input holds."""
    try:
        record = parse_json(_read(None, stdin) if typed == "-" else typed)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"--record is no JSON: {error}; give one such as {_LIKE}") from None
    if not isinstance(record, dict):
        raise UserError(f"--record is JSON but no record; give one such as {_LIKE}")
    return record


def read_variables(typed: str | None) -> dict[str, Any]:
    """Return the template variables that were typed as JSON or YAML."""
    if typed is None:
        return {}
    import yaml

    try:
        read = yaml.safe_load(typed)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--template_variables is neither JSON nor YAML: {reason}; give {_VARIABLES}") from None
    if not isinstance(read, dict) or not all(isinstance(name, str) for name in read):
        raise UserError(f"--template_variables is no mapping of names to values; give one such as {_VARIABLES}")
    return read


def asking(
    format: Any, tokenizer: Any, given: str | dict[str, Any], run: str, template: str | None = None
) -> tuple[Any, dict[str, Any]]:
    """Return the format that asks, and the record.

    An imported model is asked by the chat template that came with it.

    Args:
        format: of the run.
        tokenizer: of the run.
        given: a record, or what a user says.
        run: its name, for errors.
        template: of conversations, in place of the one that the run was trained on or came with.
    """
    from lit_gpt.data.formats.chat import Chat
    from lit_gpt.data.formats.jinja_template import Jinja

    talks = isinstance(given, str) or {"messages", "conversations"} & given.keys()
    if template is not None:
        field = format.field if isinstance(format, Chat) else "messages"
        format = Chat(field, Jinja(template)).for_tokenizer(tokenizer)
    elif format.example is None and talks and tokenizer.chat_templates:
        format = Chat(template=Jinja()).for_tokenizer(tokenizer)
    if format.example is None:
        raise UserError(f"{run} was trained on plain text, which asks for no answer; give --prompt")
    if isinstance(given, dict):
        return format, given
    if not isinstance(format, Chat):
        kind, like = type(format).__name__, json.dumps(format.example)
        raise UserError(f"{run} was trained on records of {kind}, not on conversations; give --record '{like}'")
    return format, {format.field: [{"role": "user", "content": given}]}


def with_variables(format: Any, given: dict[str, Any]) -> Any:
    """Return the format with further template variables."""
    from lit_gpt.data.formats.chat import Chat

    if not isinstance(format, Chat):
        raise UserError(
            f"--template_variables are of conversations, and the run was trained on {type(format).__name__}"
        )
    return format.with_variables(given)


def hint(format: Any) -> str | None:
    """Return the line for whoever gives plain text to a run that was trained on questions with their answers."""
    from lit_gpt.data.formats.chat import Chat
    from lit_gpt.data.formats.records import Answered

    if not isinstance(format, (Answered, Chat)):
        return None
    way = '--chat "..."' if isinstance(format, Chat) else f"--record {shlex.quote(json.dumps(format.example))}"
    kind = type(format).__name__
    return f"trained on records of {kind}: the prompt is taken as it stands; {way} lays it out as they were"


def tagged(ids: list[int], names: list[str], tokenizer: Any) -> list[int]:
    """Return the ids with special tokens ahead, behind BOS alone, as documents of a source with a tag begin.

    Raises:
        UserError: a name that is no special token.
    """
    special = {tokenizer.token(id): id for id in sorted(tokenizer.special_ids)}
    for name in names:
        if name not in special:
            raise UserError(f"--tag {name!r} is no special token of this run; it has {', '.join(special) or 'none'}")
    behind = 1 if tokenizer.bos is not None and ids[:1] == [tokenizer.bos] else 0
    return [*ids[:behind], *(special[name] for name in names), *ids[behind:]]


def spelled(tokenizer: Any, prompt: str) -> str | None:
    """Return the line for whoever spells a special token in a prompt, where it is text as in a text to train on."""
    for name in (tokenizer.token(id) for id in sorted(tokenizer.special_ids)):
        if name and name in prompt:
            return f"{name} in the prompt is taken as text; --tag {shlex.quote(name)} puts the special token ahead"
    return None


def _read(file: str | None, stdin: IO[str]) -> str:
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


class Context(NamedTuple):
    """What of a net's context a prompt takes.

    Args:
        size: tokens that the net was trained to look back on.
        read: tokens of the prompt.
    """

    size: int
    read: int

    def line(self, written: int) -> str | None:
        """Return the line for whoever gets a text that went past the context, after the longest text's tokens."""
        if self.read > self.size:
            return f"the prompt has {self.read} tokens, the context of the net {self.size}: it was not trained on more"
        # the last token that is written has no need of a place: nothing is written from it
        if self.read + written - 1 > self.size:
            half = max(1, self.size // 2)
            return f"the text went past the net's context of {self.size} tokens, and on from the last {half} of them"
        return None


def show(steps: Any, prompt: str, samples: int, out: IO[str], err: IO[str], context: Context | None = None) -> None:
    """Print the texts as they come: the first as it is written, the others, written beside it, each in its turn.

    Args:
        steps: of `TextGenerator.stream_batch`: one piece of each text a step, None once it has ended.
        prompt: printed ahead of each text.
        samples: how many texts there are.
        context: of the net; what goes past it is told at the end, once.
    """
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows ? and the text goes on
    waiting = [""] * samples
    turn, tokens, longest, start = 0, 0, 0, time.perf_counter()

    def head(number: int) -> str:
        title = "" if samples == 1 else f"--- sample {number + 1} of {samples} ---\n"
        return title + prompt

    out.write(head(0))
    out.flush()
    try:
        for step in steps:
            tokens += sum(piece is not None for piece in step)
            longest += 1
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
            told = [context.line(longest)] if context is not None else []
            told.append(f"{tokens} tokens in {seconds:.2f} s, {tokens / max(seconds, 1e-9):.1f} tokens/s")
            if isinstance(stop := sys.exception(), signals.Stopped):
                stop.left = "; ".join(filter(None, told))  # in its own line
            else:
                err.writelines(f"{line}\n" for line in told if line)
