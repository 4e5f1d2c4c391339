"""Figures of what a prepared text is made of, in files and for TensorBoard."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_gpt.errors import UserError

if TYPE_CHECKING:
    from lit_gpt.data.corpus.statistics import Statistics
    from lit_gpt.data.tokenizers.tokenizer import Tokenizer

_INCHES = (6.4, 4.4)
_POINTS = 2000  # of a curve; more are not seen


def figures(found: dict[str, "Statistics"], tokenizer: "Tokenizer", top: int) -> dict[str, Any]:
    """What can be drawn, by title: each takes matplotlib's axes."""
    made: dict[str, Any] = {
        "token frequency": lambda axes: _zipf(axes, found),
        "lengths of documents": lambda axes: _lengths(axes, found),
        "most common tokens": lambda axes: _common(axes, next(iter(found.values())), tokenizer, top),
    }
    if any(one.overlap for one in found.values()):
        made["held-out texts in the training text"] = lambda axes: _overlap(axes, found)
    return made


def save(figures: dict[str, Any], file: Path) -> None:
    """Writes all figures side by side into one file.

    Raises:
        UserError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = 2
    down = -(-len(figures) // across)
    figure = Figure(figsize=(_INCHES[0] * across, _INCHES[1] * down), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, draw) in enumerate(figures.items(), start=1):
        axes = figure.add_subplot(down, across, number)
        axes.set_title(title)
        draw(axes)
    try:
        figure.savefig(file, dpi=120)
    except OSError as error:
        raise UserError(f"--plot {file} cannot be written ({error.strerror}); give another file") from None


def log(figures: dict[str, Any], found: dict[str, "Statistics"], tables: dict[str, str], folder: str) -> None:
    """Writes figures, histograms and tables for TensorBoard.

    Raises:
        UserError: the folder cannot be written.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import SummaryWriter

    try:
        writer = SummaryWriter(folder)
    except OSError as error:
        raise UserError(f"--tensorboard {folder} cannot be written ({error.strerror}); give another folder") from None
    with writer:
        for title, draw in figures.items():
            figure = Figure(figsize=_INCHES, layout="constrained")
            draw(figure.add_subplot())
            writer.add_figure(f"stats/{title}", figure, close=False)
        for title, table in tables.items():
            writer.add_text(f"stats/{title}", table)
        for split, one in found.items():
            if not len(one.lengths):
                continue
            # Counted already: of a large text the single lengths and tokens would not fit into memory.
            edges = np.unique(np.geomspace(1, int(one.lengths[-1]) + 1, 60).round())
            for name, values, times in (
                ("lengths of documents", one.lengths, one.times),
                ("ids", np.arange(len(one.counts)), one.counts),
            ):
                limits = edges if name != "ids" else np.linspace(0, len(values), 61)
                sums = np.histogram(values, limits, weights=times)[0]
                writer.add_histogram_raw(
                    f"stats/{name}/{split}", min=float(values[0]), max=float(values[-1]), num=int(times.sum()),
                    sum=float(values @ times), sum_squares=float((values.astype(float) ** 2) @ times),
                    bucket_limits=limits[1:].tolist(), bucket_counts=sums.tolist(),
                )  # fmt: skip


def _zipf(axes: Any, found: dict[str, "Statistics"]) -> None:
    import numpy as np

    for split, one in found.items():
        ranked = one.ranked
        if len(ranked):
            ranks = np.unique(np.geomspace(1, len(ranked), _POINTS).astype(int))
            axes.loglog(ranks, ranked[ranks - 1] / one.tokens, label=split, marker="." if len(ranked) < 50 else None)
    axes.set(xlabel="rank of the id", ylabel="share of the tokens")
    axes.grid(alpha=0.3)
    axes.legend()


def _lengths(axes: Any, found: dict[str, "Statistics"]) -> None:
    import numpy as np

    known = [one.lengths for one in found.values() if len(one.lengths)]
    shortest, longest = min(int(one[0]) for one in known), max(int(one[-1]) for one in known)
    edges = np.unique(np.geomspace(max(shortest, 1), longest + 1, 50).round())
    for split, one in found.items():
        if len(one.lengths):
            many = np.histogram(one.lengths, edges, weights=one.times)[0]
            axes.stairs(many / one.documents, edges, label=f"{split}: {one.documents:,}", fill=False)
    axes.set(xscale="log", xlabel="tokens of a document", ylabel="share of the documents")
    axes.legend()


def _common(axes: Any, one: "Statistics", tokenizer: "Tokenizer", top: int) -> None:
    import numpy as np

    ids = np.argsort(-one.counts, kind="stable")[:top]
    ids = ids[one.counts[ids] > 0]
    names = [_drawable(tokenizer, int(id)) for id in ids]
    axes.barh(range(len(ids)), one.counts[ids] / max(one.tokens, 1))
    axes.set_yticks(range(len(ids)), names, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel="share of the tokens")


def _drawable(tokenizer: "Tokenizer", id: int) -> str:
    """A token's text, or its id where the font lacks a character of it."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    from lit_gpt.data.tokenizers.display import display_token

    shown = display_token(tokenizer, id)
    font = get_font(findfont(FontProperties()))
    return shown if all(font.get_char_index(ord(character)) for character in shown) else f"id {id}"


def _overlap(axes: Any, found: dict[str, "Statistics"]) -> None:
    over = {split: one.overlap for split, one in found.items() if one.overlap}
    size = next(iter(over.values())).ngram
    kinds = {
        f"stretches of {size} tokens": [one.shared / max(one.ngrams, 1) for one in over.values()],
        "whole documents": [one.shared_documents / max(one.documents, 1) for one in over.values()],
    }
    for number, (kind, shares) in enumerate(kinds.items()):
        bars = axes.barh([place + 0.4 * number for place in range(len(over))], shares, height=0.35, label=kind)
        axes.bar_label(bars, [f"{share:.2%}" for share in shares], padding=3)
    axes.set_yticks([place + 0.2 for place in range(len(over))], list(over))
    axes.set(xlabel="share that is in the training text too", xlim=(0, 1.1))
    axes.legend()
