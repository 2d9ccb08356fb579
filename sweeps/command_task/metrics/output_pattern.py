"""Metrics in the lines that a program prints, by a pattern with names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from local_machine.errors import InputError
from sweeps.command_task.metrics.line_files import JsonLines
from sweeps.command_task.metrics.source import Position, Raw
from trial_records.metrics import STEPS

HEARD = ".printed.jsonl"
"""In the program's folder: the rows of what it printed."""
# With separators of thousands, where each is followed by three digits.
_WHOLE = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d[\d_]*)"
_NUMBER = rf"[-+]?(?:(?:{_WHOLE}\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf(?:inity)?)"
_NAME = re.compile(r"\{([A-Za-z_][\w./\-]*)\}")


def compiled(pattern: str) -> tuple[re.Pattern[str], dict[str, int]]:
    """The regular expression and the groups by their names, of a pattern: plain text with {name}
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
        return expression, dict(expression.groupindex)
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
    groups = {name: number for number, name in enumerate(names, 1)}
    return re.compile(text + _literal(pattern[place:]), re.IGNORECASE), groups


def _literal(text: str) -> str:
    """Any blanks match where there are some; * matches anything."""
    parts = re.split(r"(\s+|\*)", text)
    return "".join(
        r"\s+" if part.isspace() else r".*?" if part == "*" else re.escape(part) for part in parts
    )


class OutputPattern:
    """Every line in which a pattern is found is a row; where it does not say its step, it is of
    the step that the program printed last. A step alone is not a row.

    What is printed is not there again for a later attempt, as a file is. So each row is written to
    a file at once, and read from there."""

    def __init__(
        self, patterns: Sequence[str], folder: Path, position: Position, step: str | None = None
    ) -> None:
        self._patterns = patterns
        self._compiled = [compiled(pattern) for pattern in patterns]
        self._steps = {*STEPS, step}
        self._last: Raw = {}
        self._path = folder / HEARD
        self._file = JsonLines(folder, HEARD, position)
        self._heard = 0
        self._error: OSError | None = None

    def hear(self, line: str) -> None:
        self._heard += 1
        for expression, groups in self._compiled:
            if (found := expression.search(line)) is None:
                continue
            values = [(name, found[number]) for name, number in groups.items()]
            row = {name: text.replace(",", "") for name, text in values if text is not None}
            steps = {name: text for name, text in row.items() if name in self._steps}
            self._last = steps or self._last
            if len(row) > len(steps):
                self._note({**self._last, **row})

    def _note(self, row: Raw) -> None:
        """In the thread that reads the output, which must not end before it does."""
        try:
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            self._error = error

    def files(self) -> list[Path]:
        return []

    def read(self) -> Sequence[Raw]:
        if self._error is not None:
            raise self._error
        return self._file.read()

    def position(self) -> Position:
        return self._file.position()

    def missing(self) -> str:
        patterns = " or ".join(map(repr, self._patterns))
        return f"none of the {self._heard} lines that it printed is like {patterns}"
