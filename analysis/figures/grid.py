"""Figures of batch size x epochs."""

from __future__ import annotations

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.style import STYLE


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
