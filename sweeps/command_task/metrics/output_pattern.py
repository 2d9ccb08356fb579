"""Metrics in the lines that a program prints, by a pattern with names."""

from __future__ import annotations

import re
from pathlib import Path

from local_machine.errors import InputError
from sweeps.command_task.metrics.line_files import LineFiles
from sweeps.command_task.metrics.source import Position, Raw

OUTPUT_FILE = ".output.txt"
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


class OutputPattern(LineFiles):
    """Every line in which the pattern is found is a row. The output is a file in the program's
    folder, so that no line of it is lost, whoever is killed when."""

    ends = (b"\n", b"\r")  # also of a progress bar

    def __init__(self, folder: Path, pattern: str, position: Position) -> None:
        super().__init__(folder, OUTPUT_FILE, position)
        self.output = folder / OUTPUT_FILE
        self._pattern = pattern
        self._expression, self._names = compiled(pattern)
        self._heard = 0

    def parsed(self, name: str, lines: list[str], head: str) -> list[Raw]:
        self._heard += len(lines)
        rows = [
            dict(zip(self._names, found.groups(), strict=False))
            for line in lines
            if (found := self._expression.search(line)) is not None
        ]
        return [{name: text for name, text in row.items() if text is not None} for row in rows]

    def missing(self) -> str:
        return f"none of the {self._heard} lines that it printed is like {self._pattern!r}"
