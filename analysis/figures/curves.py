"""Curves: what trials did over their epochs or steps."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.memory import remembered
from analysis.figures.style import STYLE, Whole, alone, palette

_LEGEND_LINES = 12
_LINES = ("-", "--", "-.", ":")


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
        groups = {
            trial: group.drop_duplicates("at", keep="last").set_index("at")["value"].sort_index()
            for trial, group in rows.groupby("trial", observed=True)
        }
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
                seed = groups[trial]
                axes.plot(
                    seed.index, seed, linewidth=0.6, alpha=0.5 if len(trials) > 1 else 1,
                    marker=".", markevery=alone(seed.tolist()), **style,
                )  # fmt: skip
                if trial in flagged:
                    axes.plot(seed.index[-1:], seed[-1:], marker="x", color=colours[i])
            mean = pd.concat([groups[trial] for trial in trials], axis=1).mean(axis=1, skipna=False)
            lines += axes.plot(
                mean.index, mean, linewidth=0.6 if many else 1.6,
                marker="o", markersize=4, markevery=alone(mean.tolist()), **style,
            )  # fmt: skip
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(color="0.9", linewidth=0.6)
        axes.xaxis.set_major_locator(Whole())
        if lines and len(lines) <= _LEGEND_LINES:
            figure.legend(lines, list(points), loc="outside right upper", fontsize=8, frameon=False)
    return figure
