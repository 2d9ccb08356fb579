"""Figures of batch size x epochs."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from analysis.figures.memory import remembered
from analysis.figures.style import STYLE, span
from analysis.text.numbers import percent

_CELL = 1.55  # inches wide, and
_LINE = 0.19  # high a line of text


@remembered
def heatmap(measured: pd.DataFrame, reported: pd.DataFrame | None) -> Figure:
    """Mean test accuracy (%) of batch size x epochs, from reported_tables.grid_cells, and beside it
    the reported one, from reported_tables.reported_grid, on one colour scale; None where the two do
    not compare. Flagged cells are
    hatched and named, cells without a result are empty.
    """
    panels = {"measured": measured}
    if reported is not None:
        panels["reported, one run a cell"] = reported
    widths = [table["batch_size"].nunique() for table in panels.values()]
    rows = max(table["epochs"].nunique() for table in panels.values())
    values = 100 * pd.concat([table["test"] for table in panels.values()]).dropna()
    norm = Normalize(*span(values.min(), values.max())) if len(values) else Normalize(0, 100)
    lines = max(
        _text(cell).count("\n") + 1 for t in panels.values() for cell in t.to_dict("records")
    )
    with mpl.rc_context(STYLE):
        height = 1.3 + rows * max(0.7, _LINE * (lines + 1))
        figure = Figure(figsize=(2.0 + _CELL * sum(widths), height))
        figure.set_layout_engine("constrained")
        grid = figure.subplots(1, len(panels), squeeze=False, gridspec_kw={"width_ratios": widths})
        axes = grid[0]
        for panel, (title, table) in zip(axes, panels.items(), strict=True):
            image = _draw(panel, table, norm)
            panel.set_title(title if len(panels) > 1 else "", fontsize=10)
        axes[0].set_ylabel("epochs")
        figure.colorbar(image, ax=list(axes), label="mean test accuracy, %")
    return figure


def _draw(axes: Axes, table: pd.DataFrame, norm: Normalize) -> AxesImage:
    epochs, sizes = sorted(table["epochs"].unique()), sorted(table["batch_size"].unique())
    values = np.full((len(epochs), len(sizes)), np.nan)
    cells = [
        (epochs.index(cell["epochs"]), sizes.index(cell["batch_size"]), cell)
        for cell in table.to_dict("records")
    ]
    for row, column, cell in cells:
        values[row, column] = 100 * cell["test"]
    image = axes.imshow(values, cmap="cividis", norm=norm, aspect="auto")
    for row, column, cell in cells:
        value = values[row, column]
        ground = "white" if math.isnan(value) else image.cmap(norm(value))
        dark = not math.isnan(value) and norm(value) < 0.5
        if cell["flags"]:
            axes.add_patch(
                Rectangle(
                    (column - 0.5, row - 0.5), 1, 1,
                    fill=False, hatch="///", edgecolor="0.75" if dark else "0.35", linewidth=0,
                )
            )  # fmt: skip
        axes.text(
            column,
            row,
            _text(cell),
            ha="center",
            va="center",
            fontsize=8.5,
            linespacing=1.25,
            color="white" if dark else "black",
            bbox={"facecolor": ground, "edgecolor": "none", "pad": 1.5},
        )
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_yticks(range(len(epochs)), [str(count) for count in epochs])
    axes.set_xlabel("batch size")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _text(cell: Mapping[Hashable, Any]) -> str:
    """Mean and spread, how many seeds, and the flags, a line each."""
    mean, spread, n, planned = cell["test"], cell["test sd"], cell["n"], cell["planned"]
    number = percent(mean) if n else "no result"
    number += "" if math.isnan(spread) else f" ± {percent(spread)}"
    count = f"n {n}" if n == planned else f"n {n} of {planned}"
    return "\n".join(filter(None, [number, count, str(cell["flags"]).replace(", ", "\n")]))
