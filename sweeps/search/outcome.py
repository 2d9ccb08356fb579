"""What a finished trial is told as: its value by the search's objective."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from local_machine.errors import InputError
from sweeps.spec.sweep import Search
from sweeps.task import Objective
from trial_records import tables
from trial_records.metrics import FINAL, objective
from trial_records.trial_files import EPOCHS, RUN


class NoMetricError(InputError):
    """A finished trial measured nothing of the objective's name."""


class NotFiniteError(InputError):
    """A finished trial's value is NaN or infinite."""


class Outcome(NamedTuple):
    value: float
    val_images: int | None
    """How many images an accuracy of the trainer is of."""


def outcome(search: Search, folder: Path, fingerprint: str) -> Outcome:
    """Raises InputError where its files are damaged or its value is not a finite number, and
    NoMetricError where it has none."""
    run, goal = tables.read_run(folder, fingerprint), search.goal
    if search.is_trainers:
        column = "val_accuracy_last" if goal.reduction == "last" else "val_accuracy"
        tables.check_measured(folder / RUN, run, [column])
        return Outcome(float(run[column]), run["val_images"])
    return Outcome(value_of(run, folder, goal), None)


def value_of(run: Mapping[str, Any], folder: Path, goal: Objective) -> float:
    """A finished trial's value by an objective; `run` is the row of its run.parquet. Raises
    NoMetricError where it has none, NotFiniteError, and InputError where its rows are damaged."""

    def rows() -> list[dict[str, Any]]:
        digest = run.get(tables.DIGESTS[EPOCHS])
        found: list[dict[str, Any]] = tables.read_epochs(folder, digest).to_pylist()
        return found

    value = objective(run, rows, goal.metric, goal.direction, goal.reduction)
    if value is not None and math.isfinite(value):
        return value
    if value is not None:
        raise NotFiniteError(f"{folder.name}: its {goal.metric} is {value}", "see its rows")
    if goal.reduction == "final":
        final = {name.removeprefix(FINAL): run[name] for name in run if name.startswith(FINAL)}
        found, what = _named(final.items()), f"train returned no {goal.metric!r}; it returned"
    else:
        found = _named(item for row in rows() for item in row.items())
        what = f"no row has the metric {goal.metric!r}; the rows have"
    raise NoMetricError(
        f"{folder.name}: {what} {', '.join(found) or 'nothing'}",
        "correct the objective, and start the search over (what is done is not trained again)",
    )


def _named(items: Iterable[tuple[str, Any]]) -> list[str]:
    """The names of the numbers among them."""
    return list(dict.fromkeys(name for name, value in items if isinstance(value, int | float)))
