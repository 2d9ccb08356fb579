"""Metrics in the lines that a program prints, by a pattern with names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from local_machine.errors import InputError
from sweeps.command_task.metrics.line_files import LineFiles
from sweeps.command_task.metrics.output_lines import plain_text
from sweeps.command_task.metrics.source import Position, Raw
from trial_records.metrics import STEPS

OUTPUT_FILE = ".output.txt"
"""In the program's folder: what it printed."""
# In a position, beside the file: the step that was printed last.
_STEP = "step"
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


def _needed(pattern: str) -> str:
    """What a line must have in it, in small letters, to be like the pattern: its longest word. To
    look for that takes a tenth of the time of the regular expression."""
    if "(?P<" in pattern:
        return ""
    words = re.split(r"\s+|\*", _NAME.sub("*", pattern))
    return max((word.lower() for word in words if word.isascii()), key=len, default="")


def _literal(text: str) -> str:
    """Any blanks match where there are some; * matches anything."""
    parts = re.split(r"(\s+|\*)", text)
    return "".join(
        r"\s+" if part.isspace() else r".*?" if part == "*" else re.escape(part) for part in parts
    )


class OutputPattern(LineFiles):
    """Every line in which a pattern is found is a row; where it does not say its step, it is of
    the step that the program printed last. A step alone is not a row.

    The output is a file in the program's folder, to which the program prints by itself: so no line
    of it is lost, whoever is killed when."""

    ends = (b"\n", b"\r")  # also of a progress bar

    def __init__(
        self, patterns: Sequence[str], folder: Path, position: Position, step: str | None = None
    ) -> None:
        files = {name: given for name, given in position.items() if name != _STEP}
        super().__init__(folder, OUTPUT_FILE, files)
        self.output = folder / OUTPUT_FILE
        self._patterns = patterns
        self._compiled = [(*compiled(pattern), _needed(pattern)) for pattern in patterns]
        self._steps = {*STEPS, step}
        self._last: Raw = position.get(_STEP, {})
        self._heard = 0

    def parsed(self, name: str, lines: list[str], head: str) -> list[Raw]:
        self._heard += len(lines)
        return [row for line in lines for row in self._rows_of(plain_text(line))]

    def _rows_of(self, line: str) -> Iterator[Raw]:
        # Of other letters there are more that are equal but for their case.
        lower = line.lower() if line.isascii() else None
        for expression, groups, needed in self._compiled:
            if lower is not None and needed not in lower:
                continue
            if (found := expression.search(line)) is None:
                continue
            values = [(name, found[number]) for name, number in groups.items()]
            row = {name: text.replace(",", "") for name, text in values if text is not None}
            steps = {name: text for name, text in row.items() if name in self._steps}
            self._last = steps or self._last
            if len(row) > len(steps):
                yield {**self._last, **row}

    def position(self) -> Position:
        return {**super().position(), _STEP: dict(self._last)}

    def missing(self) -> str:
        patterns = " or ".join(map(repr, self._patterns))
        return f"none of the {self._heard} lines that it printed is like {patterns}"
