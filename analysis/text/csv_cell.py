"""A cell of a CSV file: nothing in it is obeyed by a terminal or run by a spreadsheet."""

from __future__ import annotations

import re

# C0 and C1 but tab and line breaks: a terminal obeys them, XML and LaTeX refuse them. And what
# turns the direction of the text behind it, so that it reads as another.
CONTROLS = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
# As analysis.output.table_text.show writes them: a number, a mean ± sd, an interval, n of planned.
_PLAIN = r"[+-]?(?:\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?|inf)"
NUMERIC = re.compile(rf"{_PLAIN}(?: (?:±|to|of) {_PLAIN})?(?: %)?")


def csv_cell(text: str) -> str:
    """An apostrophe before what a spreadsheet would take for a formula, such as a trial named
    `=1+1`; a line break as a semicolon."""
    text = CONTROLS.sub("", text)
    formula = re.match(r"[\t\r]|\s*[=+@-]", text) and not NUMERIC.fullmatch(text)
    return "'" * bool(formula) + re.sub(r"[\r\n]+", "; ", text)
