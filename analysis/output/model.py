"""What a report is made of: sections, parts, tables, pictures."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Literal

import pandas as pd
from matplotlib.figure import Figure

from analysis.figures.style import png, svg
from analysis.output.table_text import show
from analysis.text.csv_cell import NUMERIC
from analysis.text.numbers import fixed

_VECTOR_LIMIT = 300_000  # bytes of an SVG, above which a smaller PNG takes its place in the page
_LONG_LINE = 30  # characters, above which a cell's line is broken
_HIGH = 150  # rows
PAGE_ROWS = 500
"""Of a longer table the page has so many rows; its CSV and LaTeX, and report.md, have all."""


@dataclass(frozen=True)
class Table:
    """`name` becomes tables/<name>.csv and .tex, and `anchor` its place in the page."""

    name: str
    caption: str
    frame: pd.DataFrame
    links: tuple[str, ...] = ()
    """Anchors of the page to which the first cells of the rows lead; an empty one leads nowhere."""
    best: tuple[str, Literal["maximize", "minimize"]] | None = None
    """A column of numbers, and which of them are best: of a long table the page has the best rows,
    not the first."""

    @property
    def anchor(self) -> str:
        return f"table-{self.name}"

    @cached_property
    def shown(self) -> pd.DataFrame:
        return show(self.frame)

    @cached_property
    def page_rows(self) -> list[tuple[tuple[str, ...], str]]:
        """The cells of each row that the page has, and where its first cell leads."""
        links = self.links or ("",) * len(self.shown)
        rows = list(zip(self.shown.itertuples(index=False, name=None), links, strict=True))
        if self.best is None or len(rows) <= PAGE_ROWS:
            return rows[:PAGE_ROWS]
        values = pd.Series(self.frame[self.best[0]].to_numpy(float, na_value=math.nan))
        order = values.sort_values(ascending=self.best[1] == "minimize", kind="stable")
        return [rows[place] for place in order.index[:PAGE_ROWS]]

    @property
    def is_long(self) -> bool:
        """Whether it is higher than any window, so that its box has the height that it may have."""
        return len(self.frame) > _HIGH

    @property
    def left_out(self) -> str:
        """What the page says of the rows that it does not have."""
        if len(self.frame) <= PAGE_ROWS:
            return ""
        which = f"best {PAGE_ROWS} by {self.best[0]}" if self.best else f"first {PAGE_ROWS}"
        return f"These are the {which} of {len(self.frame):,} rows. The CSV file has all of them."

    @cached_property
    def kinds(self) -> list[str]:
        """For each shown column: "number" where its cells are numbers, intervals or missing,
        "prose" where a line of one is long enough to be broken, else "words".
        """
        return [_kind(list(self.shown.iloc[:, i])) for i in range(self.shown.shape[1])]


@dataclass(frozen=True)
class Picture:
    """`name` becomes figures/<name>.png, .svg and .pdf; the caption is its text for those who
    cannot see it, and says what the figure shows without any other text.

    `raster`: the page holds it as PNG and not as SVG, for what is made of pixels.
    """

    name: str
    caption: str
    figure: Figure
    raster: bool = False

    @property
    def anchor(self) -> str:
        return f"figure-{self.name}"

    @cached_property
    def png(self) -> bytes:
        return png(self.figure)

    @cached_property
    def svg(self) -> bytes:
        return svg(self.figure)

    @cached_property
    def data_uri(self) -> str:
        vector = b"" if self.raster else self.svg
        if vector and (len(vector) <= _VECTOR_LIMIT or len(vector) <= len(self.png)):
            return _data_uri("image/svg+xml", vector)
        return _data_uri("image/png", self.png)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in CSS pixels, which are 96 an inch."""
        width, height = self.figure.get_size_inches()
        return round(96 * width), round(96 * height)


@dataclass(frozen=True)
class Sample:
    """A test image and what was predicted for it."""

    png: bytes
    index: int  # in the data set's test set
    true: str
    predicted: str
    confidence: float  # the predicted class' probability

    @property
    def data_uri(self) -> str:
        return _data_uri("image/png", self.png)

    @property
    def percent(self) -> str:
        """Without decimals; what is not certain never reads 100 %."""
        if 0.995 <= self.confidence < 1:
            return "> 99 %"
        return f"{fixed(100 * self.confidence, digits=0)} %"


@dataclass(frozen=True)
class Gallery:
    """Images that a reader filters by their true and their predicted class."""

    caption: str
    samples: list[Sample]
    data: str = ""
    """The identity of the data set that the images are of, as in dataset.of."""


@dataclass(frozen=True)
class Interactive:
    """What a reader works with in the page; a page without scripts does not show it.

    `markup` is the place where the scripts draw, escaped HTML; `data` is JSON, which the page holds
    in an element of the id `<name>-data`; `scripts` are JavaScript, of which a page holds each once
    and allows it by its hash.
    """

    name: str
    caption: str
    markup: str
    data: str
    scripts: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True)
class Part:
    """What a section says about one launch, or about everything where `title` is empty."""

    title: str = ""
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)
    gallery: Gallery | None = None
    interactive: list[Interactive] = field(default_factory=list)


class Look(StrEnum):
    """How a page shows a section, in the page's order."""

    CARD = "card"
    """Open, beside others where there is room."""
    OPEN = "open"
    FOLDED = "folded"
    """A heading and its finding, until a reader opens it."""


@dataclass(frozen=True)
class Section:
    """`finding` is what a reader who leaves the section closed knows of it: one line."""

    title: str
    parts: list[Part]
    finding: str = ""
    look: Look = Look.FOLDED

    @property
    def anchor(self) -> str:
        return _anchor(self.title)

    @property
    def anchors(self) -> list[str]:
        """The parts' places in the page, by their titles and not by their number."""
        found: list[str] = []
        for part in self.parts:
            name = f"{self.anchor}.{_anchor(part.title)}" if part.title else f"{self.anchor}.all"
            again = sum(one == name or one.startswith(f"{name}.") for one in found)
            found.append(f"{name}.{again + 1}" if again else name)
        return found


def _anchor(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


# --- formats ---------------------------------------------------------------------------------


def _kind(cells: list[str]) -> str:
    known = [cell for cell in cells if cell not in ("", "-")]
    if known and all(map(NUMERIC.fullmatch, known)):
        return "number"
    lines = [line for cell in known for line in cell.splitlines()]
    return "prose" if max(map(len, lines), default=0) > _LONG_LINE else "words"


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
