"""Two tables as CSV: trials.csv, a row for each trial, and metrics.csv, a row for each row logged.

Both are written whole, and only where something changed. Texts are written as a report writes them:
no spreadsheet takes one for a formula. Numbers have all of their digits.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.export.target import RESULT
from analysis.export.trial import Trial, by_sweep, read
from analysis.text.csv_cell import csv_cell
from local_machine.errors import InputError
from local_machine.files import read_file, write_atomic

TRIALS, METRICS = "trials.csv", "metrics.csv"


@dataclass
class Written:
    """What a pass came to."""

    trials: int = 0
    rows: int = 0
    changed: int = 0  # files

    def in_words(self) -> str:
        done = "written" if self.changed else "unchanged"
        return f"rows in {TRIALS}: {self.trials}, in {METRICS}: {self.rows}; {done}"


@dataclass
class CsvTables:
    """The two tables of a results folder, in as many passes as one likes."""

    results: Path
    names: Sequence[str]
    dest: Path
    problems: list[InputError] = field(default_factory=list)
    """What the last pass could not read."""
    is_over: bool = False
    """Whether the last pass found every trial done, failed or pruned."""

    def run(self) -> Written:
        """Raises InputError where nothing can be read, OSError."""
        self.problems = []
        written, heads, logged = Written(), [], dict[str, None]()
        # Once for the names of all columns, once for the rows: together they may be large.
        for trial, points in self._trials(self.problems):
            heads.append(_head(trial))
            logged.update((name, None) for point in points for name in point)
            written.rows += len(points)
        self.is_over = all(head["state"] in ("done", "failed", "pruned") for head in heads)
        written.trials = len(heads)
        rows = (
            {"sweep": trial.sweep, "trial": trial.name, **point}
            for trial, points in self._trials([])
            for point in points
        )
        heading = list(dict.fromkeys(name for head in heads for name in head))
        for file, text in (
            (TRIALS, _csv(sorted(heading, key=_rank), heads)),
            (METRICS, _csv(["sweep", "trial", *logged], rows)),
        ):
            written.changed += _put(self.dest / file, text.encode())
        return written

    def _trials(
        self, problems: list[InputError]
    ) -> Iterator[tuple[Trial, list[Mapping[str, Any]]]]:
        for sweep, planned in by_sweep(self.results, self.names, problems).items():
            for trial in read(self.results / sweep, planned, problems):
                try:
                    yield trial, [point.values for point in trial.points()]
                except InputError as problem:
                    problems.append(problem)


def _head(trial: Trial) -> dict[str, Any]:
    config = {f"config.{name}": value for name, value in trial.config.items()}
    results = {RESULT + name: value for name, value in trial.results.items()}
    return {**trial.labels, **config, **results}


def _rank(name: str) -> int:
    """Whose it is, then the configuration, then the results."""
    return 2 if name.startswith(RESULT) else int(name.startswith("config."))


def _csv(names: list[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(csv_cell, names))
    for row in rows:
        writer.writerow(_cell(row.get(name)) for name in names)
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, bool | int | float) else csv_cell(str(value))


def _put(path: Path, content: bytes) -> bool:
    """Write the file where it does not hold this already; whether it was written."""
    try:
        if read_file(path) == content:
            return False
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, lambda file: file.write(content))
    return True
