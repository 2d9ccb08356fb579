"""Figures of a search: its objective over the order of asking, and over a parameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from analysis.data.search_space import Choice, Range
from analysis.figures.memory import remembered
from analysis.figures.style import GOLD, INK, STYLE, Whole, span
from analysis.text.numbers import plural

_MARKS: dict[str, dict[str, Any]] = {
    "done": {"marker": "o", "color": INK, "s": 36},
    "pruned": {"marker": "o", "facecolors": "white", "edgecolors": INK, "s": 36},
    "nonfinite": {"marker": "x", "color": INK, "s": 40},
    "failed": {"marker": "+", "color": INK, "s": 56},
    "open": {"marker": "_", "color": INK, "s": 56},
}
_MARK_NAMES = {
    "done": "completed",
    "nonfinite": "not finite",
    "failed": "failed",
    "open": "without an end yet",
}
# What has no value stands on a rail under the axis' values, this part of the axes' height high.
_RAIL = 0.1
# The enlarged panel shows what is at most so many standard errors under the best.
_NEAR = 8


@remembered
def history(trials: pd.DataFrame, error: float | None, pruned: str) -> Figure:
    """A search's objective (%) over the order of asking, from asked_trials.asked; the line is the
    best completed one so far, and the chosen trial is ringed. `error` is the best's standard error,
    and `pruned` says where pruned trials stand.
    """
    with mpl.rc_context(STYLE):
        figure, panels = _panels(trials, [], error)
        done = trials["value"].where(trials["mark"] == "done")
        best = 100 * done.cummax().ffill()
        for axes in panels:
            if done.notna().any():
                first = int(done.argmax())
                axes.step(trials["order"], best, where="post", color=GOLD, label="best so far")
                axes.scatter(
                    trials["order"].iloc[first],
                    best.iloc[first],
                    s=150,
                    facecolors="none",
                    edgecolors=GOLD,
                    linewidths=2,
                    label="chosen",
                )
            _scatter(axes, trials["order"], trials, pruned, rail=axes is panels[-1])
        _rail(panels[-1], trials["value"].isna().any(), trials["value"].notna().any())
        panels[-1].set_xlim(0.4, len(trials) + 0.6)
        panels[-1].xaxis.set_major_locator(Whole())
        panels[-1].set_xlabel("order of asking")
        _legend(figure, panels[-1])
    return figure


@remembered
def parameter(
    trials: pd.DataFrame,
    name: str,
    space: Range | Choice,
    means: pd.DataFrame,
    lines: Mapping[str, Any],
    error: float | None,
    pruned: str,
) -> Figure:
    """A search's objective (%) over one parameter, from asked_trials.asked.

    `means` (other_launches.grid_means) are drawn as diamonds over the trials, `lines` are
    labelled values of the parameter, and `error` is the best's standard error, drawn as a band
    under it.
    """
    if isinstance(space, Choice):
        means = means[means["x"].isin(space.values)]
    elif space.log:
        means = means[means["x"] > 0]
    with mpl.rc_context(STYLE):
        figure, panels = _panels(trials, 100 * means["value"].dropna(), error)
        places = _places(trials, name, space)
        best = 100 * trials["value"][trials["mark"] == "done"].max()
        for axes in panels:
            for (label, value), style in zip(lines.items(), ("-", "--", ":"), strict=False):
                x = value if isinstance(space, Range) else space.values.index(value)
                axes.axvline(x, color="0.45", linestyle=style, linewidth=1.2, label=label, zorder=1)
            if error:
                label = "one standard error under the best"
                low = best - 100 * error
                axes.axhspan(low, best, color="#ece8d6", linewidth=0, label=label, zorder=0)
            _scatter(axes, places, trials, pruned, rail=axes is panels[-1])
            _diamonds(axes, means, space, rail=axes is panels[-1])
        values = [*trials["value"], *means["value"]]
        _rail(panels[-1], np.isnan(values).any(), not np.isnan(values).all())
        _scale(panels[-1], name, space, [*means["x"], *lines.values()])
        _legend(figure, panels[-1])
    return figure


def _panels(
    trials: pd.DataFrame, means: Iterable[float], error: float | None
) -> tuple[Figure, list[Axes]]:
    """Axes for a search's objective; above them, where most of their height would go to bad
    trials, others for the neighbourhood of the best.
    """
    best = 100 * trials["value"][trials["mark"] == "done"].max()
    reach = 100 * (error or 0.0)
    shown = [*(100 * trials["value"].dropna()), *means]
    near = reach > 0 and min(shown) < best - 2 * _NEAR * reach
    figure = Figure(figsize=(8, 7 if near else 4.8))
    panels = list(figure.subplots(1 + near, 1, sharex=True, squeeze=False)[:, 0])
    figure.set_layout_engine("constrained")
    for axes in panels:
        axes.set_ylabel("validation accuracy, %")
        axes.grid(axis="y", color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
    if near:
        top = max(value for value in shown if value >= best)
        panels[0].set_ylim(best - _NEAR * reach, top + 2 * reach)
        panels[0].set_title("close to the best", loc="left", fontsize=10)
        panels[1].set_title("all", loc="left", fontsize=10)
        figure.align_ylabels(panels)
    return figure, panels


def _scatter(
    axes: Axes, places: pd.Series[Any], trials: pd.DataFrame, pruned: str, *, rail: bool
) -> None:
    for mark, style in _MARKS.items():
        label: str | None = _MARK_NAMES.get(mark, pruned)
        here = trials["mark"] == mark
        known = here & trials["value"].notna()
        if known.any():
            values = 100 * trials["value"][known]
            axes.scatter(places[known], values, label=label, zorder=3, **style)
            label = None
        lost = here & ~known
        if rail and lost.any():
            heights = [_RAIL / 2] * int(lost.sum())
            frame = axes.get_xaxis_transform()
            axes.scatter(
                places[lost],
                heights,
                transform=frame,
                label=label,
                zorder=3,
                clip_on=False,
                **style,
            )


def _diamonds(axes: Axes, means: pd.DataFrame, space: Range | Choice, *, rail: bool) -> None:
    """Means of other launches; one without any result stands on the rail. How many seeds most of
    them have is in the legend, so that only the others need a text.
    """
    if means.empty:
        return
    usual = int(means["n"].mode().max())
    low, high = axes.get_ylim()
    label: str | None = f"other launches, mean of n = {usual} {plural(usual, 'seed')}"
    for mean in means.to_dict("records"):
        known = mean["n"] > 0
        # A text beside a mark that the panel does not show would still take its room.
        if not rail and not (known and low < 100 * mean["value"] < high):
            continue
        x = mean["x"] if isinstance(space, Range) else space.values.index(mean["x"])
        y = 100 * mean["value"] if known else _RAIL / 2
        frame = axes.transData if known else axes.get_xaxis_transform()
        (mark,) = axes.plot(
            x,
            y,
            transform=frame,
            linestyle="none",
            marker="D",
            markersize=7,
            markerfacecolor=GOLD if known else "white",
            markeredgecolor="black",
            markeredgewidth=0.8,
            zorder=4,
        )
        if known and label is not None:
            mark.set_label(label)
            label = None
        if mean["n"] != usual or mean["n"] < mean["planned"]:
            of = f" of {mean['planned']}" if mean["n"] < mean["planned"] else ""
            text = axes.annotate(
                f"n {mean['n']}{of}",
                (x, y),
                xycoords=frame,
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                zorder=5,
            )
            text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _places(trials: pd.DataFrame, name: str, space: Range | Choice) -> pd.Series[Any]:
    """Where the trials stand along the axis: at their value, or side by side at their choice."""
    if isinstance(space, Range):
        return trials[name].astype(float)
    index = trials[name].map(space.values.index).astype(float)
    groups = index.groupby(index)
    return index + 0.5 * ((groups.cumcount() + 0.5) / groups.transform("size") - 0.5)


def _rail(axes: Axes, needed: bool | np.bool, others: bool | np.bool) -> None:
    """Room at the bottom for what has no value, with a line above it; the axes' own marks begin
    there. `others` says whether anything has a value.
    """
    if not needed:
        return
    if others:
        low, high = span(*axes.get_ylim())
        axes.set_ylim(low, high)
        ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
        axes.set_ylim(low - (high - low) * _RAIL / (1 - _RAIL), high)
        axes.set_yticks(ticks)
    else:
        axes.set_yticks([])
    axes.plot([0, 1], [_RAIL, _RAIL], transform=axes.transAxes, color="0.6", linewidth=0.8)
    axes.text(
        -0.008, _RAIL / 2, "no value", transform=axes.transAxes, ha="right", va="center", fontsize=8
    )


def _scale(axes: Axes, name: str, space: Range | Choice, others: Sequence[Any]) -> None:
    axes.set_xlabel(name)
    if isinstance(space, Choice):
        width = max(8, 84 // len(space.values))
        texts = [fill(str(value), width, max_lines=3, placeholder=" ...") for value in space.values]
        axes.set_xticks(range(len(texts)), texts)
        axes.set_xlim(-0.5, len(texts) - 0.5)
        return
    low, high = min([space.low, *others]), max([space.high, *others])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if space.log:
        axes.set_xscale("log")
        decades = math.log10(high / low)
        margin = 10 ** (0.04 * max(decades, 0.1))
        axes.set_xlim(low / margin, high * margin)
        subs = (1.0,) if decades >= 3 else (1.0, 3.0) if decades >= 2 else (1.0, 2.0, 5.0)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        margin = 0.04 * (high - low) or 0.5
        axes.set_xlim(low - margin, high + margin)
        whole = space.kind == "int"
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=whole, min_n_ticks=1))


def _legend(figure: Figure, axes: Axes) -> None:
    """Below the axes, where it covers no mark."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 3 if sum(sorted(map(len, labels))[-3:]) < 110 else 2
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False
    )
