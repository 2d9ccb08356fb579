"""Figures, drawn without a display and written with the same bytes for the same data.

Cividis throughout: it reads the same with and without colour vision (Nunez et al. 2018).
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

# Names come from users: a dollar sign in one is no formula.
STYLE: Any = {
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "pdf.fonttype": 42,
    "hatch.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_LEGEND_LINES = 12
_LINES = ("-", "--", "-.", ":")


def heatmap(cells: pd.DataFrame) -> Figure:
    """Mean test accuracy (%) of batch size x epochs, from tables.grid_cells; flagged cells are
    hatched, cells without a result are empty.
    """
    epochs = sorted(cells["epochs"].unique())
    sizes = sorted(cells["batch_size"].unique())
    values = np.full((len(epochs), len(sizes)), np.nan)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.9 + 1.5 * len(sizes), 1.5 + 0.9 * len(epochs)))
        axes = figure.subplots()
        figure.set_layout_engine("constrained")
        texts = []
        for cell in cells.to_dict("records"):
            row, column = epochs.index(cell["epochs"]), sizes.index(cell["batch_size"])
            values[row, column] = 100 * cell["test"]
            n = "" if cell["planned"] == 1 else f"n {cell['n']} of {cell['planned']}"
            number = f"{100 * cell['test']:.2f}" if cell["n"] else ""
            words = [number, n, str(cell["flags"]).replace(", ", "\n")]
            texts.append((row, column, "\n".join(filter(None, words))))
            if cell["flags"]:
                corner = (column - 0.5, row - 0.5)
                axes.add_patch(
                    Rectangle(corner, 1, 1, fill=False, hatch="///", edgecolor="0.6", linewidth=0)
                )
        image = axes.imshow(values, cmap="cividis", aspect="auto")
        low, high = image.get_clim()
        for row, column, text in texts:
            value = values[row, column]
            dark = not math.isnan(value) and value < (low + high) / 2
            ground = "none" if math.isnan(value) else image.cmap(image.norm(value))
            axes.text(
                column,
                row,
                text,
                ha="center",
                va="center",
                fontsize=9,
                color="white" if dark else "black",
                bbox={"facecolor": ground, "edgecolor": "none", "pad": 1.5},
            )
        axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        axes.set_yticks(range(len(epochs)), [str(count) for count in epochs])
        axes.set_xlabel("batch size")
        axes.set_ylabel("epochs")
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, label="mean test accuracy, %")
    return figure


def curves(epochs: pd.DataFrame, labels: Mapping[str, str], flagged: Sequence[str]) -> Figure:
    """Validation accuracy (%) over epochs (from 0), a line a trial of `labels`; a cross ends the
    line of a flagged trial.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.5))
        axes = figure.subplots()
        figure.set_layout_engine("constrained")
        groups = dict(list(epochs.groupby("trial", observed=True)))
        # The map's bright end is left out: it is pale on white paper.
        colours = mpl.colormaps["cividis"](np.linspace(0, 0.8, max(len(labels), 1)))
        # Many lines are a picture, not a drawing: as vectors 10,000 trials would fill 20 MB.
        many = len(labels) > 200
        marked = set(flagged)
        lines, names = [], []
        for i, (trial, label) in enumerate(labels.items()):
            if trial not in groups:
                continue
            group = groups[trial].sort_values("epoch")
            (line,) = axes.plot(
                group["epoch"],
                100 * group["val_accuracy"],
                color=colours[i],
                linestyle=_LINES[i % len(_LINES)],
                linewidth=0.6 if many else 1.4,
                marker="x" if trial in marked else None,
                markevery=[len(group) - 1],
                rasterized=many,
            )
            lines.append(line)
            names.append(label)
        axes.set_xlabel("epoch, from 0")
        axes.set_ylabel("validation accuracy, %")
        axes.grid(color="0.9", linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if lines and len(lines) <= _LEGEND_LINES:
            figure.legend(lines, names, loc="outside right upper", fontsize=8, frameon=False)
    return figure


def png(figure: Figure) -> bytes:
    """144 dots an inch."""
    return _bytes(figure, "png", {"Software": None})


def pdf(figure: Figure) -> bytes:
    return _bytes(figure, "pdf", {"Creator": None, "Producer": None, "CreationDate": None})


def _bytes(figure: Figure, kind: str, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=144, metadata=metadata)
    return buffer.getvalue()
