"""Tables on a terminal and off it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from local_machine.errors import drawn_on, printable

WIDE = 10_000
STYLES = {"done": "green", "running": "cyan", "failed": "red", "lost": "yellow"}


def console(stream: TextIO) -> Console:
    """A console that fits the terminal; off one, so wide that nothing is cut or wrapped."""
    return Console(file=drawn_on(stream), width=None if stream.isatty() else WIDE, highlight=False)


def text(words: str, style: str = "") -> Text:
    """Words for rich to draw: nothing in them is obeyed, neither by it nor by a terminal."""
    return Text(printable(words), style=style)


def make(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> Table:
    """A table of plain text; `rich` markup and escape sequences in a cell are shown, not obeyed."""
    table = Table(box=box.SIMPLE_HEAD, title=text(title) if title else None, title_justify="left")
    for column in columns:
        table.add_column(text(column), overflow="fold")
    for row in rows:
        table.add_row(*(text(cell, STYLES.get(cell, "")) for cell in row))
    return table


def show(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """Print the table on stdout."""
    rows = [tuple(row) for row in rows]
    where = console(sys.stdout)
    rich_only = title or where.is_terminal or not where.encoding.startswith("utf")
    plain = None if rich_only else _plain([tuple(columns), *rows])
    if plain is None:
        where.print(make(columns, rows, title))
    else:
        print("\n".join(plain))


def _plain(rows: Sequence[Sequence[str]]) -> list[str] | None:
    """The lines that rich would print off a terminal, in a hundredth of its time; None for text
    that it would not print as it is."""
    if not all(cell.isascii() and cell.isprintable() for row in rows for cell in row):
        return None
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    total = sum(widths) + 3 * len(widths) + 1
    if total > WIDE:
        return None
    lines = ["  " + "   ".join(map(str.ljust, row, widths)) + "  " for row in rows]
    rule = f" {'─' * (total - 2)} "
    return [" " * total, lines[0], rule, *lines[1:], " " * total]
