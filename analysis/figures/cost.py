"""Figures of what accuracy costs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from analysis.figures.memory import remembered
from analysis.figures.style import GOLD, INK, STYLE
from analysis.text.numbers import plural

PETA = 1e15  # operations in a PFLOP
# A front of more points is named in its table alone.
_NAMED = 12
_NAME_WIDTH = 44
# More points than these do not each say of how many seeds they are.
_COUNTED = 30


@remembered
def cost(points: pd.DataFrame) -> Figure:
    """Mean test accuracy (%) over the operations of training on a logarithmic axis, a dot a point,
    from costs.costs; flagged points are hollow. The line is the Pareto front, whose points are
    numbered and named beside.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 4.6))
        axes = figure.subplots()
        figure.set_layout_engine("constrained")
        front = points[points["front"]]
        axes.step(
            front["flops"] / PETA, 100 * front["test"], where="post", color=GOLD, zorder=1,
            label="Pareto front by validation",
        )  # fmt: skip
        usual = int(points["n"].mode().max())
        flagged = points["flags"].ne("")
        each = f"mean of n = {usual} {plural(usual, 'seed')}"
        for here, label, fill in ((~flagged, each, INK), (flagged, f"{each}, flagged", "white")):
            if here.any():
                axes.scatter(
                    points["flops"][here] / PETA, 100 * points["test"][here], s=38, zorder=3,
                    facecolors=fill, edgecolors=INK, label=label,
                )  # fmt: skip
        if len(points) <= _COUNTED:
            for point in points[points["n"] != usual].to_dict("records"):
                _note(axes, point, f"n {point['n']}", (6, -9), "left")
        named = front.head(_NAMED).to_dict("records")
        for number, point in enumerate(named, start=1):
            # The front rises to the right, so that this side of it is free.
            _note(axes, point, str(number), (-5, 3), "right")
        axes.set_xlabel("training of one run, PFLOPs, logarithmic")
        axes.set_ylabel("mean test accuracy, %")
        axes.grid(color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.margins(y=0.12)
        _scale(axes, points["flops"].min() / PETA, points["flops"].max() / PETA)
        names = [
            f"{number}  {_short(point['point']) or 'all trials'}"
            for number, point in enumerate(named, start=1)
        ]
        if len(front) > _NAMED:
            names.append(f"and {len(front) - _NAMED} more")
        figure.legend(
            [Line2D([], [], linestyle="none")] * len(names), names, title="On the front",
            loc="outside right upper", handlelength=0, handletextpad=0, alignment="left",
            fontsize=8, title_fontsize=9, frameon=False,
        )  # fmt: skip
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _short(name: str) -> str:
    """Its end is kept whole before its beginning: what differs between points stands there."""
    name = " ".join(name.split())
    if len(name) <= _NAME_WIDTH:
        return name
    head = _NAME_WIDTH // 3
    return f"{name[:head]} ... {name[head + 5 - _NAME_WIDTH :]}"


def _note(
    axes: Axes, point: Mapping[Hashable, Any], text: str, offset: tuple[float, float], side: str
) -> None:
    note = axes.annotate(
        text, (point["flops"] / PETA, 100 * point["test"]), xytext=offset,
        textcoords="offset points", ha=side, fontsize=8.5, zorder=4,
    )  # fmt: skip
    note.set_path_effects([withStroke(linewidth=2.5, foreground="white")])


def _scale(axes: Axes, low: float, high: float) -> None:
    """Logarithmic, with ticks also where all lies within one decade."""
    axes.set_xscale("log")
    margin = max(high / low, 1.2) ** 0.06
    axes.set_xlim(low / margin, high * margin)
    near = high / low < 4
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=6, min_n_ticks=2) if near else LogLocator(subs=(1.0, 2.0, 5.0))
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
