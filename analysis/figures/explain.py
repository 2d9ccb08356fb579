"""Figures of test images: what a network saw in them, and those that it got wrong.

A network's images are 32 pixels wide. They are drawn with sharp pixels, as it was given them: a
smooth enlargement shows detail that is not there.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.figures.memory import remembered
from analysis.figures.style import INK, STYLE

MAP_SHARE = 0.72  # of a pixel's colour where the map is highest; the rest is the image, in grey

_FEW = 4  # classes, up to which the images are drawn larger
_GREY = "0.45"
_COLUMNS = 10  # of the sheet


@dataclass(frozen=True, eq=False)
class Tile:
    """An image, uint8 (H, W, 3), the lines of text beside it, and its map (H, W) in 0..1."""

    image: NDArray[np.uint8]
    lines: Sequence[str]
    heat: NDArray[np.float32] | None = None


Row = tuple[str, Tile | None, Tile | None]


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The map over the image in grey, so that every hue is the map's, the more of it the higher
    it is: where it is low the image stays as it is. (H, W, 3)."""
    # Rec. 601, as in every conversion from RGB to grey.
    grey = image @ np.array([0.299, 0.587, 0.114]) / 255
    found: NDArray[np.uint8] = np.rint(255 * _over(grey, heat)).astype(np.uint8)
    return found


def _over(grey: NDArray[np.float64], heat: NDArray[Any]) -> NDArray[np.float64]:
    # From purple to orange: the ends of the map would be taken for black and white of the image.
    colours = mpl.colormaps["inferno"](0.25 + 0.5 * heat)[..., :3]
    share = MAP_SHARE * np.asarray(heat)[..., None]
    mixed: NDArray[np.float64] = share * colours + (1 - share) * grey[..., None]
    return mixed


@remembered
def grad_cam(rows: Sequence[Row]) -> Figure:
    """A row a class: its name, then a right and a wrong sample, each with its map and its lines."""
    side = 1.25 if len(rows) <= _FEW else 0.8
    gap, name, text = 0.06, 1.25, 1.25
    head, foot = 0.42, 0.62
    pair = 2 * side + gap
    width = name + 2 * (pair + gap + text) + 0.1
    height = head + len(rows) * (side + gap) + foot
    with mpl.rc_context(STYLE):
        paper = _paper(width, height)
        lefts = {"right": name, "wrong": name + pair + gap + text}
        _text(paper, name - 0.12, 0.12, "true class", ha="right", va="top", size=9)
        for word, left in lefts.items():
            _text(paper, left, 0.12, f"most confident {word}", va="top", size=9, weight="bold")
        for number, (label, *tiles) in enumerate(rows):
            top = head + number * (side + gap)
            middle = top + side / 2
            _text(paper, name - 0.12, middle, _wrap([label], 13, 2), ha="right", size=9, color=INK)
            for (word, left), tile in zip(lefts.items(), tiles, strict=True):
                if tile is None:
                    _text(paper, left, middle, f"none is {word}", size=8, color=_GREY)
                    continue
                _draw(paper, left, top, side, tile.image)
                if tile.heat is not None:
                    over = overlay(tile.image, tile.heat)
                    _draw(paper, left + side + gap, top, side, over)
                _text(paper, left + pair + 0.1, middle, _wrap(tile.lines, 15, 2), size=8)
        _bar(paper, name, height - foot + 0.08, width - name - 1.2)
    return paper.figure


@remembered
def sheet(tiles: Sequence[Tile]) -> Figure:
    """Images in rows, each over its lines of text, of which each is cut to fit."""
    side, gap, text = 0.78, 0.16, 0.56
    width = _COLUMNS * (side + gap) + gap
    height = -(-len(tiles) // _COLUMNS) * (side + text) + gap
    with mpl.rc_context(STYLE):
        paper = _paper(width, height)
        for number, tile in enumerate(tiles):
            row, column = divmod(number, _COLUMNS)
            left, top = gap + column * (side + gap), gap + row * (side + text)
            _draw(paper, left, top, side, tile.image)
            _text(paper, left, top + side + 0.05, _wrap(tile.lines, 15, 1), va="top", size=6.5)
    return paper.figure


@dataclass(frozen=True, eq=False)
class _Paper:
    """A figure with one pair of axes over all of it, in inches from its upper left corner: a
    hundred small ones would take seconds.
    """

    figure: Figure
    axes: Axes


def _paper(width: float, height: float) -> _Paper:
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    return _Paper(figure, axes)


def _draw(paper: _Paper, left: float, top: float, side: float, image: NDArray[np.uint8]) -> None:
    extent = (left, left + side, top + side, top)
    paper.axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest")


def _text(
    paper: _Paper,
    left: float,
    top: float,
    text: str,
    *,
    size: float,
    ha: str = "left",
    va: str = "center",
    **style: Any,
) -> None:
    paper.axes.text(left, top, text, ha=ha, va=va, fontsize=size, **style)


def _bar(paper: _Paper, left: float, top: float, length: float) -> None:
    width, height = paper.figure.get_size_inches()
    thickness = 0.12
    place = (
        left / width,
        1 - (top + thickness) / height,
        length / width,
        thickness / height,
    )
    steps = np.linspace(0, 1, 256)
    shades = mpl.colors.ListedColormap(_over(np.full(256, 0.6), steps))
    colours = ScalarMappable(mpl.colors.Normalize(0, 1), shades)
    bar = paper.figure.colorbar(
        colours, cax=paper.figure.add_axes(place), orientation="horizontal", ticks=[0, 0.5, 1]
    )
    bar.ax.tick_params(labelsize=8, length=2)
    bar.set_label("Grad-CAM, as a share of the image's own maximum", fontsize=8)


def _wrap(lines: Sequence[str], width: int, most: int) -> str:
    """Each broken into at most so many, and cut there: a class' name may be of any length."""
    found = []
    for line in lines:
        broken = textwrap.wrap(line, width)
        if len(broken) > most:
            last = broken[most - 1][: width - 1]
            broken = [*broken[: most - 1], f"{last}\N{HORIZONTAL ELLIPSIS}"]
        found += broken
    return "\n".join(found)
