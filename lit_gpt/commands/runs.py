"""List the runs of a folder: state, steps, tokens, loss, when, command."""

from pathlib import Path

from lit_gpt.commands.parser import Parser
from lit_gpt.errors import UserError
from lit_gpt.train import run_folder

_COLUMNS = ("name", "state", "step", "tokens", "val_loss", "perplexity", "started", "command")


def row(folder: Path) -> dict[str, str]:
    """What the list says of one run directory; a dash where the run has not said it."""
    facts, metrics = run_folder.read_facts(folder), run_folder.last_metrics(folder)
    # A run that was stopped was past its last log.
    ended = {"step": facts.get("steps"), "tokens": facts.get("tokens")}
    metrics |= {name: str(value) for name, value in ended.items() if value is not None}

    def number(key: str, spec: str) -> str:
        try:
            return format(float(metrics[key]), spec)
        except (KeyError, ValueError):
            return "-"

    return {
        "name": folder.name,
        "state": run_folder.state(folder),
        "step": number("step", ",.0f"),
        "tokens": number("tokens", ",.0f"),
        "val_loss": number("val_loss", ".4f"),
        "perplexity": number("val_perplexity", ".2f"),
        "started": str(facts.get("started", "-"))[:16].replace("T", " "),
        "command": " ".join(str(facts.get("command", "-")).split()),
    }


def main(argv: list[str]) -> int:
    """Prints one line per run, oldest first."""
    parser = Parser(prog="lit-gpt runs", description=__doc__)
    parser.add_argument("folder", nargs="?", default="runs", help="where the run directories lie (default: runs)")
    folder = Path(parser.parse_args(argv).folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; `lit-gpt fit` makes runs/, or name the one you gave it")
    rows = [row(one) for one in run_folder.runs(folder)]
    if not rows:
        print(f"no runs in {folder}")
        return 0
    table = [dict(zip(_COLUMNS, _COLUMNS, strict=True)), *rows]
    sizes = {name: max(len(line[name]) for line in table) for name in _COLUMNS}
    for line in table:
        cells = (
            f"{line[name]:>{sizes[name]}}"
            if name in ("step", "tokens", "val_loss", "perplexity")
            else f"{line[name]:<{sizes[name]}}"
            for name in _COLUMNS
        )
        print("  ".join(cells).rstrip())
    return 0
