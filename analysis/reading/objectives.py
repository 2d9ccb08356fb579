"""What finished trials of any task have by their launch's objective, whatever they were run for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from analysis.reading.launches import Launch
from local_machine.errors import InputError
from trial_records import tables
from trial_records.metrics import OBJECTIVE, objective


def of_launch(
    folder: Path,
    launch: Launch,
    runs: pd.DataFrame,
    logged: pd.DataFrame,
    problems: list[InputError],
) -> pd.DataFrame:
    """The runs, with the column `objective` by the launch's. The definition may have had another
    one when a trial was run; then it follows from what the trial logged and returned."""
    task = launch.file.task
    mine = runs["trial"].isin([trial.name for trial in launch.trials])
    if launch.is_trainers or task.metric is None or not mine.any():
        return runs
    same = runs["objective"].notna()
    for name, wanted in zip(OBJECTIVE, task.objective, strict=True):
        same &= runs[name].eq(str(wanted))
    others = runs[mine & ~same]
    rows = logged[logged["metric"] == task.metric].groupby("trial")["value"].agg(list).to_dict()
    found = runs["objective"].astype(float)
    for place, run in zip(others.index, others.to_dict("records"), strict=True):
        name = str(run["trial"])
        values = [{task.metric: value} for value in rows.get(name, ())]
        returned = _run(folder / name, str(run["fingerprint"]), task.reduction, problems)
        found[place] = objective(returned, values.copy, task.metric, task.direction, task.reduction)
    return runs.assign(objective=found)


def _run(
    trial: Path, fingerprint: str, reduction: str, problems: list[InputError]
) -> dict[str, Any]:
    """What the trial returned, where the objective is of that."""
    if reduction != "final":
        return {}
    try:
        return tables.read_run(trial, fingerprint)
    except FileNotFoundError:
        return {}
    except InputError as error:
        problems.append(error)
        return {}
