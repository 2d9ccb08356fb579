"""How every figure is drawn: without a display, and with the same bytes for the same data.

Cividis throughout: it reads the same with and without colour vision (Nunez et al. 2018).
"""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# Names come from users: a dollar sign in one is no formula.
STYLE: Any = {
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "sweeps",
    "hatch.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
INK = "#00224e"  # cividis' dark end
GOLD = "#a59c74"  # and its middle


def png(figure: Figure) -> bytes:
    """144 dots an inch."""
    return _bytes(figure, "png", {"Software": None})


def svg(figure: Figure) -> bytes:
    """Text as outlines: it looks the same on a machine without the font."""
    return _bytes(figure, "svg", {"Creator": None, "Date": None})


def pdf(figure: Figure) -> bytes:
    return _bytes(figure, "pdf", {"Creator": None, "Producer": None, "CreationDate": None})


def _bytes(figure: Figure, kind: str, metadata: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        if figure.get_layout_engine() is not None:
            # Once and not for each format: the layout is half of what drawing takes.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=kind, dpi=144, metadata=metadata)
    return buffer.getvalue()
