"""Figures of one point of a sweep: its seeds over the epochs, and one run's predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from analysis.figures.memory import remembered
from analysis.figures.style import GOLD, INK, STYLE, Whole, alone, empty, palette
from analysis.text.examples import TEST_IMAGES, Noun

# As many classes can have their numbers in the figure; more can have their names, at most so many.
_WITH_NUMBERS = 20
_WITH_NAMES = 100
# More seeds than this would be a legend larger than the figure.
_SEEDS_NAMED = 12
_GREY = "0.45"
_BAR = "0.78"

_Line = Literal["-", "--", ":"]


@remembered
def panels(
    epochs: pd.DataFrame,
    labels: Mapping[str, str],
    best: Mapping[str, int],
    *,
    smoothing: bool,
    mixed: bool,
) -> Figure:
    """Loss, accuracy, learning rate and the gap between training and validation accuracy over
    epochs, drawn from 1, a colour a trial of `labels`; a dot marks the `best` epoch of those that
    have one. `epochs` has the columns of epochs.parquet and `trial`, and counts from 0, as `best`.

    `smoothing` says whether the loss in training is smoothed, `mixed` whether its images are mixed.
    """
    images = "mixed and augmented images" if mixed else "augmented images"
    smoothed = ", smoothed" if smoothing else ""
    losses: dict[str, tuple[str, _Line]] = {
        f"train: running mean, {images}{smoothed}": ("train_loss", "--")
    }
    if smoothing:
        losses["validation, smoothed alike"] = ("val_loss_smoothed", "-")
    losses["validation, plain" if smoothing else "validation"] = (
        "val_loss",
        ":" if smoothing else "-",
    )
    accuracies: dict[str, tuple[str, _Line]] = {
        f"train: running mean, {images}": ("train_accuracy", "--"),
        "validation": ("val_accuracy", "-"),
    }
    best = {trial: epoch + 1 for trial, epoch in best.items()}
    epochs = epochs.sort_values("epoch").assign(
        epoch=epochs["epoch"] + 1,
        train_accuracy=100 * epochs["train_accuracy"],
        val_accuracy=100 * epochs["val_accuracy"],
        gap=100 * (epochs["train_accuracy"] - epochs["val_accuracy"]),
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 7))
        grid = figure.subplots(2, 2, sharex=True)
        figure.set_layout_engine("constrained")
        colours = dict(zip(labels, palette(len(labels)), strict=True))
        loss, accuracy, rate, gap = grid.flat
        _lines(loss, epochs, colours, best, losses)
        _lines(accuracy, epochs, colours, best, accuracies)
        _lines(rate, epochs, colours, best, {"": ("lr", "-")})
        _lines(gap, epochs, colours, best, {"": ("gap", "-")})
        gap.axhline(0, color=_GREY, linewidth=0.8, zorder=0)
        loss.set_ylabel("loss, nats an image")
        accuracy.set_ylabel("accuracy, %")
        rate.set_ylabel("learning rate, epoch's first step")
        gap.set_ylabel("train minus validation\naccuracy, points")
        rate.ticklabel_format(axis="y", scilimits=(-2, 3), useMathText=False)
        for axes in grid[1]:
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(Whole())
        for axes in grid.flat:
            axes.grid(color="0.9", linewidth=0.6)
        _seeds(figure, colours, labels, any(trial in best for trial in labels))
    return figure


def _lines(
    axes: Axes,
    epochs: pd.DataFrame,
    colours: Mapping[str, str],
    best: Mapping[str, int],
    curves: Mapping[str, tuple[str, _Line]],
) -> None:
    """A line a trial and curve (name: column, line style), the legend in grey."""
    groups = dict(list(epochs.groupby("trial", observed=True)))
    for trial, colour in colours.items():
        if trial not in groups:
            continue
        group = groups[trial]
        at = group[group["epoch"] == best.get(trial)]
        for column, style in curves.values():
            axes.plot(
                group["epoch"],
                group[column],
                color=colour,
                linestyle=style,
                linewidth=1.4,
                marker="o",
                markersize=3,
                markevery=alone(group[column].tolist()),
            )
            if style == "-":
                axes.plot(at["epoch"], at[column], color=colour, marker="o", zorder=3)
    if not epochs[[column for column, _ in curves.values()]].notna().any(axis=None):
        empty(axes)
    if len(curves) > 1:
        handles = [
            Line2D([], [], color=_GREY, linestyle=style, label=name)
            for name, (_, style) in curves.items()
        ]
        axes.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            borderaxespad=0.2,
            fontsize=8,
            frameon=False,
        )


def _seeds(
    figure: Figure,
    colours: Mapping[str, str],
    labels: Mapping[str, str],
    marked: bool,
) -> None:
    handles = []
    if len(colours) <= _SEEDS_NAMED:
        handles = [
            Line2D([], [], color=colour, linewidth=2.5, label=labels[trial])
            for trial, colour in colours.items()
        ]
    if marked:
        name = "best epoch by validation accuracy: its weights are tested"
        handles.append(Line2D([], [], color=_GREY, linestyle="none", marker="o", label=name))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)


@remembered
def matrix(counts: NDArray[np.int64], classes: Sequence[str], noun: Noun = TEST_IMAGES) -> Figure:
    """Confusion matrix: rows are true classes, columns predicted ones. The diagonal is grey and out
    of the colour scale, an empty cell off it is white; cells have numbers where there is room.
    `noun` is what was predicted, here and below.
    """
    n = len(classes)
    off = counts - np.diag(np.diag(counts))
    with mpl.rc_context(STYLE):
        size = min(2.2 + 0.52 * n, 10) if n <= _WITH_NUMBERS else 10
        figure = Figure(figsize=(size + 0.9, size))
        axes = figure.subplots()
        figure.set_layout_engine("constrained")
        top = max(int(off.max()), 1)
        image = axes.imshow(
            np.ma.masked_equal(off, 0),
            # Reversed, so that a cell is the further from white, the more images it has.
            cmap="cividis_r",
            vmin=1 if top > 1 else 0,
            vmax=top,
        )
        for i in range(n):
            axes.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, facecolor="0.85", linewidth=0))
        if n <= _WITH_NUMBERS:
            for row, column in np.argwhere((counts > 0) | np.eye(n, dtype=bool)):
                dark = row != column and off[row, column] > top / 2
                axes.text(
                    column,
                    row,
                    f"{counts[row, column]}",
                    ha="center",
                    va="center",
                    fontsize=9 if counts.max() < 10_000 else 7,
                    color="white" if dark else "black",
                )
        _class_ticks(axes, classes)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.spines[:].set_visible(True)
        axes.spines[:].set_color("0.7")
        bar = figure.colorbar(image, ax=axes, label=f"{noun.short}, off the diagonal", shrink=0.8)
        bar.locator = Whole()
        bar.update_ticks()
    return figure


def _class_ticks(axes: Axes, classes: Sequence[str]) -> None:
    n = len(classes)
    if n > _WITH_NAMES:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(Whole())
        return
    names = _names(classes)
    size = 9 if n <= _WITH_NUMBERS else max(4.5, 9 - 0.07 * n)
    long = n > _WITH_NUMBERS or max(map(len, names)) > 3
    axes.set_xticks(range(n), names, fontsize=size, rotation=90 if long else 0)
    axes.set_yticks(range(n), names, fontsize=size)
    axes.tick_params(length=0 if n > _WITH_NUMBERS else 3)


def _short(name: str, most: int = 20) -> str:
    """A class' name on one line, cut where it would push the figure aside."""
    line = " ".join(name.split())
    return line if len(line) <= most else line[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _names(classes: Sequence[str]) -> list[str]:
    """Short names; those that are alike when they are cut have the class' number behind them."""
    short = [_short(name) for name in classes]
    return [name if short.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(short)]


@remembered
def confusion_bars(table: pd.DataFrame, noun: Noun = TEST_IMAGES) -> Figure:
    """Bars of the largest confusions, 'true → predicted', as a share (%) of the true class' images,
    with their counts; from classification.confusions. Where columns `reported count` and `reported
    images` are there and not NaN, they are drawn so beside.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 1.3 + 0.42 * len(table)))
        axes = figure.subplots()
        figure.set_layout_engine("constrained")
        places = np.arange(len(table), dtype=float)
        beside = table["reported count"].notna() if "reported count" in table else places < 0
        shift, height = np.where(beside, 0.19, 0.0), 0.38
        _bars(axes, places - shift, table["count"], table["images"], height, "measured")
        if beside.any():
            known = table[beside]
            _bars(
                axes,
                (places + shift)[beside],
                known["reported count"],
                known["reported images"],
                height,
                "reported, one run",
                facecolor="white",
                edgecolor=GOLD,
                hatch="////",
            )
            figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
        names = [
            f"{_short(true)} → {_short(predicted)}"
            for true, predicted in zip(table["true"], table["predicted"], strict=True)
        ]
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.margins(x=0.16)
        axes.set_xlim(left=0)
        axes.set_xlabel(f"share of the true class' {noun.many}, %")
    return figure


def _bars(
    axes: Axes,
    places: NDArray[np.float64],
    counts: pd.Series[Any],
    images: pd.Series[Any],
    height: float,
    label: str,
    **style: Any,
) -> None:
    shares = (100 * counts / images).astype(float)
    bars = axes.barh(places, shares, height, label=label, **(style or {"color": INK}))
    texts = [f"{count:,.0f} of {of:,.0f}" for count, of in zip(counts, images, strict=True)]
    axes.bar_label(bars, texts, padding=4, fontsize=8)


@remembered
def class_bars(table: pd.DataFrame, noun: Noun = TEST_IMAGES) -> Figure:
    """Bars of each class' accuracy (%) with Wilson's 95 % interval, their mean dashed, from
    classification.accuracies; where all lie high, the same as dots on a closer scale beside.
    """
    n = len(table)
    known = table[table["images"] > 0]
    low, high = (np.array([pair[i] for pair in known["interval"]]) for i in (0, 1))
    whiskers = 100 * np.array([known["accuracy"] - low, high - known["accuracy"]]).clip(0)
    mean = 100 * known["accuracy"].mean()
    near = low.min() > 0.5
    with mpl.rc_context(STYLE):
        inches = 0.32 if n <= _WITH_NUMBERS else 0.15
        figure = Figure(figsize=(8, 1.3 + inches * n))
        both = figure.subplots(1, 1 + near, sharey=True, squeeze=False)[0]
        figure.set_layout_engine("constrained")
        size = 9 if n <= _WITH_NUMBERS else 6
        bars = both[0]
        bars.barh(known.index, 100 * known["accuracy"], 0.7, color=_BAR)
        bars.set_xlim(0, 100)
        if near:
            dots = both[1]
            bars.set_title("from 0", loc="left", fontsize=10)
            dots.set_title("the same, closer", loc="left", fontsize=10)
            dots.grid(axis="x", color="0.9", linewidth=0.6)
            dots.tick_params(axis="y", length=0)
        for axes in both:
            axes.errorbar(
                100 * known["accuracy"],
                known.index,
                xerr=whiskers,
                fmt="o" if axes is not bars else "none",
                markersize=4,
                color=INK,
                ecolor=INK,
                elinewidth=1.2,
                capsize=2.5 if n <= _WITH_NUMBERS else 1,
            )
            axes.axvline(mean, color="black", linestyle="--", linewidth=1.1)
            axes.set_xlabel(f"{noun.accuracy}, %")
        bars.set_yticks(range(n), _names(list(table["class"])), fontsize=size)
        bars.set_ylim(n - 0.4, -0.6)
        line = Line2D(
            [], [], color="black", linestyle="--", label=f"mean of the classes, {mean:.2f} %"
        )
        reach = Line2D([], [], color=INK, label="Wilson's 95 % interval")
        figure.legend(
            handles=[line, reach], loc="outside lower center", ncols=2, fontsize=8, frameon=False
        )
    return figure


@remembered
def calibration(bins: pd.DataFrame, title: str, noun: Noun = TEST_IMAGES) -> Figure:
    """Reliability diagram of classification.reliability: accuracy against confidence, and below it
    how many images have that confidence.
    """
    width = bins["high"] - bins["low"]
    known = bins[bins["images"] > 0]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6, 6.5))
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        figure.set_layout_engine("constrained")
        above.bar(
            known["low"], known["accuracy"], width[known.index], align="edge", color=_BAR,
            edgecolor="white", linewidth=0.6, label=f"accuracy of the bin's {noun.short}",
        )  # fmt: skip
        above.bar(
            known["low"],
            known["confidence"] - known["accuracy"],
            width[known.index],
            bottom=known["accuracy"],
            align="edge",
            facecolor="none",
            edgecolor=INK,
            hatch="////",
            linewidth=0.8,
            label="from there to their mean confidence",
        )
        above.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1.1, label="both equal")
        above.set_ylabel("accuracy")
        above.set_ylim(0, 1)
        above.set_title(title, loc="left", fontsize=10)
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
        below.bar(
            bins["low"], bins["images"], width, align="edge", color=_BAR,
            edgecolor="white", linewidth=0.6,
        )  # fmt: skip
        below.set_ylabel(noun.short)
        below.set_xlabel("confidence: the predicted class' probability")
        below.set_xlim(0, 1)
        below.yaxis.set_major_locator(Whole(4))
        figure.align_ylabels([above, below])
    return figure
