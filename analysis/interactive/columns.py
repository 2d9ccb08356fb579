"""Columns: what a launch's table of trials and its parallel coordinates show, packed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.data.search_space import Range
from analysis.data.study import POINT, Plan
from analysis.interactive import packed
from analysis.interactive.rows import LoggedRows
from local_machine.secrets import masked_values

# From this ratio on, numbers are drawn by their logarithm where no search says what it did.
_LOG_RATIO = 50
_OUTCOMES = ("val_loss", "test_accuracy", "train_accuracy")
# Metrics of any other task, whose names nobody knows.
_MOST_LAST = 8


@dataclass(frozen=True)
class Column:
    """`role`: "axis" (the launch varies it), "objective", "metric", "field" (differs between its
    trials, though no axis) or "about". Empty cells are None or NaN."""

    name: str
    role: str
    values: pd.Series[Any]
    log: bool = False

    def packed(self) -> dict[str, Any]:
        """Numbers as they are; of all else each text once, and its place from 1, 0 for none."""
        said: dict[str, Any] = {"name": self.name, "role": self.role}
        if is_numeric(self.values):
            numbers = pd.to_numeric(self.values).to_numpy(np.float64, na_value=np.nan)
            return said | {"log": self.log, "numbers": packed.array(numbers)}
        codes, words = pd.factorize(_texts(self.values))
        places = packed.array((codes + 1).astype(np.uint32))
        return said | {"words": packed.texts(list(words)), "codes": places}


def columns(plan: Plan, rows: LoggedRows) -> list[Column]:
    """Those of all trials of the launch, in the order of its trials; each name once."""
    found: dict[str, Column] = {}
    for column in _all(plan, rows):
        if column.name not in found:
            found[column.name] = column
    return list(found.values())


def _all(plan: Plan, rows: LoggedRows) -> Iterator[Column]:
    runs = plan.runs
    yield Column("state", "about", runs["state"])
    for axis in varied(plan):
        values = _masked(axis, runs[POINT + axis])
        yield Column(axis, "axis", values, _is_log(plan, axis, values))
    yield from _metrics(plan, rows)
    if runs["seed"].nunique() > 1:
        yield Column("seed", "about", runs["seed"])
    yield Column(f"last {rows.by}", "about", rows.last_at(list(runs["trial"])))
    yield Column("seconds", "about", runs["seconds"])
    yield Column("flags", "about", runs["flags"].map(lambda codes: ", ".join(codes) or None))
    for name in plan.fields:
        if runs[name].nunique(dropna=False) > 1 and name != plan.task.seed:
            values = _masked(name, runs[name])
            yield Column(name, "field", values, _is_log(plan, name, values))


def varied(plan: Plan) -> list[str]:
    """The axes with more than one value."""
    return [axis for axis in plan.axes if plan.runs[POINT + axis].nunique(dropna=False) > 1]


def objective_of(plan: Plan) -> pd.Series[Any] | None:
    """What the launch's trials are ranked by; None where the task names nothing."""
    if plan.is_trainers:
        return plan.runs["val_accuracy"].astype(float)
    return None if plan.task.metric is None else plan.runs["objective"].astype(float)


def ranked(plan: Plan) -> list[int]:
    """Places of the trials, best first; those without a value last, in the plan's order."""
    values = objective_of(plan)
    if values is None:
        return list(range(len(plan.runs)))
    up = plan.task.direction == "minimize"
    order = values.reset_index(drop=True).sort_values(ascending=up, kind="stable")
    return [int(place) for place in order.index]


def _metrics(plan: Plan, rows: LoggedRows) -> Iterator[Column]:
    values = objective_of(plan)
    if values is not None:
        yield _metric(str(plan.task.metric), "objective", values)
    if plan.is_trainers:
        for name in _OUTCOMES:
            if plan.runs[name].notna().any():
                yield _metric(name, "metric", plan.runs[name].astype(float))
        for name in dict.fromkeys(plan.logged["metric"] if len(plan.logged) else ()):
            yield _metric(f"last {name}", "metric", rows.last(name, list(plan.runs["trial"])))
        return
    is_last = plan.task.reduction == "last"
    for name in rows.metrics[:_MOST_LAST]:
        if is_last and name == plan.task.metric:
            continue
        yield _metric(f"last {name}", "metric", rows.last(name, list(plan.runs["trial"])))


def _metric(name: str, role: str, values: pd.Series[Any]) -> Column:
    return Column(name, role, values, _is_wide(values))


def is_numeric(values: pd.Series[Any]) -> bool:
    """Whether all known values are numbers; true where none is known."""
    if isinstance(values.dtype, pd.CategoricalDtype) or pd.api.types.is_bool_dtype(values):
        return False
    kinds = set(map(type, values.dropna()))
    return all(issubclass(kind, int | float | np.number) and kind is not bool for kind in kinds)


def _texts(values: pd.Series[Any]) -> pd.Series[Any]:
    return values.astype(object).map(lambda value: None if pd.isna(value) else str(value))


def _masked(name: str, values: pd.Series[Any]) -> pd.Series[Any]:
    if is_numeric(values):
        return values
    return values.astype(object).map(lambda value: masked_values({name: value})[name])


def _is_log(plan: Plan, axis: str, values: pd.Series[Any]) -> bool:
    """As a search says; else where the values span so much that most of them would coincide."""
    space = plan.search.space.get(axis) if plan.search else None
    if isinstance(space, Range):
        return space.log
    return is_numeric(values) and _is_wide(values)


def _is_wide(values: pd.Series[Any]) -> bool:
    numbers = pd.to_numeric(values).to_numpy(np.float64, na_value=np.nan)
    numbers = numbers[np.isfinite(numbers)]
    return bool(len(numbers) and numbers.min() > 0 and numbers.max() / numbers.min() >= _LOG_RATIO)
