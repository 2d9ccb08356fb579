"""The figure of a report's first screen, drawn at the size at which the page shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure

from analysis.figures.memory import remembered
from analysis.figures.style import GOLD, INK, STYLE, Whole
from analysis.stats.intervals import Interval

WIDTH = 4.9  # inches: 470 pixels of the page
_NAME = 26


@dataclass(frozen=True)
class Row:
    """A point, its values over seeds and the interval of their mean; in the unit of the axis."""

    name: str
    values: Sequence[float]
    mean: float
    interval: Interval | None


@remembered
def ranking(rows: Sequence[Row], label: str) -> Figure:
    """A row a point, the best one on top: a dot a seed, a diamond the mean, a line its interval."""
    with mpl.rc_context({**STYLE, "font.size": 9}):
        figure = Figure(figsize=(WIDTH, 0.75 + 0.27 * max(len(rows), 2)))
        axes = figure.subplots()
        figure.set_layout_engine("constrained")
        for y, row in enumerate(rows):
            colour = INK if y == 0 else "0.45"
            if row.interval is not None:
                axes.plot(row.interval, [y, y], color=colour, linewidth=1.4, alpha=0.7, zorder=2)
            axes.scatter(row.values, [y] * len(row.values), s=12, color="0.6", zorder=3)
            axes.plot(
                row.mean, y, marker="D", markersize=6.5 if y == 0 else 5, linestyle="none",
                color=GOLD if y == 0 else "white", markeredgecolor=colour, zorder=4,
            )  # fmt: skip
        axes.set_yticks(range(len(rows)), [_brief(row.name) for row in rows])
        if rows:
            axes.get_yticklabels()[0].set_fontweight("bold")
        axes.set_ylim(max(len(rows), 2) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.grid(axis="x", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        _within_the_seeds(axes, rows)
    return figure


def _within_the_seeds(axes: mpl.axes.Axes, rows: Sequence[Row]) -> None:
    """Three seeds can have an interval many times as wide as they are: it is cut, and the figure
    stays one of the points."""
    values = [value for row in rows for value in row.values]
    if not values:
        return
    reach = 0.25 * (max(values) - min(values))
    low, high = axes.get_xlim()
    if reach > 0:
        axes.set_xlim(max(low, min(values) - reach), min(high, max(values) + reach))


@remembered
def progress(values: Sequence[float], minimize: bool, label: str) -> Figure:
    """The values of a search's finished trials in the order of asking (NaN: none), and the best one
    so far."""
    best: list[float] = []
    for value in values:
        last = best[-1] if best else float("nan")
        known = [one for one in (last, value) if one == one]
        best.append((min if minimize else max)(known, default=float("nan")))
    at = range(1, len(values) + 1)
    with mpl.rc_context({**STYLE, "font.size": 9}):
        figure = Figure(figsize=(WIDTH, 2.8))
        axes = figure.subplots()
        figure.set_layout_engine("constrained")
        axes.plot(
            at, list(values), ".", color="0.55", markersize=4, label="trial",
            rasterized=len(values) > 2_000,
        )  # fmt: skip
        axes.step(at, best, where="post", color=INK, linewidth=1.6, label="best so far")
        axes.xaxis.set_major_locator(Whole())
        axes.set_xlabel("trial, in the order of asking")
        axes.set_ylabel(label)
        axes.grid(color="0.9", linewidth=0.6)
        axes.legend(frameon=False, fontsize=8)
    return figure


def _brief(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= _NAME else f"{name[: _NAME - 3].rstrip()}..."
