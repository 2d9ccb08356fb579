"""Figures of predicted numbers: against their targets, and what is left of these."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from analysis.figures.memory import remembered
from analysis.figures.style import INK, STYLE, span

# More points than this hide one another: cells of a plane count them instead.
MOST_POINTS = 3_000
_CELLS = 60
# Seen on white and on the darkest cell alike.
_LINE: Any = {
    "color": "black",
    "linestyle": "--",
    "linewidth": 1.1,
    "zorder": 3,
    "path_effects": [withStroke(linewidth=2.5, foreground="white")],
}

Numbers = NDArray[np.float64]


@remembered
def against_target(targets: Numbers, values: Numbers) -> Figure:
    """Predicted value against target, both axes alike, with the line where both are equal."""
    ends = float(min(targets.min(), values.min())), float(max(targets.max(), values.max()))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.2 if len(targets) <= MOST_POINTS else 7, 6))
        axes = figure.subplots()
        figure.set_layout_engine("constrained")
        low, high = _with_room(*ends)
        axes.plot([low, high], [low, high], label="both equal", **_LINE)
        _points(axes, targets, values, (low, high, low, high), [axes])
        axes.set_aspect("equal")
        axes.set_xlabel("target")
        axes.set_ylabel("predicted value")
        figure.legend(loc="outside lower center", fontsize=8, frameon=False)
    return figure


@remembered
def residuals(values: Numbers, left: Numbers) -> Figure:
    """Residuals against the predicted value, with the line at 0 and, as bars beside them, how many
    examples have such a residual."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.6))
        plane, bars = figure.subplots(1, 2, sharey=True, width_ratios=[4, 1])
        figure.set_layout_engine("constrained")
        across = _with_room(float(values.min()), float(values.max()))
        up = _with_room(min(float(left.min()), 0.0), max(float(left.max()), 0.0))
        plane.axhline(0, **_LINE)
        _points(plane, values, left, (*across, *up), [plane, bars])
        plane.set_xlabel("predicted value")
        plane.set_ylabel("residual: target minus predicted value")
        bars.hist(left, bins=30, range=up, orientation="horizontal", color="0.78")
        bars.axhline(0, **_LINE)
        bars.set_xlabel("examples")
        bars.tick_params(axis="y", length=0)
    return figure


def _with_room(low: float, high: float) -> tuple[float, float]:
    low, high = span(low, high)
    room = 0.04 * (high - low)
    return low - room, high + room


def _points(
    axes: Axes,
    x: Numbers,
    y: Numbers,
    extent: tuple[float, float, float, float],
    beside: list[Axes],
) -> None:
    """A dot an example, or cells that count them, whose colours are explained beside these axes."""
    if len(x) <= MOST_POINTS:
        shade = 1.0 if len(x) <= 100 else 0.4
        axes.plot(
            x, y, linestyle="none", marker="o", markersize=3.5, markeredgewidth=0, color=INK,
            alpha=shade,
        )  # fmt: skip
    else:
        cells = axes.hexbin(
            x, y, gridsize=_CELLS, extent=extent, mincnt=1, bins="log", cmap="cividis_r",
            linewidths=0.1,
        )  # fmt: skip
        axes.figure.colorbar(
            cells, ax=beside, label="examples in a cell", shrink=0.8,
            format=FuncFormatter(lambda number, _: f"{number:,.0f}"),
        )  # fmt: skip
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
