"""Curves: what trials did over their epochs or steps."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figures.memory import remembered
from analysis.figures.style import STYLE, Whole, alone, palette

_LEGEND_LINES = 12
_LINES = ("-", "--", "-.", ":")

_Curve = tuple[NDArray[np.float64], NDArray[np.float64]]


@remembered
def curves(
    rows: pd.DataFrame, labels: Mapping[str, str], flagged: Set[str], x_label: str, y_label: str
) -> Figure:
    """`value` over `at` in the rows of each `trial` of `labels` (trial: its point's label). A thick
    line is a point's mean over its seeds, as far as all of them have come, thin ones are the seeds;
    a cross ends a flagged trial.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.5))
        axes = figure.subplots()
        figure.set_layout_engine("constrained")
        groups = _by_trial(rows)
        points: dict[str, list[str]] = {}
        for trial, label in labels.items():
            if trial in groups:
                points.setdefault(label, []).append(trial)
        colours = palette(len(points))
        # Many lines are a picture, not a drawing: as vectors 10,000 trials would fill 20 MB.
        many = len(labels) > 200
        lines = []
        for i, trials in enumerate(points.values()):
            style: Any = {
                "color": colours[i], "linestyle": "-" if len(points) <= 10 else _LINES[i % 4],
                "rasterized": many,
            }  # fmt: skip
            for trial in trials:
                at, seed = groups[trial]
                axes.plot(
                    at, seed, linewidth=0.6, alpha=0.5 if len(trials) > 1 else 1,
                    marker=".", markevery=alone(seed.tolist()), **style,
                )  # fmt: skip
                if trial in flagged:
                    axes.plot(at[-1:], seed[-1:], marker="x", color=colours[i])
            at, mean = _mean([groups[trial] for trial in trials])
            lines += axes.plot(
                at, mean, linewidth=0.6 if many else 1.6,
                marker="o", markersize=4, markevery=alone(mean.tolist()), **style,
            )  # fmt: skip
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(color="0.9", linewidth=0.6)
        axes.xaxis.set_major_locator(Whole())
        if lines and len(lines) <= _LEGEND_LINES:
            figure.legend(lines, list(points), loc="outside right upper", fontsize=8, frameon=False)
    return figure


def _by_trial(rows: pd.DataFrame) -> dict[str, _Curve]:
    """Of each trial's rows with one and the same `at` the last one."""
    codes, names = pd.factorize(rows["trial"])
    at, value = (rows[name].to_numpy(float, na_value=np.nan) for name in ("at", "value"))
    order = np.lexsort((at, codes))
    order = order[codes[order] >= 0]
    codes, at, value = codes[order], at[order], value[order]
    last = np.append((codes[1:] != codes[:-1]) | (at[1:] != at[:-1]), True)[: len(codes)]
    codes, at, value = codes[last], at[last], value[last]
    ends = np.searchsorted(codes, np.arange(len(names) + 1))
    return {
        name: (at[start:end], value[start:end])
        for name, start, end in zip(names, ends[:-1], ends[1:], strict=True)
    }


def _mean(curves: list[_Curve]) -> _Curve:
    """NaN where not all of them have come so far."""
    every = np.unique(np.concatenate([at for at, _ in curves]))
    values = np.full((len(curves), len(every)), np.nan)
    for row, (at, value) in zip(values, curves, strict=True):
        row[np.searchsorted(every, at)] = value
    return every, values.mean(axis=0)
