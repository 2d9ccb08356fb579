"""A table as Markdown, LaTeX and CSV, with nothing in it obeyed."""

from __future__ import annotations

import csv
import io
import re

from markupsafe import Markup

from analysis.output.model import Table
from analysis.output.table_text import show
from analysis.text.csv_cell import CONTROLS, csv_cell


def without_controls(value: object) -> object:
    """A text without them; what is markup already, and what is not text, as it is."""
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return CONTROLS.sub("", str(value)) if plain else value


def markdown(value: object) -> str:
    """Text that no Markdown reader takes for markup or a link, in a table's cell or out of it."""
    text = CONTROLS.sub("", str(value)).strip()
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*_{}\[\]()#+!|~$-])", r"\\\1", text)
    text = re.sub(r"^(\d+)\.", r"\1\\.", text)  # no list's first item
    text = text.replace("://", "&#58;//").replace("@", "&#64;")
    text = re.sub(r"(www)\.", r"\1&#46;", text, flags=re.IGNORECASE)
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
    text = "".join(_LATEX.get(char, char) for char in CONTROLS.sub("", str(value)))
    return re.sub(r"[\r\n]+", "; ", text)


def latex_table(table: Table) -> str:
    """A tabular for `booktabs`."""
    rows = [" & ".join(map(latex, row)) for row in table.shown.itertuples(index=False)]
    # After a row's end LaTeX takes a star or a bracket for an argument of that end.
    rows = ["{}" + row if row.startswith(("*", "[")) else row for row in rows]
    sides = "".join("r" if kind == "number" else "l" for kind in table.kinds)
    return "\n".join(
        [
            "% " + " ".join(CONTROLS.sub("", table.caption).split()),
            rf"\begin{{tabular}}{{{sides}}}",
            r"\toprule",
            " & ".join(map(latex, table.shown.columns)) + r" \\",
            r"\midrule",
            *(row + r" \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def csv_table(table: Table) -> str:
    """Every number in its own column, nothing where one is missing."""
    frame = show(table.frame, merge=False, missing="")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in [frame.columns, *frame.to_numpy()]:
        writer.writerow(csv_cell(str(value)) for value in row)
    return text.getvalue()
