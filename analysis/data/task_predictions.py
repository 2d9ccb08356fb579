"""Predictions of any task: what a finished trial said of the examples that its task chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.data.class_names import parse
from analysis.data.predictions import Predictions, logits_of, read_once
from analysis.data.study import Plan, Study
from trial_records import tables
from trial_records.columns import VALUES_SCHEMA
from trial_records.trial_files import PREDICTIONS, RUN, unusable

DIGEST = tables.DIGESTS[PREDICTIONS]


@dataclass(frozen=True, eq=False)
class PredictedClasses:
    """A row an example, in the order in which the task gave them."""

    trial: str
    labels: NDArray[np.int64]  # (n,)
    predicted: NDArray[np.int64]  # (n,)
    classes: tuple[str, ...]

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """(n,)"""
        found: NDArray[np.bool_] = self.predicted == self.labels
        return found


@dataclass(frozen=True, eq=False)
class PredictedValues:
    """As `PredictedClasses`, of numbers; both are finite."""

    trial: str
    targets: NDArray[np.float64]  # (n,)
    values: NDArray[np.float64]  # (n,)


TaskPredictions = Predictions | PredictedClasses | PredictedValues


def of(study: Study, plan: Plan, run: Mapping[str, Any]) -> TaskPredictions | None:
    """`read` for a row of `plan.runs`; a file that cannot be used becomes one of the study's
    problems, and None."""
    found: TaskPredictions | None = read_once(study, plan, run, read)
    return found


def read(folder: Path, run: Mapping[str, Any]) -> TaskPredictions:
    """What the trial's predictions.parquet says, whatever the order of its rows.

    `run` is a row of Plan.runs that has the digest of such a file. Raises InputError where the file
    is gone, damaged, of another version or not of the run's classes. It is left in place.
    """
    path = folder / PREDICTIONS
    try:
        table = tables.read_predictions(folder)
    except FileNotFoundError:
        raise unusable(path, f"is not there, and {RUN} has its digest") from None
    index = table["index"].to_numpy()
    # The trainer's are places in its test set, of which a trial may have a part.
    is_trainers = table.schema.equals(tables.PREDICTIONS_SCHEMA)
    counted = np.unique(index) if is_trainers else np.arange(len(index))
    if not len(index) or not np.array_equal(np.sort(index), counted):
        raise unusable(path, "has an index that does not count its rows from 0")
    table = table.take(np.argsort(index))
    trial = str(run["trial"])
    if table.schema.equals(VALUES_SCHEMA):
        found = PredictedValues(trial, table["target"].to_numpy(), table["value"].to_numpy())
        if not (np.isfinite(found.targets).all() and np.isfinite(found.values).all()):
            raise unusable(path, "has values that are not finite")
        return found
    classes = parse(run["classes"])
    labels = _places(path, table, "label", classes)
    if "predicted" in table.column_names:
        return PredictedClasses(trial, labels, _places(path, table, "predicted", classes), classes)
    logits = logits_of(table["logits"].combine_chunks(), len(classes))
    if logits is None:
        raise unusable(path, f"does not have the logits of {len(classes)} classes in every row")
    if not np.isfinite(logits).all():
        raise unusable(path, "has logits that are missing or not finite")
    return Predictions(trial, np.arange(len(index), dtype=np.int32), labels, logits, classes)


def _places(path: Path, table: pa.Table, name: str, classes: tuple[str, ...]) -> NDArray[np.int64]:
    found: NDArray[np.int64] = table[name].to_numpy().astype(np.int64)
    if ((found < 0) | (found >= len(classes))).any():
        raise unusable(path, f"has a {name} that is none of the {len(classes)} classes of {RUN}")
    return found
