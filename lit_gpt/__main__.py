"""Entry point of `lit-gpt COMMAND ...`: dispatches commands and prints errors.

A command's module is imported only when it is run, so that `lit-gpt --help` needs nothing heavy.
"""

import ast
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from lit_gpt import signals
from lit_gpt.errors import UserError

_LOST = re.compile(r"DataLoader worker \(pid\D*(\d+)")  # as torch says it, wherever the signal meets the program
_TOO_MUCH = re.compile(r"[Tt]ried to allocate [\d.]+ ?\w+")  # of a CPU and of a GPU
FIRST = ("fit", "validate", "test", "generate")  # the order of the table; the rest follows by name
MISTAKE = 2
WHAT_WOULD_DO = {
    FileNotFoundError: "; check the path",
    PermissionError: "; change its permissions, or run as a user who may",
}


def commands() -> dict[str, str]:
    """Each command and its help line: the first line of its module's docstring, read without importing it."""
    table = {}
    for file in sorted((Path(__file__).parent / "commands").glob("[!_]*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        if any(isinstance(part, ast.FunctionDef) and part.name == "main" for part in tree.body):
            table[file.stem.removesuffix("_")] = (ast.get_docstring(tree) or "").partition("\n")[0].strip()
    return {name: table[name] for name in (*FIRST, *table) if name in table}


def usage() -> str:
    """What `lit-gpt --help` prints."""
    table = commands()
    size = max(map(len, table)) + 2
    lines = ["usage: lit-gpt COMMAND ...", "", "Train, compare, fine-tune, inspect and sample GPTs.", ""]
    lines += [f"  {name:<{size}}{line}" for name, line in table.items()]
    lines += [
        "",
        "lit-gpt COMMAND --help        options of a command",
        "lit-gpt fit --config FILE     train what a YAML file describes; see configs/",
    ]
    return "\n".join(lines)


def find(name: str) -> Callable[[list[str]], int]:
    """The `main` of a command, or UserError naming the nearest command."""
    table = commands()
    if name not in table:
        import difflib

        near = difflib.get_close_matches(name, table, 1, 0.5)
        raise UserError(f"no command {name!r}" + (f"; did you mean {near[0]!r}?" if near else "; see lit-gpt --help"))
    folder = Path(__file__).parent / "commands"
    module = name if (folder / f"{name}.py").exists() else f"{name}_"
    run: Callable[[list[str]], int] = import_module(f"lit_gpt.commands.{module}").main
    return run


def is_mistake(error: BaseException) -> bool:
    """Whether the user can fix an error: it is told in one line, without a traceback."""
    kinds: tuple[type[BaseException], ...] = (UserError, OSError)
    lightning = sys.modules.get("lightning.pytorch.utilities.exceptions")
    if lightning is not None:  # e.g. "accelerator: gpu" where there is none
        kinds += (lightning.MisconfigurationException,)
    if _wanted_memory(error) or _lost(error):
        return True
    return isinstance(error, kinds) and not isinstance(error, BrokenPipeError)


def _wanted_memory(error: BaseException) -> str | None:
    """What the device would not give, in torch's words."""
    said = _TOO_MUCH.search(str(error)) if isinstance(error, RuntimeError) else None
    return said[0] if said else None


def _lost(error: BaseException) -> str | None:
    """The number of a process that read batches ahead and was killed."""
    said = _LOST.match(str(error)) if isinstance(error, RuntimeError) else None
    return said[1] if said else None


def one_line(error: BaseException) -> str:
    """An error's text without line breaks."""
    if wanted := _wanted_memory(error):
        return f"out of memory ({wanted}); lower data.batch_size or data.context, or take a smaller net"
    if pid := _lost(error):
        from lit_gpt.data.samplers.loading import lost_worker

        return lost_worker(pid)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'file'}: {error.strerror}{WHAT_WOULD_DO.get(type(error), '')}"
    return " ".join(str(error).split()) or type(error).__name__


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns the exit code: 0 done, 2 the user's mistake, 130 or 143 stopped by a signal, what the
    command says otherwise."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        from importlib.metadata import version

        print("lit-gpt", version("lit-gpt"))
        return 0
    if "" not in sys.path:
        sys.path.append("")  # a user's own modules, from the current folder, as `python -m lit_gpt` finds them
    with signals.handled():
        try:
            return _run(argv)
        except signals.Stopped as error:
            stopped = error
        except KeyboardInterrupt:  # of a library that has asked the system itself
            stopped = signals.stopped_by(signals.received() or signal.SIGINT)
        except BaseException:
            if (signum := signals.received()) is None:
                raise
            stopped = signals.stopped_by(signum)  # the exception of a signal that came out as another one
        return _tell(stopped, stopped.exit_code)


def _run(argv: list[str]) -> int:
    try:
        done = find(argv[0])(argv[1:]) or 0
        signals.check()
        return done
    except BrokenPipeError:  # `lit-gpt generate ... | head`: the reader has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except Exception as error:
        code = getattr(error, "exit_code", MISTAKE if is_mistake(error) else None)
        if code is None or os.environ.get("LIT_GPT_DEBUG"):
            raise
        return _tell(error, int(code))


def _tell(error: BaseException, code: int) -> int:
    """Prints the one line; of several processes of a run the first does so for all where they end together."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    if getattr(error, "reported", True):
        print(f"lit-gpt: {'error: ' if code == MISTAKE else ''}{one_line(error)}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
