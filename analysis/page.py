"""A page: sections of text, tables and figures, and its writing as HTML, Markdown, CSV, LaTeX.

All text is plain text here; each format escapes it in its own way, and none trusts it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.figures.style import pdf, png
from analysis.tables import show
from trainer.errors import InputError
from trainer.record import write_atomic

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Table:
    """`name` becomes tables/<name>.csv and .tex."""

    name: str
    caption: str
    frame: pd.DataFrame

    @cached_property
    def shown(self) -> pd.DataFrame:
        return show(self.frame)


@dataclass(frozen=True)
class Picture:
    """`name` becomes figures/<name>.png and .pdf; the caption is its text for those who cannot
    see it, and says what the figure shows without any other text.

    `raster`: the page holds it as PNG and not as SVG, for what is made of pixels.
    """

    name: str
    caption: str
    figure: Figure
    raster: bool = False

    @cached_property
    def png(self) -> bytes:
        return png(self.figure)

    @property
    def data_uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Sample:
    """A test image and what was predicted for it."""

    png: bytes
    index: int  # in the data set's test set
    true: str
    predicted: str
    confidence: float  # the predicted class' probability


@dataclass(frozen=True)
class Gallery:
    """Images that a reader filters by their true and their predicted class."""

    caption: str
    samples: list[Sample]


@dataclass(frozen=True)
class Part:
    """What a section says about one launch, or about everything where `title` is empty."""

    title: str = ""
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    footnotes: list[str] = field(default_factory=list)
    gallery: Gallery | None = None


@dataclass(frozen=True)
class Section:
    title: str
    parts: list[Part]

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    title: str
    sections: list[Section]

    def write(self, out: Path) -> Path:
        """Write report.html, report.md, tables/ and figures/; returns report.html's path.

        Files of an earlier report are replaced one by one and never removed. Raises InputError
        where `out` cannot be a folder, OSError where it cannot be written.
        """
        for folder in (out / "tables", out / "figures"):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError):
                raise InputError(
                    f"cannot make the folder {folder}: a file is in the way",
                    "choose another folder with --out DIR",
                ) from None
        for section in self.sections:
            for part in section.parts:
                for table in part.tables:
                    _put(out / "tables" / f"{table.name}.csv", _csv(table))
                    _put(out / "tables" / f"{table.name}.tex", _latex(table))
                for picture in part.pictures:
                    _put(out / "figures" / f"{picture.name}.png", picture.png)
                    _put(out / "figures" / f"{picture.name}.pdf", pdf(picture.figure))
        _put(out / "report.md", self.markdown())
        page = out / "report.html"
        _put(page, self.html())
        return page

    def html(self) -> str:
        css = (_TEMPLATES / "report.css").read_text()
        # The policy allows this one style sheet by its hash, and no script at all.
        digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
        return _render("report.html.j2", page=self, css=Markup(css), css_hash=digest)

    def markdown(self) -> str:
        return _render("report.md.j2", markdown, page=self)


def _render(name: str, finalize: Callable[[object], str] | None = None, **values: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=finalize is None,
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(**values)


def _put(path: Path, content: str | bytes) -> None:
    # A lone surrogate, as a file's name can hold, has no UTF-8.
    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    write_atomic(path, lambda file: file.write(data))


def markdown(value: object) -> str:
    """Text that no Markdown reader takes for markup, in a table's cell or out of it."""
    text = str(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", text)
    return re.sub(r"\r\n|[\r\n]", "<br>", text)


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    **{char: "\\" + char for char in "&%$#_{}"},
}


def latex(value: object) -> str:
    """Text for LaTeX, a line break as a semicolon."""
    text = "".join(_LATEX.get(char, char) for char in str(value))
    return re.sub(r"[\r\n]+", "; ", text)


def _latex(table: Table) -> str:
    """A tabular for `booktabs`."""
    columns = table.shown.columns
    rows = [" & ".join(map(latex, row)) + r" \\" for row in table.shown.itertuples(index=False)]
    return "\n".join(
        [
            "% " + " ".join(table.caption.split()),
            rf"\begin{{tabular}}{{{'l' * len(columns)}}}",
            r"\toprule",
            " & ".join(map(latex, columns)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _csv(table: Table) -> str:
    frame = show(table.frame, merge=False, missing="")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows([cell.replace("\n", "; ") for cell in row] for row in frame.to_numpy())
    return text.getvalue()
