"""A page: sections of text, tables and figures, and its writing as HTML, Markdown, CSV, LaTeX.

All text is plain text here; each format escapes it in its own way, and none trusts it.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup

from analysis.figures import glyphs
from analysis.figures.style import pdf
from analysis.output.formats import csv_table, latex_table, markdown, without_controls
from analysis.output.model import Look, Part, Section, Table
from analysis.output.publish import MANIFEST, put, replacing
from local_machine.terminal import counted

_TEMPLATES = Path(__file__).with_name("templates")
_LARGE_CSV = 100_000  # characters


@dataclass(frozen=True)
class Page:
    """`lead` is what a reader reads first: a few sentences, beside the figures of `answer` and
    above its tables. `about` says in a line what the page is about. Where figures could not draw a
    name, a section at the end says what stands for it.
    """

    title: str
    sections: list[Section]
    lead: list[str] = field(default_factory=list)
    about: str = ""
    answer: Part = field(default_factory=Part)

    def __post_init__(self) -> None:
        names = glyphs.prepare(p.figure for part in self.parts for p in part.pictures)
        if names:
            self.sections.append(_stand_ins(names))

    @property
    def parts(self) -> list[Part]:
        return [self.answer, *(part for section in self.sections for part in section.parts)]

    @property
    def by_look(self) -> list[tuple[Look, list[Section]]]:
        """The sections in the page's order: what is always open comes first."""
        found = [(look, [one for one in self.sections if one.look is look]) for look in Look]
        return [(look, some) for look, some in found if some]

    def write(self, out: Path) -> Path:
        """Write report.html, report.md, tables/, figures/ and their list; returns report.html's
        path.

        An earlier report in `out` is replaced whole: until the last file is written it stays as it
        is, and so it does where writing fails. Files of others beside it stay too. Raises
        InputError as `check_out` does, and where a file that is not a report's stands where one of
        this report belongs; OSError where it cannot be written.
        """
        with replacing(Path(os.path.realpath(out))) as folder:
            sums: dict[str, str] = {}
            for name, content in self.files():
                if name in sums:
                    raise ValueError(f"two tables or figures are called {name}")
                sums[name] = put(folder / name, content)
            put(folder / MANIFEST, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))
        return out / "report.html"

    def files(self) -> Iterator[tuple[str, str | bytes]]:
        """Name and content of every file of the report."""
        for part in counted(self.parts, len(self.parts), "wrote {} of {} parts of the report"):
            for table in part.tables:
                yield f"tables/{table.name}.csv", csv_table(table)
                yield f"tables/{table.name}.tex", latex_table(table)
            for picture in part.pictures:
                yield f"figures/{picture.name}.png", picture.png
                yield f"figures/{picture.name}.svg", picture.svg
                yield f"figures/{picture.name}.pdf", pdf(picture.figure)
        yield "report.md", self.markdown()
        yield "report.html", self.html()

    def html(self) -> str:
        css, js = (Markup((_TEMPLATES / name).read_text()) for name in ("report.css", "report.js"))
        parts = [part for section in self.sections for part in section.parts]
        charts = [chart for part in parts for chart in part.interactive]
        scripts = dict.fromkeys([js, *(script for chart in charts for script in chart.scripts)])
        # The policy allows the page's own sheet and scripts, by their hashes. Bokeh writes styles
        # into its elements, which no hash can know before: where it draws, any style is allowed
        # that stands in the page, but none from elsewhere, and scripts by their hashes alone.
        return _template("report.html.j2").render(
            page=self,
            looks=Look,
            csv_link=_csv_link,
            css=css,
            css_source=Markup("'unsafe-inline'") if charts else _source(css),
            scripts=[Markup(script) for script in scripts],
            script_sources=Markup(" ").join(map(_source, scripts)),
            json_block=_json_block,
        )

    def markdown(self) -> str:
        return _template("report.md.j2", markdown).render(page=self)


def _stand_ins(names: dict[str, str]) -> Section:
    said = (
        "No font of the machine that wrote this report has the letters of these names, so that the "
        "figures have another in their place. With such a font the next report draws them. For "
        "Chinese, Japanese and Korean: pip install notojp-matplotlib."
    )
    rows = pd.DataFrame({"in the figures": names.values(), "name": names.keys()})
    table = Table("names-in-figures", "What stands for which name in the figures", rows)
    return Section("Names in the figures", [Part(notes=[said], tables=[table])])


def _json_block(data: str) -> Markup:
    """JSON that cannot end the element that holds it: there "<" stands in texts alone."""
    return Markup(data.replace("<", "\\u003c"))


def _csv_link(table: Table) -> str:
    """Where the page finds the table's CSV: in itself, so that it can be sent without its folder;
    a large one beside it."""
    text = csv_table(table)
    if len(text) > _LARGE_CSV:
        return f"tables/{quote(table.name)}.csv"
    return f"data:text/csv;charset=utf-8,{quote(text)}"


def _source(text: str) -> Markup:
    """The source expression by which a content policy allows an inline sheet or script."""
    digest = hashlib.sha256(text.encode()).digest()
    return Markup(f"'sha256-{base64.b64encode(digest).decode()}'")


@cache
def _template(name: str, finalize: Callable[[object], str] | None = None) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=finalize is None,
        finalize=finalize or without_controls,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)
