"""Tables on a terminal and off it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

STYLES = {"done": "green", "running": "cyan", "failed": "red", "lost": "yellow"}


def console(stream: TextIO) -> Console:
    """A console that fits the terminal; off one, so wide that nothing is cut or wrapped."""
    return Console(file=stream, width=None if stream.isatty() else 10_000, highlight=False)


def make(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> Table:
    """A table of plain text; `rich` markup in a cell is shown, not obeyed."""
    table = Table(box=box.SIMPLE_HEAD, title=Text(title) if title else None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    return table


def show(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Print the table on stdout."""
    console(sys.stdout).print(make(columns, rows, title))
