"""Trials as an export sees them: read from the records that a report reads, and verified alike."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from analysis.reading import launches
from local_machine import clock
from local_machine.errors import InputError, nearest
from trial_records import rows, tables
from trial_records.config import flat_of
from trial_records.metrics import NAMED
from trial_records.plan import PlannedTask, PlannedTrial
from trial_records.trial_files import EPOCHS, Failure, Pruned

State = Literal["done", "failed", "pruned", "unfinished", "not begun"]

# Of run.parquet, what tells where a result comes from.
ORIGIN = (
    "device", "git_commit", "git_dirty", "code_sha256", "torch_version", "python_version",
    "finished_at", "shared_from",
)  # fmt: skip


class Point(NamedTuple):
    """A row that a trial logged, and its place on the axis of steps."""

    step: int
    values: Mapping[str, Any]

    @property
    def numbers(self) -> dict[str, float]:
        """What a tool for metrics can hold: bools are 0 and 1, texts are left out."""
        return _numbers(self.values)


@dataclass(frozen=True)
class Trial:
    """A planned trial and what it left. `run` is the row of its run.parquet, empty before it is
    done."""

    folder: Path
    planned: PlannedTrial
    task: PlannedTask
    state: State
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sweep(self) -> str:
        return self.folder.parent.name

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "pruned")

    @functools.cached_property
    def config(self) -> dict[str, Any]:
        """The configuration as it is stored, by dotted names."""
        return flat_of(self.planned.config)

    @property
    def labels(self) -> dict[str, str]:
        """Whose it is, how it stands and where its result comes from."""
        origin = {name: str(self.run[name]) for name in ORIGIN if self.run.get(name) is not None}
        return {
            "sweep": self.sweep,
            "trial": self.name,
            "fingerprint": self.planned.fingerprint,
            "task": self.task.name,
            "state": self.state,
            **origin,
        }

    @property
    def results(self) -> dict[str, float]:
        """Every number of run.parquet that is not the configuration's; none before it is done."""
        left_out = {*self.config, *ORIGIN, *NAMED, "seed"}
        return {
            name: value
            for name, value in _numbers(self.run).items()
            if name not in left_out and not name.startswith("config.")
        }

    @property
    def end(self) -> str:
        """What changes when the trial's state or its result does."""
        return f"{self.state} {self.run.get(tables.OF_ROW) or ''}".rstrip()

    @property
    def ended(self) -> float:
        """Seconds since 1970: when it was done, as its record says; else now."""
        try:
            return datetime.fromisoformat(str(self.run.get("finished_at"))).timestamp()
        except (ValueError, OverflowError):
            return clock.now()

    @property
    def began(self) -> float:
        """`ended` without the seconds that training took."""
        seconds = self.run.get("seconds")
        if not isinstance(seconds, int | float) or not math.isfinite(seconds):
            return self.ended
        return self.ended - seconds

    def points(self) -> list[Point]:
        """What it logged. Of an attempt that may still run, without a last row that it may add to.

        Raises InputError where a file is damaged.
        """
        try:
            if self.run:
                digest = self.run.get(tables.DIGESTS[EPOCHS])
                return _placed(tables.read_epochs(self.folder, digest).to_pylist())
            found = rows.read(self.folder)
        except FileNotFoundError:
            return []
        if found and not found[-1].committed and not self.is_over:
            found.pop()
        return _placed([row.values for row in found])


def _placed(logged: Sequence[Mapping[str, Any]]) -> list[Point]:
    """The rows with their steps: the values of `step` or `epoch` where these are whole numbers that
    rise from row to row, else counted from 0."""
    steps = next((found for name in ("step", "epoch") if (found := _rising(logged, name))), None)
    given = [{key: value for key, value in row.items() if value is not None} for row in logged]
    return list(map(Point, steps or range(len(given)), given))


def _rising(logged: Sequence[Mapping[str, Any]], name: str) -> list[int] | None:
    values = [row.get(name) for row in logged]
    whole = [value for value in values if type(value) is int and 0 <= value < 2**62]
    rises = all(a < b for a, b in itertools.pairwise(whole))
    return whole if len(whole) == len(values) and rises else None


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(one) for name, one in values.items() if isinstance(one, int | float)}


def digest(points: Sequence[Point]) -> str:
    """Of what was logged: equal for rows of the log and of epochs.parquet."""
    lines = (f"{one.step} {sorted(one.numbers.items())!r}\n" for one in points)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def by_sweep(
    results: Path, names: Sequence[str], problems: list[InputError]
) -> dict[str, list[tuple[PlannedTrial, PlannedTask]]]:
    """The planned trials of the named sweeps, of all where `names` is empty; each once, those of
    the first plan first. A plan that cannot be read is added to the problems.

    Raises InputError where the folder is missing or holds no plan, and for an unknown name.
    """
    paths = launches.paths(results, problems)
    for name in names:
        if name not in paths:
            raise InputError(f"{results} has no plan of a sweep {name!r}", nearest(name, paths))
    found = {}
    for name in dict.fromkeys(names or sorted(paths)):
        plans = []
        for path in paths[name]:
            try:
                plans.append(launches.read(path))
            except InputError as problem:
                problems.append(problem)
            except FileNotFoundError:
                continue  # moved away meanwhile
        plans.sort(key=lambda plan: (plan.file.created, plan.id))
        planned = [(trial, plan.file.task) for plan in plans for trial in plan.trials]
        found[name] = list({trial.name: (trial, task) for trial, task in planned}.values())
    return found


def read(
    folder: Path,
    planned: Sequence[tuple[PlannedTrial, PlannedTask]],
    problems: list[InputError],
) -> Iterator[Trial]:
    """The trials of a sweep's folder. One with a damaged file is added to the problems, and is left
    out."""
    for trial, task in planned:
        try:
            yield _read(folder / trial.name, trial, task)
        except InputError as problem:
            problems.append(problem)


def _read(folder: Path, planned: PlannedTrial, task: PlannedTask) -> Trial:
    try:
        run = tables.read_run(folder, planned.fingerprint)
    except FileNotFoundError:
        return Trial(folder, planned, task, _state(folder))
    return Trial(folder, planned, task, "done", run)


def _state(folder: Path) -> State:
    if Pruned.read(folder) is not None:
        return "pruned"
    if Failure.read(folder) is not None:
        return "failed"
    has_rows = (folder / EPOCHS).exists() or rows.attempt_files(folder)
    return "unfinished" if has_rows else "not begun"
