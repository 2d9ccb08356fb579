"""One pass of an export: what is new in a results folder is added to the destination."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from analysis.export import exported
from analysis.export.exported import Mark
from analysis.export.target import Target
from analysis.export.trial import Point, Trial, by_sweep, read
from local_machine.errors import InputError
from local_machine.terminal import counted
from trial_records.plan import PlannedTask, PlannedTrial


@dataclass
class Counts:
    """What became of the trials of a pass."""

    new: int = 0
    grown: int = 0
    replaced: int = 0  # they did not only grow: a trial was trained again, an export broken off
    unchanged: int = 0
    not_begun: int = 0
    rows: int = 0  # that were written

    @property
    def changed(self) -> int:
        return self.new + self.grown + self.replaced

    def in_words(self) -> str:
        kinds = {name.replace("_", " "): number for name, number in asdict(self).items()}
        rows = kinds.pop("rows")
        words = (f"{number} {kind}" for kind, number in kinds.items())
        return f"trials: {', '.join(words)}; rows written: {rows}"


class _Change(NamedTuple):
    """What is to be written of a trial: its points from number `since` on, 0 for all of it."""

    points: Sequence[Point]
    since: int
    mark: Mark


@dataclass
class Transfer:
    """From a results folder to a destination, in as many passes as one likes."""

    results: Path
    names: Sequence[str]
    dest: Path
    tool: str
    target: Target
    problems: list[InputError] = field(default_factory=list)
    """What the last pass could not read."""
    is_over: bool = False
    """Whether the last pass found every trial done, failed or pruned."""
    _settled: set[tuple[str, str]] = field(default_factory=set)
    """Sweep and name of the trials that are done and exported: no pass looks at them again."""

    def run(self) -> Counts:
        """Raises InputError where nothing can be read, or the tool refuses; OSError."""
        self.problems, self.is_over = [], True
        counts = Counts()
        for sweep, planned in by_sweep(self.results, self.names, self.problems).items():
            self._sweep(sweep, planned, counts)
        return counts

    def _sweep(
        self, sweep: str, planned: Sequence[tuple[PlannedTrial, PlannedTask]], counts: Counts
    ) -> None:
        left = [one for one in planned if (sweep, one[0].name) not in self._settled]
        counts.unchanged += len(planned) - len(left)
        marks = exported.read(self.dest, sweep, self.tool) if left else {}
        is_written = False
        try:
            trials = read(self.results / sweep, left, self.problems)
            for trial in counted(trials, len(left), "exported {} of {} trials"):
                self.is_over &= trial.is_over
                try:
                    change = self._change(trial, marks.get(trial.name), counts)
                except InputError as problem:
                    self.problems.append(problem)
                    continue
                if change is None:
                    continue
                # From here until all marks are written, this trial has none.
                if marks.pop(trial.name, None) is not None:
                    exported.write(self.dest, sweep, self.tool, marks)
                if not change.since:
                    self.target.remove(trial)
                self.target.write(trial, change.points, change.since)
                counts.rows += len(change.points) - change.since
                marks[trial.name] = change.mark
                is_written = True
        finally:
            if is_written:
                exported.write(self.dest, sweep, self.tool, marks)

    def _change(self, trial: Trial, mark: Mark | None, counts: Counts) -> _Change | None:
        """None where nothing is new. Raises InputError where a file of the trial is damaged."""
        if trial.state == "not begun":
            counts.not_begun += 1
            return None
        has = self.target.has(trial)
        if not has:
            mark = None
        if mark is not None and mark.was_done and mark.end == trial.end:
            self._settled.add((trial.sweep, trial.name))
            counts.unchanged += 1
            return None
        points = trial.points()
        now = Mark.of(trial, points)
        if mark == now:
            counts.unchanged += 1
            return None
        if mark is not None and mark.begins(trial, points):
            counts.grown += 1
            return _Change(points, mark.rows if self.target.appends else 0, now)
        counts.replaced += has
        counts.new += not has
        return _Change(points, 0, now)
