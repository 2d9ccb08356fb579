"""From a launch and its trials' records to the one frame of `Plan.runs`."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from typing import Any

import pandas as pd

from analysis.data import dataset
from analysis.data.progress import Progress
from analysis.data.search_space import Search
from analysis.data.study import OWN, POINT, Plan
from analysis.data.task import Task
from analysis.reading.launches import Launch
from analysis.reading.unfinished import Ends
from analysis.stats import outliers, same_results
from local_machine.secrets import masked_command, masked_values
from trial_records.config import ADDED, flat_of
from trial_records.metrics import OBJECTIVE
from trial_records.verified import Exactness

# Columns of the tables beside a point's axes, which an axis of another version may be called.
_TABLES = frozenset(
    {
        "train", "train sd", "train clean", "train clean sd", "validation", "validation sd", "test",
        "test sd", "test unflagged", "n", "planned", "images", "flags", "minutes", "trial", "order",
        "mark", "value", "x", "point", "model", "asked", "reported", "difference", "accuracy",
        "state", "failure", "fingerprint", "axis", "mean", "mean sd", "from", "to",
    }
)  # fmt: skip
# The kinds of a field's values, by that of its default.
_KINDS: dict[type, set[type]] = {
    bool: {bool},
    int: {int},
    float: {int, float},
    str: {str},
    type(None): {type(None), int, str, float},  # pandas makes floats of whole numbers and None
}


# What a run says of its images where nobody knows whether it has seen any.
_NO_DATA = pd.DataFrame({"data": [""], "data_set": [""], "same_data": [True]})


def plan_of(
    sweep: str,
    launch: Launch,
    runs: pd.DataFrame,
    rows: tuple[pd.DataFrame, pd.DataFrame],
    progress: Progress,
    ends: Ends,
    said: Mapping[str, Exactness],
    task: Task,
) -> Plan:
    """The launch, whose trials' records are among `runs` and `rows`, the epochs of the trainer's
    and what others logged; `progress` has the trials that have no usable record, and `said` is what
    may be said of the exactness of some, by name."""
    names = [trial.name for trial in launch.trials]
    points = [{_axis(axis): v for axis, v in trial.point.items()} for trial in launch.trials]
    found = [*map(_axis, launch.file.axes), *(axis for point in points for axis in point)]
    axes = list(dict.fromkeys(found))
    columns: dict[str, Any] = {"trial": names}
    columns |= {POINT + axis: _column([point.get(axis) for point in points]) for axis in axes}
    outcomes = runs.set_index(runs["trial"].astype(object)).drop(
        columns=["trial", "fingerprint", *OBJECTIVE]
    )
    taken = {"fingerprint", *OWN, *outcomes, *columns}
    today = task.defaults if launch.is_trainers else {}
    if not launch.is_trainers:  # whatever its field is called
        columns["seed"] = _column([_seed(launch, trial.config) for trial in launch.trials])
        taken |= {"seed", "data", "data_set", "same_data"}
    configs = _configs([trial.config for trial in launch.trials], taken, today)
    frame = pd.concat(
        [
            pd.DataFrame(columns),
            pd.DataFrame({"fingerprint": [trial.fingerprint for trial in launch.trials]}),
            outcomes.reindex(names).reset_index(drop=True),
            configs,
        ],
        axis=1,
    )
    of_data = dataset.columns(frame, task.data_sets) if launch.is_trainers else _NO_DATA
    frame = pd.concat([frame, of_data.reindex(frame.index, method="ffill")], axis=1)
    epochs, logged = (one[one["trial"].isin(names)].reset_index(drop=True) for one in rows)
    return Plan(
        sweep=sweep,
        id=launch.id,
        scale=launch.file.scale,
        overrides=masked_values(launch.file.overrides),
        axes=axes,
        seeds=launch.file.seeds,
        created=launch.file.created,
        command=masked_command(launch.file.command),
        runs=_judged(frame, axes, (epochs, logged), progress, ends, said, launch),
        epochs=epochs,
        search=_search(launch),
        fields=tuple(configs.columns),
        is_of_today=launch.is_trainers and _is_of_today(configs, task),
        task=launch.file.task,
        logged=logged,
        progress=progress,
    )


def _search(launch: Launch) -> Search | None:
    """With its axes as the tables call them."""
    if launch.search is None:
        return None
    space = {_axis(key): one for key, one in launch.search.space.items()}
    return launch.search.model_copy(update={"space": space})


def _judged(
    frame: pd.DataFrame,
    axes: list[str],
    rows: tuple[pd.DataFrame, pd.DataFrame],
    progress: Progress,
    ends: Ends,
    said: Mapping[str, Exactness],
    launch: Launch,
) -> pd.DataFrame:
    """With what became of each trial, equal results, flags, and why one has no result."""
    names = frame["trial"]
    axis_values = frame[[POINT + axis for axis in axes]].set_axis(axes, axis="columns")
    epochs, logged = rows
    stands = progress.states(names)
    frame["state"] = frame["status"].astype(object).where(frame["status"].notna(), stands)
    # What a search prunes is its result; for whoever else planned the trial it is a hole.
    own = {name for name, (by, _) in ends.pruned.items() if launch.search and by == launch.id}
    told = ends.failures | {
        name: ("PRUNED", sentence) for name, (_, sentence) in ends.pruned.items() if name not in own
    }
    frame["result"] = (
        outliers.results(frame, axis_values, epochs)
        if launch.is_trainers
        else same_results.results(frame, axis_values, logged, launch.file.task.metric)
    )
    frame["repeated"] = outliers.repeated(frame)
    words = [said.get(name) for name in names]
    frame["exactness"] = [one.word if one else "" for one in words]
    frame["contradicted"] = [one is not None and one.is_contradicted for one in words]
    flags = outliers.flags(frame, axis_values, told, is_trainers=launch.is_trainers)
    frame["flags"] = [
        [] if name in own else codes for name, codes in zip(names, flags, strict=True)
    ]
    differing = {name: one.words for name, one in said.items() if one.is_contradicted}
    frame["failure"] = [told.get(name, ("", differing.get(name, "")))[1] for name in names]
    return frame


def _seed(launch: Launch, values: dict[str, Any]) -> Any:
    """None where the task has no seed."""
    return flat_of(values).get(launch.file.task.seed or "")


def _axis(name: str) -> str:
    """The axis as the tables call it, which have columns of their own."""
    return f"config.{name}" if name in _TABLES else name


def _configs(
    configs: list[dict[str, Any]], taken: Container[str], today: Mapping[str, Any]
) -> pd.DataFrame:
    """Every field of today's configuration and every other that is stored, a row each; one that
    bears the name of an outcome is called `config.<name>`. By the column, in a tenth of the time.
    """
    flat = [flat_of(values) for values in configs]
    names = dict.fromkeys([*today, *(name for one in flat for name in one)])
    return pd.DataFrame(
        {
            f"config.{name}" if name in taken else name: _column(
                [one.get(name, ADDED.get(name) if today else None) for one in flat]
            )
            for name in names
        }
    )


def _is_of_today(configs: pd.DataFrame, task: Task) -> bool:
    return all(
        set(map(type, configs[name])) <= _KINDS[type(value)]
        and (value is None or configs[name].notna().all())
        for name, value in task.defaults.items()
    )


def _column(values: list[Any]) -> list[Any]:
    """Values as they can be grouped by and sorted: texts where some are texts and some numbers."""
    if any(isinstance(value, list | dict) for value in values):
        values = [_value(value) for value in values]
    if len({isinstance(value, str) for value in values if value is not None}) < 2:
        return values
    return [value if value is None else str(value) for value in values]


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
