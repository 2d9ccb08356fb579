"""The page as text: Markdown, LaTeX and CSV obey nothing that a name says."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from pathlib import Path

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st
from test_page import PAGE, scores

from analysis.output.formats import latex as latex_text
from analysis.output.formats import markdown as markdown_text
from analysis.output.model import Part, Section, Table
from analysis.output.page import Page


def test_kinds_of_columns() -> None:
    frame = scores().assign(long="a line of more than thirty characters")
    frame["empty"] = "-"
    kinds = Table("t", "c", frame).kinds
    assert kinds == ["words", "number", "number", "number", "prose", "prose", "words"]


def test_text_is_text_in_every_format(tmp_path: Path) -> None:
    out = PAGE.write(tmp_path / "report").parent
    markdown = (out / "report.md").read_text()
    assert not re.search(r"<(?!br>)", markdown)
    assert "| --- | ---: | ---: | ---: | --- |" in markdown
    assert "12 images, in report.html" in markdown
    assert "\n2 sweeps\n\nThe best" in markdown
    assert "\n## Results\n\nWhat is found" in markdown
    assert r"\begin{tabular}{lrrrl}" in (out / "tables" / "scores.tex").read_text()


def file_of(page: Page, name: str) -> str:
    return next(str(content) for found, content in page.files() if found == name)


def test_latex_takes_no_cell_for_an_argument_of_the_row_before() -> None:
    frame = pd.DataFrame({"trial": ["[2cm]", "*", "plain"], "n": [1, 2, 3]})
    page = Page("t", [Section("s", [Part(tables=[Table("t", "c", frame)])])])
    text = file_of(page, "tables/t.tex")
    assert not re.search(r"(\\\\|rule)\s*[\[*]", text)
    assert "{}[2cm] & 1" in text


def csv_of(frame: pd.DataFrame) -> list[list[str]]:
    page = Page("t", [Section("s", [Part(tables=[Table("t", "c", frame)])])])
    return list(csv.reader(io.StringIO(file_of(page, "tables/t.csv"))))


def test_a_spreadsheet_runs_no_cell() -> None:
    trials = ["=1+1", "+x", "-x", "@x", "\tx", "plain", "-", "a\n=b"]
    trials += [" =1+1", "\x00=1+1", "\u00a0@x"]
    numbers = ["-8.03", "+8.62", "-1.00 to 2.00", "1e-05", "-inf", "", "5", "+1.00 to +2.00"]
    numbers += ["1", "2", "3"]
    head, *rows = csv_of(pd.DataFrame({"=trial": trials, "number": numbers}))
    assert head == ["'=trial", "number"]
    safe = ["'=1+1", "'+x", "'-x", "'@x", "'\tx", "plain", "'-", "a; =b"]
    safe += ["' =1+1", "'=1+1", "'\u00a0@x"]
    assert [row[0] for row in rows] == safe
    assert [row[1] for row in rows] == numbers


@given(st.text(min_size=1).filter(lambda text: not re.search(r"[\r\n]", text)))
def test_a_cell_comes_back_from_csv_or_has_an_apostrophe_before_it(text: str) -> None:
    (_, (cell,)) = csv_of(pd.DataFrame({"trial": [text]}))
    kept = "".join(char for char in text if char == "\t" or unicodedata.category(char) != "Cc")
    assert cell in (kept, "'" + kept)
    assert not cell.startswith("\t")
    assert not cell.lstrip().startswith(("=", "@"))


def test_control_characters_reach_no_text() -> None:
    hostile = "a\x1b[31m\x07b\x9bc\x85d\x7f\te\nf"
    assert markdown_text(hostile) == "a\\[31mbcd\te<br>f"
    assert latex_text(hostile) == "a[31mbcd\te; f"
    assert csv_of(pd.DataFrame({"trial": [hostile]}))[1] == ["a[31mbcd\te; f"]


def test_markdown_links_nowhere() -> None:
    text = markdown_text("https://x.y WWW.x.y a@b.c @team")
    assert text == "https&#58;//x.y WWW&#46;x.y a&#64;b.c &#64;team"


def test_a_list_and_a_code_block_are_no_way_to_begin_a_paragraph() -> None:
    page = Page("t", [Section("s", [Part(notes=["1. x", "    code", "- item", "# head"])])])
    lines = page.markdown().splitlines()
    assert {r"1\. x", "code", r"\- item", r"\# head"} <= set(lines)
