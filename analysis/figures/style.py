"""How every figure is drawn: without a display, and with the same bytes for the same data.

What is counted is drawn in cividis, which reads the same with and without colour vision (Nunez et
al. 2018); lines that a legend tells apart have hues of their own (`palette`).
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.figures import glyphs
from analysis.figures.memory import recall

# Names come from users: a dollar sign in one is not a formula.
STYLE: Any = {
    "text.parse_math": False,
    "font.family": glyphs.BASE,
    "font.size": 10,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "sweeps",
    "hatch.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # A number is written out: an offset above an axis is read past.
    "axes.formatter.useoffset": False,
}
INK = "#00224e"  # cividis' dark end
GOLD = "#a59c74"  # and its middle


# Tol's muted scheme (personal.sron.nl/~pault), which reads without colour vision too, its darker
# colours first; black for a tenth line.
_HUES = (
    "#332288", "#cc6677", "#117733", "#dd9922", "#44aa99", "#aa4499", "#88ccee", "#882255",
    "#999933", "#000000",
)  # fmt: skip


def palette(lines: int) -> list[str]:
    """A colour for each of so many lines: hues of their own as far as these are told apart, of more
    lines an even walk through cividis without its bright end, which is pale on white paper."""
    if lines <= len(_HUES):
        return list(_HUES[:lines])
    shades = mpl.colormaps["cividis"]
    return [mpl.colors.to_hex(shades(0.8 * i / (lines - 1))) for i in range(lines)]


# Values that differ by less, as a share of them or in themselves, differ by rounding alone.
_ROUNDING = 1e-9
_ROUNDING_AT_0 = 1e-10


class Whole(MaxNLocator):
    """Ticks at whole numbers, of an axis that counts."""

    def __init__(self, most: int = 9) -> None:
        super().__init__(nbins=most, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])


def span(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis from `low` to `high`: where both are equal but for rounding, some room
    around them, so that no axis has units of 1e-17.
    """
    middle = (low + high) / 2
    if high - low > max(_ROUNDING_AT_0, _ROUNDING * abs(middle)):
        return low, high
    middle = 0.0 if abs(middle) < _ROUNDING_AT_0 else middle
    reach = 0.05 * abs(middle) or 0.05
    return middle - reach, middle + reach


def settle(figure: Figure) -> None:
    """The rule for every axis: it has a width that its ticks can name, each with another text."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            if axes.axison and axis.get_scale() == "linear":
                _settle_width(axes, axis)
            _settle_ticks(axis)


def _settle_width(axes: Axes, axis: Axis) -> None:
    first, last = axis.get_view_interval()
    low, high = span(min(first, last), max(first, last))
    if isinstance(axis.get_major_locator(), Whole) and high - low < 1:
        middle = round((low + high) / 2)
        low, high = middle - 0.5, middle + 0.5
    if (low, high) != (min(first, last), max(first, last)):
        ends = (low, high) if first <= last else (high, low)
        (axes.set_xlim if axis is axes.xaxis else axes.set_ylim)(*ends)


def _settle_ticks(axis: Axis) -> None:
    """More digits, where numbers in view are written alike."""
    low, high = sorted(axis.get_view_interval())
    places = [float(place) for place in axis.get_majorticklocs() if low <= place <= high]
    texts = axis.get_major_formatter().format_ticks(places) if len(places) > 1 else []
    if len(set(texts)) < len(texts) and all(map(_is_number, texts)):
        known = dict(zip(places, numbers(places), strict=True))
        axis.set_major_formatter(
            FuncFormatter(lambda value, _: known.get(float(value), f"{value:g}"))
        )


def _is_number(text: str) -> bool:
    try:
        float(text.replace("\N{MINUS SIGN}", "-"))
    except ValueError:
        return False
    return True


def numbers(values: Sequence[float]) -> list[str]:
    """The values in six digits, or in as many more as tell all of them apart."""
    for digits in range(6, 17):
        texts = [f"{value:.{digits}g}" for value in values]
        if len(set(texts)) == len(set(values)):
            break
    return texts


def alone(values: Sequence[float]) -> list[int]:
    """Which values have no neighbour that a line could be drawn to: they need a mark."""
    known = [False, *(math.isfinite(value) for value in values), False]
    return [i for i in range(len(values)) if known[i + 1] and not (known[i] or known[i + 2])]


def empty(axes: Axes) -> None:
    """Axes without a value have no scale, and say so."""
    axes.set_yticks([])
    axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", color="0.45")


def png(figure: Figure) -> bytes:
    """144 dots an inch."""
    return _bytes(figure, "png", {"Software": None})


def svg(figure: Figure) -> bytes:
    """Text as outlines: it looks the same on a machine without the font."""
    return _bytes(figure, "svg", {"Creator": None, "Date": None})


def pdf(figure: Figure) -> bytes:
    return _bytes(figure, "pdf", {"Creator": None, "Producer": None, "CreationDate": None})


def _bytes(figure: Figure, kind: str, metadata: dict[str, Any]) -> bytes:
    return recall(figure, kind, lambda: _drawn(figure, kind, metadata))


def _drawn(figure: Figure, kind: str, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        settle(figure)
        glyphs.prepare([figure])
        if figure.get_layout_engine() is not None:
            # Once and not for each format: the layout is half of what drawing takes.
            figure.draw_without_rendering()
            figure.set_layout_engine(None)
        figure.savefig(buffer, format=kind, dpi=144, metadata=metadata)
    return buffer.getvalue()
