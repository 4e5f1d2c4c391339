"""Generate text from a run or checkpoint, streaming: `lit-gpt generate`."""

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
_RECORD = """'{"source": "..."}'"""
EXAMPLE = """example:
  lit-gpt generate runs/quickstart --prompt "def main(" --max_new_tokens 100 --temperature 0.8 --top_k 50 --seed 1
  lit-gpt generate runs/quickstart --prompt_file draft.txt --stop $'\\n\\n' > continuation.txt
  lit-gpt generate runs/translator --record '{"source": "Good morning"}' --temperature 0
  lit-gpt generate runs/assistant --chat "What is a prime number?"
  lit-gpt generate runs/bilingual --tag '<|zh|>'

A record is formatted as in training (data.format); its text never becomes a special token.
Prompt and generated text go to standard output, the summary to standard error."""


def parser() -> Parser:
    """Return the parser of `lit-gpt generate`."""
    made = Parser(
        prog="lit-gpt generate",
        description="Generate text from a run or checkpoint, streaming.",
        epilog=EXAMPLE,
    )
    add = made.add_argument
    add("run", help="run directory (its best checkpoint is taken, else its last) or .ckpt file")
    text = made.add_mutually_exclusive_group()
    text.add_argument("--prompt", metavar="TEXT", help="text prompt; - reads standard input (default: empty)")
    text.add_argument("--prompt_file", metavar="FILE", help="UTF-8 file with the text prompt")
    text.add_argument(
        "--record", metavar="JSON",
        help="record without its answer, for a run trained on records; - reads standard input",
    )  # fmt: skip
    text.add_argument("--chat", metavar="TEXT", help="message of a user, for a run trained on conversations")
    add(
        "--chat_template", metavar="TEMPLATE",
        help="name of one of the model's chat templates, .jinja file or folder (default: as trained, else the model's)",
    )  # fmt: skip
    add(
        "--template_variables", metavar="MAPPING",
        help="variables of the chat template, as JSON or YAML: '{enable_thinking: false}'",
    )  # fmt: skip
    add(
        "--tag", action="append", default=[], metavar="TOKEN",
        help="special token before the prompt, such as <|en|> of a Mixture with tags; repeatable",
    )  # fmt: skip
    add("--max_new_tokens", type=int, default=200, metavar="N", help="most tokens to generate (default: 200)")
    add("--temperature", type=float, default=0.8, metavar="X", help="0 for greedy decoding (default: 0.8)")
    add("--top_k", type=int, metavar="K", help="sample from the K most likely tokens")
    add("--top_p", type=float, metavar="P", help="nucleus sampling: most likely tokens whose probabilities sum to P")
    add("--min_p", type=float, metavar="P", help="sample from tokens at least P times as likely as the most likely")
    add(
        "--repetition_penalty", type=float, default=1.0, metavar="X", help="1 is off, above 1 repeats less (default: 1)"
    )
    add("--seed", type=int, metavar="N", help="random seed (default: a fresh one)")
    add("--stop", action="append", default=[], metavar="TEXT", help="stop string, not part of the output; repeatable")
    add("--samples", type=int, default=1, metavar="N", help="number of texts from the same prompt (default: 1)")
    add("--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1, mps, or auto for a GPU if there is one")
    add(
        "--echo", action=argparse.BooleanOptionalAction,
        help="print the prompt before the text (default: yes, but not with --record and --chat)",
    )  # fmt: skip
    return made


def main(argv: list[str]) -> int:
    """Run the command; return its exit code."""
    arguments = parser().parse_args(argv)
    if arguments.samples < 1:
        raise UserError(f"--samples is {arguments.samples}; give at least 1")
    has_record = arguments.record is not None or arguments.chat is not None
    content = read_record(arguments.record, sys.stdin) if arguments.record is not None else arguments.chat
    if not has_record and (arguments.chat_template is not None or arguments.template_variables is not None):
        raise UserError("--chat_template and --template_variables need a conversation; give --chat or --record")
    variables = read_variables(arguments.template_variables)
    text = "" if has_record else read_prompt(arguments.prompt, arguments.prompt_file, sys.stdin)
    # importing torch takes a second: only after the arguments are checked
    from lit_gpt.checkpoint import load, load_format
    from lit_gpt.data.formats.chat import Chat
    from lit_gpt.generate.text_generator import TextGenerator

    net, tokenizer = load(arguments.run, device=find_device(arguments.device))
    format, prompt = load_format(arguments.run, tokenizer), text
    if has_record:
        format, record = format_and_record(format, tokenizer, content, arguments.run, arguments.chat_template)
        if variables and not isinstance(format, Chat):
            kind = type(format).__name__
            raise UserError(f"--template_variables need a conversation, and the run was trained on {kind}")
        format = format.with_variables(variables) if variables else format
        text = "".join(segment.text for segment in format.question(record))
    else:
        for line in filter(None, (format_hint(format), special_token_hint(tokenizer, prompt))):
            print(line, file=sys.stderr)
    generator = TextGenerator(net, tokenizer, format)
    ids = generator.question(record) if has_record else generator.encode(prompt)
    if arguments.tag:
        empty = not has_record and not prompt and not tokenizer.starts_with_bos
        ids = with_tags([] if empty else ids, arguments.tag, tokenizer)
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
    echo = arguments.echo if arguments.echo is not None else not has_record
    show(steps, text if echo else "", arguments.samples, sys.stdout, sys.stderr, Context(net.context, len(ids)))
    return 0


def read_prompt(prompt: str | None, file: str | None, stdin: IO[str]) -> str:
    """Return the text prompt from the argument, a file or standard input."""
    if file is None and prompt != "-":
        return prompt or ""
    return _read(file, stdin)


def read_record(typed: str, stdin: IO[str]) -> dict[str, Any]:
    """Return the record from the command line or standard input."""
    try:
        record = parse_json(_read(None, stdin) if typed == "-" else typed)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"--record is not JSON: {error}; give one such as {_RECORD}") from None
    if not isinstance(record, dict):
        raise UserError(f"--record is not a JSON object; give one such as {_RECORD}")
    return record


def read_variables(typed: str | None) -> dict[str, Any]:
    """Return the variables of the chat template from JSON or YAML."""
    if typed is None:
        return {}
    import yaml

    try:
        variables = yaml.safe_load(typed)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--template_variables is neither JSON nor YAML: {reason}; give {_VARIABLES}") from None
    if not isinstance(variables, dict) or not all(isinstance(name, str) for name in variables):
        raise UserError(f"--template_variables is not a mapping of names to values; give one such as {_VARIABLES}")
    return variables


def format_and_record(
    format: Any, tokenizer: Any, content: str | dict[str, Any], run: str, template: str | None = None
) -> tuple[Any, dict[str, Any]]:
    """Return the format that makes the prompt, and the record; an imported model uses its own chat template.

    Args:
        format: Of the run.
        tokenizer: Of the run.
        content: A record, or the message of a user.
        run: Name of the run, for errors.
        template: Chat template that replaces the one of the run.
    """
    from lit_gpt.data.formats.chat import Chat
    from lit_gpt.data.formats.jinja_template import Jinja

    is_chat = isinstance(content, str) or {"messages", "conversations"} & content.keys()
    if template is not None:
        field = format.field if isinstance(format, Chat) else "messages"
        format = Chat(field, Jinja(template)).for_tokenizer(tokenizer)
    elif format.example is None and is_chat and tokenizer.chat_templates:
        format = Chat(template=Jinja()).for_tokenizer(tokenizer)
    if format.example is None:
        raise UserError(f"{run} was trained on plain text, which asks for no answer; give --prompt")
    if isinstance(content, dict):
        return format, content
    if not isinstance(format, Chat):
        kind, record = type(format).__name__, json.dumps(format.example)
        raise UserError(f"{run} was trained on records of {kind}, not on conversations; give --record '{record}'")
    return format, {format.field: [{"role": "user", "content": content}]}


def prompt_option(format: Any) -> str:
    """Return the option of `lit-gpt generate` with a prompt for a run that was trained on this format."""
    from lit_gpt.data.formats.chat import Chat

    if format.example is None:
        return '--prompt "..."'
    return '--chat "..."' if isinstance(format, Chat) else f"--record {shlex.quote(json.dumps(format.example))}"


def format_hint(format: Any) -> str | None:
    """Return a hint where a text prompt is given to a run that was trained on questions with answers."""
    from lit_gpt.data.formats.chat import Chat
    from lit_gpt.data.formats.records import Answered

    if not isinstance(format, (Answered, Chat)):
        return None
    kind, option = type(format).__name__, prompt_option(format)
    return f"trained on records of {kind}: the prompt is used as plain text; {option} formats it as in training"


def with_tags(ids: list[int], names: list[str], tokenizer: Any) -> list[int]:
    """Return the ids with special tokens at the start, after BOS, as documents of a source with a tag have them.

    Raises:
        UserError: A name is not a special token.
    """
    special = {tokenizer.token(id): id for id in sorted(tokenizer.special_ids)}
    for name in names:
        if name not in special:
            raise UserError(f"--tag {name!r} is no special token of this run; it has {', '.join(special) or 'none'}")
    start = 1 if tokenizer.bos is not None and ids[:1] == [tokenizer.bos] else 0
    return [*ids[:start], *(special[name] for name in names), *ids[start:]]


def special_token_hint(tokenizer: Any, prompt: str) -> str | None:
    """Return a hint where a prompt spells a special token, which is encoded as plain text."""
    for name in (tokenizer.token(id) for id in sorted(tokenizer.special_ids)):
        if name and name in prompt:
            return f"{name} in the prompt is plain text; --tag {shlex.quote(name)} puts the special token before it"
    return None


def _read(file: str | None, stdin: IO[str]) -> str:
    where = "standard input" if file is None else file
    # as bytes, to keep line ends and to ignore the locale
    try:
        content = stdin.buffer.read() if file is None else Path(file).read_bytes()  # type: ignore[attr-defined]
    except OSError as error:
        raise UserError(f"the prompt cannot be read: {where}: {error.strerror}; give a UTF-8 file") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where} is not UTF-8 at byte {error.start}; convert it to UTF-8") from None


def find_device(name: str) -> Any:
    """Return the torch device of this name; `auto` is a GPU if there is one.

    Raises:
        UserError: The device does not exist.
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
    """Context of a net and the length of a prompt, in tokens."""

    size: int
    prompt: int

    def warning(self, generated: int) -> str | None:
        """Return a warning where prompt and generated tokens exceed the context."""
        if self.prompt > self.size:
            return f"the prompt has {self.prompt} tokens, the context of the net {self.size}: it was trained on no more"
        if self.prompt + generated - 1 > self.size:  # the last generated token is not fed back
            half = max(1, self.size // 2)
            return f"the text outgrew the context of {self.size} tokens; it continued from the last {half} of them"
        return None


def show(steps: Any, prompt: str, samples: int, out: IO[str], err: IO[str], context: Context | None = None) -> None:
    """Stream the first text; print the others, generated in the same batch, after it.

    Args:
        steps: Of `TextGenerator.stream_batch`: one piece of each text a step, None once it has ended.
        prompt: Printed before each text.
        samples: Number of texts.
        context: For a warning where a text exceeds it.
    """
    if hasattr(out, "reconfigure"):
        out.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows ?
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
        # also after Ctrl-C, so that the shell's prompt is on a new line
        if not isinstance(sys.exception(), BrokenPipeError):
            seconds = time.perf_counter() - start
            out.write("\n")
            out.flush()
            told = [context.warning(longest)] if context is not None else []
            told.append(f"{tokens} tokens in {seconds:.2f} s, {tokens / max(seconds, 1e-9):.1f} tokens/s")
            if isinstance(stop := sys.exception(), signals.Stopped):
                stop.left = "; ".join(filter(None, told))  # printed in its line
            else:
                err.writelines(f"{line}\n" for line in told if line)
