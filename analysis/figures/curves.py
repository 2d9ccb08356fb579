"""Curves: what trials did over their epochs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures.style import STYLE

_LEGEND_LINES = 12
_LINES = ("-", "--", "-.", ":")


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
