"""What any task measures: names of metrics, and the columns that a finished trial has of them.

run.parquet of a task that is not the project's trainer has, beside the columns of every task's run,
`config.F` for each field of the configuration, `best.M` and `last.M` of the rows that were logged,
and `final.M` of what the task returned. The prefixes keep a metric `lr` and a field `lr` apart.
Imports no pyarrow: rows are checked when they are logged.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from local_machine.errors import InputError, printable
from trial_records.fields.sections import flat_of

# The columns by which each file of a trial says whose it is.
NAMED = ("task", "sweep", "trial", "fingerprint")
# What names a row's step, in this order in epochs.parquet.
STEPS = ("epoch", "step")
NAME_LENGTH = 200
# The columns of run.parquet that say which objective the trial was run for.
OBJECTIVE = ("objective_metric", "objective_direction", "objective_reduction")
# How the columns of what the task returned begin.
FINAL = "final."

Row = Mapping[str, Any]


def check_metric_name(name: object) -> None:
    """Raises InputError for what cannot be a metric's name: it becomes a column of epochs.parquet,
    and is shown in terminals and reports."""
    if not isinstance(name, str):
        raise InputError(
            f"a metric is named by a {type(name).__name__}",
            'name it by a text: run.log(**{"1": x})',
        )
    shown = printable(name[:NAME_LENGTH], keep="")
    if not name or len(name) > NAME_LENGTH or shown != name:
        raise InputError(
            f"a metric is called {shown!r}",
            f"give it a name of 1 to {NAME_LENGTH} printable characters",
        )
    if name.lower() in NAMED:
        raise InputError(
            f"a metric is called {name!r}, as is the column that says whose the row is",
            f"give it another name: {name}_value",
        )


def whose(trial: Path, fingerprint: str, task: str) -> dict[str, str]:
    """The columns NAMED of the files of a trial's folder, RESULTS/SWEEP/TRIAL."""
    folder = Path(os.path.abspath(trial))  # noqa: PTH100 - a link stays as it is named
    return dict(zip(NAMED, (task, folder.parent.name, folder.name, fingerprint), strict=True))


def configured(values: Row) -> dict[str, Any]:
    """The columns of a trial's run that are its configuration, of stored values."""
    return {f"config.{name}": value for name, value in flat_of(values).items()}


def measured(
    rows: Sequence[Row],
    returned: Row | None,
    metric: str,
    direction: Literal["maximize", "minimize"],
    reduction: Literal["best", "last", "final"],
) -> dict[str, Any]:
    """The columns of a trial's run that follow from its rows and from what its task returned.

    `best.M` are the values of one row, the first whose `metric` is the best; `last.M` is the last
    value of each metric. `objective` is None where no row, or nothing that was returned, has it,
    and NaN where it is only NaN there.
    """
    best = best_row(rows, metric, direction)
    last: dict[str, Any] = {}
    for row in rows:
        last |= {name: value for name, value in row.items() if value is not None}
    source: Row = {"best": best, "last": last, "final": returned or {}}[reduction]
    found = source.get(metric)
    return {
        "objective": float(found) if isinstance(found, int | float) else None,
        "objective_metric": metric,
        "objective_direction": direction,
        "objective_reduction": reduction,
        **{f"best.{name}": value for name, value in best.items()},
        **{f"last.{name}": value for name, value in last.items()},
        **{f"{FINAL}{name}": value for name, value in (returned or {}).items()},
    }


def objective(
    run: Row,
    rows: Callable[[], Sequence[Row]],
    metric: str,
    direction: Literal["maximize", "minimize"],
    reduction: Literal["best", "last", "final"],
) -> float | None:
    """The value of a finished trial by an objective: as its run says it, or again where it was run
    for another one, which is not part of what a trial is.

    `run` is the row of its run.parquet; `rows` reads what it logged, where that is needed. None
    where the trial measured nothing of the name.
    """
    told = tuple(run.get(name) for name in OBJECTIVE)
    if told == (metric, direction, reduction) and isinstance(run.get("objective"), int | float):
        return float(run["objective"])
    final = {name.removeprefix(FINAL): run[name] for name in run if name.startswith(FINAL)}
    logged = () if reduction == "final" else rows()
    found = measured(logged, final, metric, direction, reduction)["objective"]
    return None if found is None else float(found)


def best_row(rows: Iterable[Row], metric: str, direction: str) -> Row:
    """The first row with the best value of the metric; NaN is worse than any number. Empty where
    no row has it."""
    sign = 1 if direction == "maximize" else -1

    def worth(row: Row) -> tuple[bool, float]:
        value = row[metric]
        return (False, 0) if math.isnan(value) else (True, sign * value)

    having = (row for row in rows if isinstance(row.get(metric), int | float))
    return max(having, key=worth, default={})
