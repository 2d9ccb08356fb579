"""Figures that set points beside each other: a mark for every seed, the mean, its t interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import shorten
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis.figures.memory import remembered
from analysis.figures.style import GOLD, INK, STYLE, numbers, palette
from analysis.stats.intervals import Interval, seed_interval

# Where most of the width would go to rows far below the best, or to reported figures far from what
# is measured, the rows within so much of the best (a fraction) get a panel of their own.
_NEAR = 0.05
# What a figure can carry and still be read.
_NAME = 44
_VALUES_NAMED = 10
_SHAPES = "osD^vP*X<>"

_SEED: dict[str, Any] = {"s": 26, "linewidths": 1.2, "zorder": 3}
# By whether the seed's run is flagged.
_MARKS: dict[bool, dict[str, Any]] = {
    False: {"marker": "o", "color": INK, "alpha": 0.75, "label": "a seed"},
    True: {"marker": "x", "color": INK, "label": "a flagged seed"},
}


@dataclass(frozen=True)
class Row:
    """A point and its value for each seed. `note` names what is flagged or missing."""

    name: str
    values: Sequence[float]
    flagged: Sequence[bool]
    note: str = ""
    reported: float = math.nan

    @property
    def mean(self) -> float:
        return math.fsum(self.values) / len(self.values) if self.values else math.nan

    @property
    def interval(self) -> Interval | None:
        return seed_interval(self.values)


def marks_words(panels: Mapping[str, Sequence[Row]]) -> str:
    """What the marks of rows mean, of those that are there."""
    rows = [row for rows in panels.values() for row in rows]
    said = "a dot for every seed"
    if any(any(row.flagged) for row in rows):
        said += " (a cross where it is flagged)"
    said += ", below it the mean as a diamond"
    if any(row.interval is not None for row in rows):
        said += " with its 95 % interval over seeds"
    if any(not math.isnan(row.reported) for row in rows):
        said += ", and what was reported as an open square"
    return said


@remembered
def accuracies(rows: Sequence[Row]) -> Figure:
    """Test accuracy (%) of a row a model, the first on top; values and `reported` are fractions."""
    close = _close(rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10 if close else 8, _height(rows)))
        panels = list(figure.subplots(1, 2 if close else 1, sharey=True, squeeze=False)[0])
        figure.set_layout_engine("constrained")
        for axes in panels:
            _rows(axes, rows)
            axes.set_xlabel("test accuracy, %")
        if close:
            panels[0].set_title("all", loc="left", fontsize=10)
            panels[1].set_title("close to the best", loc="left", fontsize=10)
            _zoom(panels[1], rows, close)
        _names(panels[0], rows)
        _legend(figure, panels[0])
    return figure


@remembered
def differences(panels: Mapping[str, Sequence[Row]], baseline: str) -> Figure:
    """Differences to the baseline (points), paired by seed: a panel for each entry (its axis
    label), whose rows are the same points; values are fractions.
    """
    first = next(iter(panels.values()))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, _height(first)))
        grid = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        figure.set_layout_engine("constrained")
        for axes, (name, rows) in zip(grid, panels.items(), strict=True):
            label = f"no difference to {_short(baseline)}"
            axes.axvline(0, color="0.45", linestyle="--", linewidth=1.2, label=label, zorder=1)
            _rows(axes, rows)
            axes.set_xlabel(name)
        _names(grid[0], first)
        _legend(figure, *grid)
    return figure


@remembered
def sizes(rows: Sequence[tuple[int, Row]]) -> Figure:
    """Mean test accuracy (%) over the number of parameters, on a logarithmic axis, in the rows'
    order in the legend.
    """
    close = _close([replace(row, reported=math.nan) for _, row in rows])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10 if close else 8, 3.8))
        panels = list(figure.subplots(1, 2 if close else 1, squeeze=False)[0])
        figure.set_layout_engine("constrained")
        colours = palette(len(rows))
        for axes in panels:
            for i, (parameters, row) in enumerate(rows):
                if row.interval is not None:
                    ends = [100 * end for end in row.interval]
                    axes.plot([parameters] * 2, ends, color="0.45", linewidth=1.6, zorder=2)
                style: dict[str, Any] = {"marker": _SHAPES[i % len(_SHAPES)], "color": colours[i]}
                axes.scatter(
                    parameters, 100 * row.mean, s=50, label=_short(row.name), zorder=3, **style
                )
            axes.set_xscale("log")
            low, high = (f(parameters for parameters, _ in rows) for f in (min, max))
            margin = (high / low) ** 0.06 if high > low else 2.0
            axes.set_xlim(low / margin, high * margin)
            subs = (1.0,) if high / low > 1000 else (1.0, 2.0, 5.0)
            axes.xaxis.set_major_locator(LogLocator(subs=subs))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlabel("parameters, millions")
            axes.set_ylabel("mean test accuracy, %")
            axes.grid(color="0.9", linewidth=0.6)
            axes.set_axisbelow(True)
        if close:
            panels[0].set_title("all", loc="left", fontsize=10)
            panels[1].set_title("close to the best", loc="left", fontsize=10)
            panels[1].set_ylim(*_limits(close))
        _legend(figure, panels[0])
    return figure


@remembered
def decay(
    seeds: pd.DataFrame, chosen: Mapping[str, float], reported: Mapping[str, float]
) -> Figure:
    """Accuracy (%) over weight decay on a logarithmic axis, a panel a model.

    `seeds` has a row a trial with a result: model, value, validation and test (fractions),
    flagged. The value that validation chooses is ringed, the reported one a dashed line. A weight
    decay of 0 stands left of a break in the axis.
    """
    models = list(chosen)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.9 + 3.4 * len(models)))
        grid = figure.subplots(len(models), 1, squeeze=False)[:, 0]
        figure.set_layout_engine("constrained")
        for axes, model in zip(grid, models, strict=True):
            here = seeds[seeds["model"] == model]
            values = sorted({*here["value"], *([reported[model]] if model in reported else [])})
            places = _places(values)
            if model in reported:
                label = "reported choice"
                place = places[reported[model]]
                axes.axvline(place, color="0.45", linestyle="--", label=label, linewidth=1.2)
            step = 0.012 * (max(places.values()) - min(places.values()) or 1.0)
            for split, colour, side in (("test", GOLD, 1), ("validation", INK, -1)):
                _curve(axes, here, split, places, colour, side * step)
            best = here[here["value"] == chosen[model]]["validation"].mean()
            axes.scatter(
                places[chosen[model]] - step,
                100 * best,
                s=230,
                facecolors="none",
                edgecolors=INK,
                linewidths=1.6,
                label="chosen by validation",
                zorder=5,
            )
            axes.set_title(_short(model), loc="left", fontsize=10)
            axes.set_ylabel("accuracy, %")
            axes.grid(axis="y", color="0.9", linewidth=0.6)
            axes.set_axisbelow(True)
            _decay_ticks(axes, places)
        grid[-1].set_xlabel("weight decay")
        _legend(figure, *grid)
    return figure


# --- rows ------------------------------------------------------------------------------------


def _height(rows: Sequence[Row]) -> float:
    return 1.4 + sum(0.42 + 0.16 * row.note.count("\n") for row in rows) * 1.15


def _rows(axes: Axes, rows: Sequence[Row]) -> None:
    """Every seed, the mean with its interval a little below them, and what was reported."""
    for y, row in enumerate(rows):
        for marked, style in _MARKS.items():
            here = [i for i, flagged in enumerate(row.flagged) if flagged is marked]
            if here:
                # Seeds can agree to the last image: one beside the other, both are seen.
                step = 0.16 / len(row.values)
                heights = [y - 0.14 + step * (i - (len(row.values) - 1) / 2) for i in here]
                axes.scatter([100 * row.values[i] for i in here], heights, **_SEED, **style)
        if row.values:
            axes.plot(
                100 * row.mean,
                y + 0.15,
                linestyle="none",
                marker="D",
                markersize=6,
                color=GOLD,
                markeredgecolor="black",
                markeredgewidth=0.6,
                label="mean",
                zorder=4,
            )
        if row.interval is not None:
            low, high = row.interval
            label = "95 % over seeds (t)"
            span = [100 * low, 100 * high]
            axes.plot(span, [y + 0.15] * 2, color="0.25", linewidth=1.6, label=label, zorder=2)
        if not math.isnan(row.reported):
            axes.scatter(
                100 * row.reported,
                y,
                marker="s",
                s=70,
                facecolors="none",
                edgecolors="0.3",
                linewidths=1.3,
                label="reported",
                zorder=3,
            )
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    for y in range(1, len(rows)):
        axes.axhline(y - 0.5, color="0.9", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)


def _close(rows: Sequence[Row]) -> list[Row]:
    """The rows that a panel of their own tells apart better; none where they fill most of the
    width as it is.
    """
    shown = [row for row in rows if row.values]
    best = max((row.mean for row in shown), default=math.nan)
    close = [row for row in shown if row.mean >= best - _NEAR]
    ends = [end for row in rows for end in (*row.values, row.reported) if not math.isnan(end)]
    low, high = _limits(close) if close else (-math.inf, math.inf)
    return close if 3 * (high - low) < 100 * (max(ends) - min(ends)) else []


def _limits(close: Sequence[Row]) -> Interval:
    """Around all of what is measured of these rows, and of what is reported as far as it is close
    to that, in percent, with a margin.
    """
    ends = [end for row in close for end in (*row.values, *(row.interval or ()))]
    low, high = min(ends) - _NEAR, max(ends) + _NEAR
    ends += [row.reported for row in close if low <= row.reported <= high]
    margin = 0.05 * (max(ends) - min(ends)) or 0.005
    return 100 * (min(ends) - margin), 100 * (max(ends) + margin)


def _zoom(axes: Axes, rows: Sequence[Row], close: Sequence[Row]) -> None:
    """Limits around the close rows; words stand for what lies left of them."""
    low, high = _limits(close)
    axes.set_xlim(low, high)
    for y, row in enumerate(rows):
        if row.values and 100 * max(row.values) < low:
            axes.annotate(
                "further left", (0.01, y), xycoords=axes.get_yaxis_transform(),
                va="center", fontsize=8, color="0.35",
            )  # fmt: skip


def _names(axes: Axes, rows: Sequence[Row]) -> None:
    names = [f"{_short(row.name)}\n{row.note}" if row.note else _short(row.name) for row in rows]
    axes.set_yticks(range(len(rows)), names)
    for text in axes.get_yticklabels():
        text.set_fontsize(9)


# --- weight decay ----------------------------------------------------------------------------


def _places(values: Sequence[float]) -> dict[float, float]:
    """Where each value stands: its logarithm; 0 one decade left of the smallest other."""
    logs = [math.log10(value) for value in values if value > 0]
    zero = min(logs, default=1.0) - 1.0
    return {value: math.log10(value) if value > 0 else zero for value in values}


def _curve(
    axes: Axes,
    here: pd.DataFrame,
    split: str,
    places: Mapping[float, float],
    colour: str,
    shift: float,
) -> None:
    """A mark a seed, the line of the means, and t intervals as bars."""
    # Seeds can agree to the last image: one beside the other, both are seen.
    seeds = here.groupby("value")["value"]
    aside = seeds.cumcount() - (seeds.transform("size") - 1) / 2
    x = here["value"].map(places) + shift + 0.25 * abs(shift) * aside
    filled = colour if split == "validation" else "white"
    styles: dict[bool, dict[str, Any]] = {
        False: {"marker": "o", "facecolors": filled, "edgecolors": colour},
        True: {"marker": "x", "color": colour},
    }
    for flagged, style in styles.items():
        some = here["flagged"].eq(flagged) & here[split].notna()
        if some.any():
            label = f"{split}, a {'flagged ' * flagged}seed"
            axes.scatter(x[some], 100 * here[split][some], label=label, **_SEED, **style)
    groups = here.dropna(subset=[split]).groupby("value")[split]
    means = 100 * groups.mean()
    at = [places[value] + shift for value in means.index]
    line = "-" if split == "validation" else ":"
    axes.plot(at, means, color=colour, linestyle=line, linewidth=1.6, label=f"{split}, mean")
    for place, (_, values) in zip(at, groups, strict=True):
        interval = seed_interval(list(values))
        if interval is not None:
            ends = [100 * end for end in interval]
            label = f"{split}, 95 % over seeds (t)"
            axes.plot([place] * 2, ends, color=colour, linewidth=4, alpha=0.35, label=label)


def _decay_ticks(axes: Axes, places: Mapping[float, float]) -> None:
    """Ticks at the values themselves, or at decades where they are many; a break after 0."""
    if len(places) <= _VALUES_NAMED:
        axes.set_xticks(list(places.values()), numbers(list(places)))
    else:
        low, high = (f(p for v, p in places.items() if v > 0) for f in (min, max))
        decades = [float(one) for one in range(math.ceil(low), math.floor(high) + 1)]
        ticks = {one: f"{10**one:g}" for one in (decades if len(decades) > 1 else (low, high))}
        ticks |= {place: "0" for value, place in places.items() if value == 0}
        axes.set_xticks(list(ticks), list(ticks.values()))
    if 0 in places and len(places) > 1:
        axes.text(
            places[0] + 0.5, 0, "//", transform=axes.get_xaxis_transform(),
            ha="center", va="center", fontsize=11, clip_on=False,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
    axes.margins(x=0.06)


# --- words -----------------------------------------------------------------------------------


def _short(name: str) -> str:
    """One line that a figure has room for; a legend leaves out what begins with a line below."""
    line = shorten(" ".join(name.split()), _NAME, placeholder=" ...") or name[:_NAME]
    return f" {line}" if line.startswith("_") else line


def _legend(figure: Figure, *panels: Axes) -> None:
    """Below the axes, where it covers no mark; each label once."""
    found: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(
        list(found.values()), list(found), loc="outside lower center",
        ncols=len(found) if sum(map(len, found)) < 90 else 4, fontsize=8, frameon=False,
    )  # fmt: skip
