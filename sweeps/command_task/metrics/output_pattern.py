"""Metrics in the lines that a program prints, by a pattern with names."""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from pathlib import Path

from local_machine.errors import InputError
from sweeps.command_task.metrics.source import Position, Raw

_NUMBER = r"[-+]?(?:\d[\d_]*\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf(?:inity)?)"
_NAME = re.compile(r"\{([A-Za-z_][\w./\-]*)\}")


def compiled(pattern: str) -> tuple[re.Pattern[str], list[str]]:
    """The regular expression and the names of its groups, of a pattern: plain text with {name}
    where a number stands and * for anything; or a regular expression with (?P<name>...).
    Raises InputError."""
    names: list[str] = []
    if "(?P<" in pattern:
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise InputError(
                f"metrics: {pattern!r} is not a valid regular expression: {error}",
                "write plain text, and {name} where a number stands: epoch {epoch} loss {loss}",
            ) from None
        return expression, list(expression.groupindex)
    text, place = "", 0
    for found in _NAME.finditer(pattern):
        text += _literal(pattern[place : found.start()]) + f"({_NUMBER})"
        names.append(found[1])
        place = found.end()
    if not names or len(set(names)) < len(names):
        raise InputError(
            f"metrics: the pattern {pattern!r} has "
            + ("no name in it" if not names else "one name twice"),
            "write {name} where a number stands: output: epoch {epoch} loss {loss}",
        )
    return re.compile(text + _literal(pattern[place:]), re.IGNORECASE), names


def _literal(text: str) -> str:
    """Any blanks match where there are some; * matches anything."""
    parts = re.split(r"(\s+|\*)", text)
    return "".join(
        r"\s+" if part.isspace() else r".*?" if part == "*" else re.escape(part) for part in parts
    )


class OutputPattern:
    """Every line in which the pattern is found is a row."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._expression, self._names = compiled(pattern)
        # Filled by the thread that reads the output.
        self._rows: collections.deque[Raw] = collections.deque()
        self._heard = 0

    def hear(self, line: str) -> None:
        self._heard += 1
        if (found := self._expression.search(line)) is not None:
            row = dict(zip(self._names, found.groups(), strict=False))
            self._rows.append({name: text for name, text in row.items() if text is not None})

    def files(self) -> list[Path]:
        return []

    def read(self) -> Sequence[Raw]:
        return [self._rows.popleft() for _ in range(len(self._rows))]

    def position(self) -> Position:
        return {}

    def missing(self) -> str:
        return f"none of the {self._heard} lines that it printed is like {self._pattern!r}"
