"""The Zipf figure of `lit-gpt tokenizer stats`: token frequencies by rank."""

from pathlib import Path

import numpy as np

from lit_gpt.errors import UserError

_POINTS = 2000  # of a curve; more are not seen


def draw(frequencies: dict[str, np.ndarray], file: Path) -> None:
    """Writes one curve for each text: share of its tokens against rank, both axes logarithmic.

    Args:
        frequencies: How often each id occurs, by the text's name.
        file: .png, .svg or .pdf.

    Raises:
        UserError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, counts in frequencies.items():
        curve = np.sort(counts[counts > 0])[::-1] / max(counts.sum(), 1)
        at = np.unique(np.geomspace(1, max(len(curve), 1), _POINTS).astype(int)) - 1
        at = at[at < len(curve)]
        axes.plot(at + 1, curve[at], label=name)
    axes.set(xscale="log", yscale="log", xlabel="rank of the token", ylabel="share of all tokens")
    axes.legend()
    try:
        figure.savefig(file, dpi=120)
    except OSError as error:
        raise UserError(f"--plot {file} cannot be written ({error.strerror}); give another file") from None
