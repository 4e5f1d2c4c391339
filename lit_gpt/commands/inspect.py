"""Show what a run or checkpoint is made of and what it costs: components, parameters, FLOPs, memory.

Every number comes from `lit_gpt.cost`; no weight is read.
"""

import json
import shlex
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_gpt.commands.parser import Parser
from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from rich.text import Text

    from lit_gpt.commands.anatomy import Part
    from lit_gpt.model import GPT

NOTES = """example:
  lit-gpt inspect runs/quickstart
  lit-gpt inspect runs/quickstart --context 1024 --batch_size 32
  lit-gpt inspect runs/quickstart --json

keys of --json; numbers of memory are bytes:
  path step dtype file_bytes  which checkpoint it is
  tokenizer                   kind, vocab_size; null where there is none
  net                         components: name, kind, options, parameters of one, copies, layers, parts (a list of such)
  parameters                  parameters, trainable, matrices, embeddings, active (those that one token meets)
  parts                       the same for embedding, positions, attention, feed-forward, norms, head, other
  context batch_size precision  what the rest is counted at: the run's, else the net's, 1, that of the weights
  flops_per_token             forward, training: matrix products, attention over the whole window
  training_memory             weights, gradients, optimizer, activations, logits, total
  generation_memory           weights, per_token (cache of one token), cache (of one whole sequence), total
  checkpoint_bytes            of one with Adam's two moments
  device training_tokens_per_second   this machine, and what it may reach: 40 % of its peak"""


@dataclass
class Subject:
    """What is looked at: a net, on the meta device, and what is known of it."""

    net: "GPT"
    path: str
    step: int | None = None
    tokenizer: dict[str, Any] | None = None
    file_bytes: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)  # of the run: data.context, data.batch_size and so on
    next: tuple[str, ...] = ()  # commands to type next


def net_of(path: str) -> Subject:
    """What a path means: a run directory, a checkpoint, or a folder of the Hugging Face world.

    Raises:
        UserError: there is none, or it is not readable.
    """
    from lit_gpt import checkpoint
    from lit_gpt.config.class_paths import needed_trust

    if (Path(path) / "config.json").is_file():
        return _of_folder(path)
    saved = checkpoint.read(path, verify=False)
    file = saved.path
    net = checkpoint.build_net(saved.net_config(), file, device="meta")
    weight = saved.state_dict.get("net.embedding.weight")
    if weight is None:
        raise UserError(f"{file} holds no net of lit_gpt: it has no net.embedding.weight; give a .ckpt of a run")
    net.to(weight.dtype).tie_head()
    config = saved.config or {}
    own = needed_trust([config.get("model"), config.get("data")])
    trust = f"LIT_GPT_TRUST={','.join(own)} " if own else ""
    following = (f'generate {shlex.quote(path)} --prompt "..."', f"export {shlex.quote(path)} --out exported")
    return Subject(
        net, str(file), saved.step, _tokenizer(saved.tokenizer, file), file.stat().st_size, config,
        tuple(f"{trust}lit-gpt {words}" for words in following),
    )  # fmt: skip


def _of_folder(path: str) -> Subject:
    """The net that a folder's config.json describes; its weights need not be there."""
    from lit_gpt.hub.folder import Tensors
    from lit_gpt.hub.importer import read_model

    source, size = read_model(path), 0
    if any(source.folder.glob("*.safetensors")):
        tensors = Tensors(source.folder)
        source.net.to(tensors.widest).tie_head()
        size = tensors.bytes
    where = f"{path} ({source.family.architecture})"
    following = (f"lit-gpt import {shlex.quote(path)} --out runs/{shlex.quote(source.folder.resolve().name)}",)
    return Subject(source.net, where, None, None, size, {}, following)


def _tokenizer(state: dict[str, Any] | None, file: Path) -> dict[str, Any] | None:
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

    if not state:
        return None
    tokenizer = Tokenizer.restore(state, file=file)
    return {"kind": type(tokenizer).__name__, "vocab_size": tokenizer.vocab_size}


def parser() -> Parser:
    """The parser of `lit-gpt inspect`."""
    made = Parser(
        prog="lit-gpt inspect",
        description=__doc__.partition("\n")[0],
        epilog=NOTES,
    )
    add = made.add_argument
    add("run", help="run directory (its best checkpoint is taken, else its last), .ckpt file or Hugging Face folder")
    add("--context", type=int, metavar="N", help="tokens of a window to count at (default: the run's, else the net's)")
    add("--batch_size", type=int, metavar="N", help="windows of a micro-batch in training (default: the run's, else 1)")
    add("--all", action="store_true", help="show each layer by itself, not equal ones together")
    add("--json", action="store_true", help="print one JSON object and nothing else; its keys stand below")
    return made


def main(argv: list[str]) -> int:
    """Runs the command."""
    arguments = parser().parse_args(argv)
    for name in ("context", "batch_size"):
        given = getattr(arguments, name)
        if given is not None and given < 1:
            raise UserError(f"--{name} is {given}; give at least 1")
    # torch takes a second to import: after the arguments are known to be right
    from lit_gpt.commands.anatomy import anatomy

    subject = net_of(arguments.run)
    data = subject.settings.get("data") or {}
    context = arguments.context or data.get("context") or subject.net.context
    longest = subject.net.longest
    if longest is not None and context > longest:
        raise UserError(f"--context is {context}, but the net's positions end at {longest}; give at most {longest}")
    tree = anatomy(subject.net, fold=not arguments.all)
    found = numbers(subject, context, arguments.batch_size or data.get("batch_size") or 1)
    if arguments.json:
        print(json.dumps({**about(subject), "net": tree.data(), **found}, indent=1))
    else:
        show(subject, tree, found)
        print("\n  ".join(("next:", *subject.next)))
    return 0


def about(subject: Subject) -> dict[str, Any]:
    """Which checkpoint it is."""
    dtype = str(subject.net.embedding.weight.dtype).removeprefix("torch.")
    facts = {"path": subject.path, "step": subject.step, "dtype": dtype, "file_bytes": subject.file_bytes}
    return facts | {"tokenizer": subject.tokenizer}


def numbers(subject: Subject, context: int, batch_size: int) -> dict[str, Any]:
    """What the net costs, as `cost` counts it for the table before a run and for the throughput in its logs."""
    import torch

    from lit_gpt import cost

    net = subject.net
    whole = {torch.float16: "16-true", torch.bfloat16: "bf16-true", torch.float64: "64-true"}
    usual = whole.get(net.embedding.weight.dtype, "32-true")
    precision = str((subject.settings.get("trainer") or {}).get("precision") or usual)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    training = cost.training_memory(net, batch_size, context, 2 if "16" in precision else 4, device)
    generation = cost.generation_memory(net, 1, context)
    return {
        "parameters": asdict(cost.count(net)),
        "parts": {name: asdict(one) for name, one in cost.parts(net).items()},
        "context": context,
        "batch_size": batch_size,
        "precision": precision,
        "flops_per_token": {
            "forward": cost.flops_per_token(net, context, training=False),
            "training": cost.flops_per_token(net, context),
        },
        "training_memory": asdict(training) | {"total": training.total},
        "generation_memory": asdict(generation) | {"total": generation.total},
        "checkpoint_bytes": cost.checkpoint_bytes(net),
        "device": device,
        "training_tokens_per_second": 1 / cost.forecast_seconds(net, 1, device, precision, context),
    }


def show(subject: Subject, tree: "Part", found: dict[str, Any]) -> None:
    """Prints the title, the tree of components and the two tables."""
    facts = about(subject)
    words = [f"step {facts['step']:,}"] if facts["step"] is not None else []
    if facts["tokenizer"]:
        words.append(f"{facts['tokenizer']['kind']} tokenizer of {facts['tokenizer']['vocab_size']:,} tokens")
    words += [f"vocabulary {subject.net.vocab_size:,}", facts["dtype"]]
    print(f"{subject.path}: {', '.join(words)}\n")
    for shown in (_branches(tree, tree.parameters), _parts_table(found), _costs_table(found, subject)):
        print(_drawn(shown))


def _drawn(shown: Any) -> str:
    """What rich makes of it, as wide as the terminal; a file's lines are not torn at an edge that it has not."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 200)
    with console.capture() as captured:
        console.print(shown)
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _branches(part: "Part", total: int, copies: int = 1, branch: Any = None) -> Any:
    """The tree that rich prints."""
    from rich.tree import Tree

    copies *= part.copies
    label = _label(part, total, copies)
    branch = Tree(label) if branch is None else branch.add(label)
    for one in part.parts:
        _branches(one, total, copies, branch)
    return branch


def _label(part: "Part", total: int, copies: int) -> "Text":
    """One line of the tree: `attention: SelfAttention, heads 4   4 x 65,536 (32.7%)`."""
    from rich.text import Text

    from lit_gpt.commands.anatomy import spans

    name = part.name if not part.layers or part.name == "blocks" else f"{part.name} of blocks"
    if part.layers:
        name = f"{name} {spans(part.layers)}" if len(part.layers) > 1 else f"{name.rstrip('s')} {part.layers[0]}"
    text = Text(f"{name}: {part.kind}")
    for option, value in part.options.items():
        text.append(f", {option}" if value is True else f", {option} {_shown(value)}")
    if part.parameters:
        times = f"{copies} x " if copies > 1 else ""
        share = f" ({copies * part.parameters / total:.1%})" if part.name != "net" else " parameters"
        text.append(f"  {times}{part.parameters:,}{share}", style="dim")
    return text


def _shown(value: Any) -> str:
    if isinstance(value, list) and len(value) > 4:
        return f"[{len(value)} numbers]"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _parts_table(found: dict[str, Any]) -> Any:
    """Parameters by part; columns of those trained and met by one token only where they are fewer."""
    from rich.table import Table

    whole = found["parameters"]
    columns = ["parameters", *(name for name in ("trainable", "active") if whole[name] < whole["parameters"])]
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in columns:
        table.add_column(name, justify="right")
    table.add_column("share", justify="right")
    for name, one in [*found["parts"].items(), ("total", whole)]:
        share = one["parameters"] / whole["parameters"]
        table.add_row(name, *(f"{one[column]:,}" for column in columns), f"{share:.1%}")
    return table


def _costs_table(found: dict[str, Any], subject: Subject) -> Any:
    """What one token, training, generation and a checkpoint take."""
    from rich.table import Table

    from lit_gpt.cost import USUAL_UTILIZATION as usual
    from lit_gpt.cost import size

    table = Table(show_header=False, box=None, pad_edge=False)
    flops, training, generation = (found[k] for k in ("flops_per_token", "training_memory", "generation_memory"))
    context, batch_size, speed = (found[k] for k in ("context", "batch_size", "training_tokens_per_second"))
    stored = f", this one {size(subject.file_bytes)}" if subject.file_bytes else ""
    needs = ", ".join(f"{name} {size(value)}" for name, value in training.items() if name != "total")
    for name, value in (
        ("FLOPs", f"{_engineering(flops['forward'])} a token forward, {_engineering(flops['training'])} in training"),
        ("", f"at {context:,} tokens of context, matrix products alone"),
        ("training", f"{size(training['total'])} at {batch_size:,} x {context:,} tokens, {found['precision']}, Adam"),
        ("", needs),
        ("generation", f"{size(generation['total'])} for one sequence of {context:,} tokens"),
        ("", f"weights {size(generation['weights'])}, cache {size(generation['cache'])}, "
             f"{size(generation['per_token'])} of it a token"),
        ("checkpoint", f"{size(found['checkpoint_bytes'])} with Adam's moments{stored}"),
        ("speed", f"about {_engineering(speed)}tokens/s in training on {found['device']}, at {usual:.0%} of its peak"),
    ):  # fmt: skip
        table.add_row(name, value)
    return table


def _engineering(count: float) -> str:
    """A number with the prefix that suits it, e.g. `4.9 M`."""
    for prefix in ("", "k", "M", "G", "T"):
        if count < 1000:
            return f"{count:.3g} {prefix}"
        count /= 1000
    return f"{count:.3g} P"
